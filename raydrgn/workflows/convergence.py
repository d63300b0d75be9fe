"""``convergence``: whether training has converged, of a finished run or of one in training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import sleep
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.notices import notices
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting
from raydrgn.workflows.epoch import DecodingSettings

if TYPE_CHECKING:
    from raydrgn.convergence.epochs import Convergence
    from raydrgn.reporting.result_folder import ResultFolder

POLL_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class ConvergenceSettings(DecodingSettings):
    """Settings of ``convergence``."""

    epoch: Annotated[
        int | None, Setting("Epoch; the last finished one by default.", is_argument=True)
    ] = None

    every: Annotated[int, Setting("Epochs between two that are embedded and decoded.", min=1)] = 5

    keep_volumes: Annotated[bool, Setting("Write the volumes into vols.N.")] = False

    notify: Annotated[
        str | None,
        Setting(
            "POST a JSON notice to this URL at the start, the end, a failure, and when --watch "
            "finds that the run has converged.",
            metavar="URL",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ConvergenceResult:
    """Whether a run has converged; the folder has it as files, with a report."""

    folder: "ResultFolder"
    convergence: "Convergence"
    verdict: str
    failures: list[str]
    """Points whose volumes could not be decoded, and why."""

    def lines(self) -> list[str]:
        """Return the findings, the verdict and the warnings, for a person to read."""
        found = self.convergence
        return [
            *(f"{finding.criterion}: {finding.text}" for finding in found.findings),
            self.verdict,
            *(f"warning: {warning}" for warning in found.warnings),
            f"→ {self.folder.at('report.html')}",
            *(f"next: {command}" for command in found.commands),
        ]


def run(
    settings: ConvergenceSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> ConvergenceResult:
    """Compare latents, losses and volumes through the epochs of a run; write the result folder.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it.
    """
    with notices(settings.notify, command="convergence", run=settings.run) as notice:
        found = _compare(settings, executor, progress)
        notice.ended(found.verdict)
    return found


def _compare(
    settings: ConvergenceSettings, executor: Executor, progress: Progress
) -> ConvergenceResult:
    from raydrgn.convergence import epochs as stages
    from raydrgn.convergence.report import write_convergence
    from raydrgn.convergence.verdict import judge, verdict
    from raydrgn.convergence.volumes import compare_volumes
    from raydrgn.model.device import gpu_problem
    from raydrgn.run.reader import open_run

    opened = open_run(settings.run)
    settings.volumes.check(opened.box)
    executor.check_pool(gpu_problem)
    epochs, examined = stages.choose_epochs(opened, settings.epoch, settings.every)
    folder = settings.begin(opened, epochs[-1], "convergence")
    stages.check_epochs(opened, examined, folder)
    found = stages.compare_epochs(
        opened, epochs, examined, folder, executor=executor, progress=progress
    )
    comparisons, failures = compare_volumes(
        opened,
        found,
        folder,
        options=settings.volumes,
        pixel_size_angstrom=settings.pixel_size_angstrom,
        keep_volumes=settings.keep_volumes,
        executor=executor,
        progress=progress,
    )
    found = judge(opened, replace(found, comparisons=comparisons), options=settings.volume_words())
    pixel_size = settings.pixel_size_angstrom or opened.pixel_size_angstrom or 1.0
    write_convergence(
        opened,
        found,
        folder,
        pixel_size_angstrom=settings.volumes.pixel_size(pixel_size, opened.box),
    )
    folder.finish()
    return ConvergenceResult(
        folder=folder, convergence=found, verdict=verdict(found), failures=failures
    )


def watch(
    settings: ConvergenceSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
    report: Callable[[str], None],
) -> ConvergenceResult:
    """Follow a run until it has converged or training has ended, and return the last comparison.

    Training that was stopped, or has died, has ended once no command has the run for a while.

    Losses and latents are judged at every new epoch. Once they have converged, and the learning
    rate has come to the end of its schedule, volumes are compared too, at most every
    ``settings.every`` epochs.

    Args:
        settings: Without an epoch or a folder: results go into ``RUN/convergence.N``.
        executor: Where work is done.
        progress: Called with how much is done.
        report: Called with lines for a person to read.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it.
    """
    if settings.epoch is not None or settings.out:
        raise ConfigError(
            "--watch follows the newest epoch into RUN/convergence.N; leave out EPOCH and --out."
        )
    with notices(settings.notify, command="convergence --watch", run=settings.run) as notice:
        found = _watch(settings, executor, progress, report)
        if found.convergence.is_converged:
            notice.send("convergence", found.verdict)
        notice.ended(found.verdict)
    return found


def _watch(
    settings: ConvergenceSettings,
    executor: Executor,
    progress: Progress,
    report: Callable[[str], None],
) -> ConvergenceResult:
    from raydrgn.convergence.epochs import MIN_EPOCHS
    from raydrgn.convergence.verdict import judge_latents, open_criteria
    from raydrgn.run.claim_watch import ClaimWatch
    from raydrgn.run.reader import open_run

    opened = open_run(settings.run)
    settings.volumes.check(opened.box)
    claims = ClaimWatch(opened.root)
    seen = compared = 0
    if len(opened.files.latent_epochs()) < MIN_EPOCHS:
        report(f"waiting for {MIN_EPOCHS} epochs; Ctrl-C ends")
    while True:
        # Both before epochs are listed, so that none is missed.
        is_finished, is_held = opened.is_finished(), opened.is_foreign or claims.is_held()
        epochs = opened.files.latent_epochs()
        if len(epochs) >= MIN_EPOCHS and epochs[-1] > seen:
            seen = epochs[-1]
            findings = judge_latents(opened, epochs)
            report(f"epoch {seen}: {open_criteria(findings)}")
            is_due = not any(found.is_open for found in findings)
            if is_due and not is_finished and seen >= compared + settings.every:
                compared = seen
                of_epoch = replace(settings, epoch=seen)
                result = _compare(of_epoch, executor, progress)
                if result.convergence.is_converged:
                    report(f"Training can stop: by these criteria epoch {seen} is enough.")
                    return result
                for line in result.lines():
                    report(line)
                continue  # epochs may have been finished meanwhile
        if is_finished:
            return _compare(settings, executor, progress)
        if not is_held and (epochs or claims.was_held):  # else training has not begun
            report("Training has ended before its last epoch: no command is training the run.")
            return _compare(settings, executor, progress)
        sleep(POLL_SECONDS)
