"""The table, the report and the command of a sweep, in its folder."""

from collections.abc import Sequence

from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.run.directory import RunDirectory
from raydrgn.run.metrics import epoch_rows
from raydrgn.sweep.figures import curves, parallel_coordinates, scores_by_setting
from raydrgn.sweep.ranking import (
    LONGER,
    difference,
    longer_command,
    predicts_nothing,
    ranked,
    table,
)
from raydrgn.sweep.record import TrialRecord
from raydrgn.sweep.space import SearchSpace
from raydrgn.wording import counted

TABLE, REPORT, COMMAND = "trials.csv", "report.html", "train_best.sh"

EXPLAINED = (
    "The score is a mean over images, with its standard error. below_best is how much lower it is "
    "than that of the first trial, image by image, which is known better than the scores "
    "themselves; trials that are below by less than two of its standard errors are as good as the "
    "best."
)


def write_sweep(
    root: Uri,
    space: SearchSpace,
    trials: Sequence[TrialRecord],
    *,
    title: str,
    fresh_command: str,
) -> None:
    """Write what a reader of the folder wants.

    Args:
        root: Folder of the sweep.
        space: Settings that were searched.
        trials: All of them; at least one has finished.
        title: What the score is.
        fresh_command: Trains the best settings on all particles.
    """
    head, rows = table(space, trials)
    cells = [[_cell(value) for value in row] for row in rows]
    lines = "".join(",".join(row) + "\n" for row in (head, *cells))
    storage.write_bytes(storage.join(root, TABLE), lines.encode())
    command = longer_command(root, ranked(trials)[0])
    storage.write_bytes(storage.join(root, COMMAND), f"#!/bin/sh\n{command}\n".encode())
    write_report(
        storage.join(root, REPORT),
        title=f"Sweep {root}",
        summary=summary(space, trials, title=title),
        sections=[
            Section(title="Trials", text=EXPLAINED, tables=[ReportTable(head=head, rows=cells)]),
            *_failed(trials),
            _scores(space, trials, title=title),
            _learning_curves(root, trials, title=title),
            _next_steps(command, fresh_command),
        ],
    )


def _failed(trials: Sequence[TrialRecord]) -> list[Section]:
    """Return a section of the trials that failed, if there are any."""
    reasons = [(trial.name, trial.failure) for trial in trials if trial.failure]
    if not reasons:
        return []
    why = ReportTable(head=("trial", "why"), rows=reasons)
    return [Section(title="Trials that failed", tables=[why])]


def _scores(space: SearchSpace, trials: Sequence[TrialRecord], *, title: str) -> Section:
    return Section(
        title="Settings and scores",
        figures=[
            (
                parallel_coordinates(space, trials, title=title),
                "A line for each trial through its settings; grey ones were stopped early.",
            ),
            (
                scores_by_setting(space, trials, title=title),
                "Score over each setting, with standard errors.",
            ),
        ],
    )


def _learning_curves(root: Uri, trials: Sequence[TrialRecord], *, title: str) -> Section:
    losses = {
        trial.number: epoch_rows(RunDirectory(storage.join(root, trial.name)).metrics)
        for trial in trials
    }
    return Section(
        title="Learning curves",
        figures=[
            (
                curves(losses, trials, title=title),
                "Errors in training, which fall with any network that is large enough, and "
                "scores, which need not rise.",
            )
        ],
    )


def _next_steps(command: str, fresh_command: str) -> Section:
    return Section(
        title="Where to go from here",
        text=(
            f"The first command goes on with the best trial to {LONGER} times its epochs. The "
            "second trains its settings from the beginning on all particles, those held out "
            "here included."
        ),
        commands=f"{command}\n{fresh_command}",
    )


def summary(space: SearchSpace, trials: Sequence[TrialRecord], *, title: str) -> str:
    """Return in a few sentences which trial is the best, and which are as good."""
    order = ranked(trials)
    best = order[0]
    settings = ", ".join(f"{name} {_cell(best.values[name])}" for name in space.names)
    as_good = []
    for trial in order[1:]:
        apart = difference(best, trial)
        if trial.state == "finished" and apart is not None and apart[0] < 2 * apart[1]:
            as_good.append(trial.name)
    failed = [trial.name for trial in trials if trial.state == "failed"]
    compared = counted(len(trials) - len(failed), "trial") + " with a score" * bool(failed)
    sentences = [
        f"The best of {compared} is {best.name}, with {settings}: {title} {best.score:.4g} ± "
        f"{best.error:.2g}."
    ]
    if best.agreement is not None and best.agreement_error is not None:
        sentences.append(
            f"Two trainings of its settings on half of the particles each agree to "
            f"{best.agreement:.3f} ± {best.agreement_error:.2g}."
        )
    if as_good:
        sentences.append(f"As good within two standard errors: {', '.join(as_good)}.")
    if failed:
        sentences.append(f"{len(failed)} of {len(trials)} trials failed: {', '.join(failed)}.")
    if predicts_nothing(best):
        sentences.insert(
            0,
            "No trial predicts held-out images better than one map for all particles: train "
            "longer, or there may be nothing to find.",
        )
    return " ".join(sentences)


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
