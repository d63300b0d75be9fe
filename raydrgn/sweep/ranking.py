"""Which trial is the best, by how much, and the table of all."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from raydrgn.sweep.record import TrialRecord
from raydrgn.sweep.space import SearchSpace

FINALISTS = 3
"""Best trials whose settings are trained on halves of the particles, where that is asked for."""

LONGER = 2
"""Times the epochs of a trial for which the best one is to be trained."""


def ranked(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that have finished, the best first; then those that were stopped early.

    The agreement of half sets does not count: it does not rank settings (docs/sweeps.md).
    """

    def merit(trial: TrialRecord) -> tuple[bool, int, float]:
        score = float("-inf") if trial.score is None else trial.score
        return trial.state == "finished", trial.epoch, score

    return sorted(trials, key=merit, reverse=True)


def predicts_nothing(best: TrialRecord) -> bool:
    """Return whether even the best trial is worse than one map for all particles.

    Its gain is below 0 by more than two standard errors. An FSC with the truth never is.
    """
    return best.score is not None and best.score + 2 * (best.error or 0.0) < 0


def difference(best: TrialRecord, other: TrialRecord) -> tuple[float, float] | None:
    """Return how much lower a trial's score is than the best, and the standard error of that.

    Both scores are means over the same images, which are compared one by one; None if they are of
    different epochs.
    """
    if best.epoch != other.epoch or len(best.parts) != len(other.parts) or len(best.parts) < 2:
        return None
    apart = np.array(best.parts) - np.array(other.parts)
    return float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart)))


def table(space: SearchSpace, trials: Sequence[TrialRecord]) -> tuple[list[str], list[list[Any]]]:
    """Return the head and the rows of the table of all trials, the best first."""
    with_agreement = any(trial.agreement is not None for trial in trials)
    head = ["trial", *space.names, "state", "epochs", "score", "standard_error"]
    head += ["below_best", "below_best_error"]
    head += ["agreement", "agreement_error"] if with_agreement else []
    head += ["seconds"]
    rows, order = [], ranked(trials)
    for trial in order:
        apart = difference(order[0], trial)
        row = [trial.name, *(trial.values[name] for name in space.names), trial.state, trial.epoch]
        row += [trial.score, trial.error, *(apart or (None, None))]
        row += [trial.agreement, trial.agreement_error] if with_agreement else []
        row.append(round(trial.seconds, 1))
        rows.append(["" if cell is None else cell for cell in row])
    return head, rows


def longer_command(root: str, best: TrialRecord) -> str:
    """Return the command that trains the best trial for longer."""
    return (
        f"raydrgn train -o {shlex.quote(f'{root}/{best.name}')} --resume --epochs "
        f"{LONGER * best.epoch}"
    )


def assignments(values: Mapping[str, Any]) -> str:
    """Return settings as options of ``train``."""
    words = [f"{name}={_value(value)}" for name, value in values.items()]
    return " ".join(f"--set {shlex.quote(word)}" for word in words)


def _value(value: Any) -> str:
    """Return a value as YAML has it on one line."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
