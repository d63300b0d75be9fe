"""``train``: an autoencoder, or a mixture of factor analysers, on particles with known poses."""

import logging
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from raydrgn.errors import RunDirectoryError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.notices import notices
from raydrgn.remote.progress import Progress, silent
from raydrgn.wording import counted
from raydrgn.workflows.train_settings import TrainSettings

if TYPE_CHECKING:
    from raydrgn.run.claim import RunClaim
    from raydrgn.run.config import RunConfig
    from raydrgn.training.result import TrainResult

log = logging.getLogger(__name__)


def run(
    settings: TrainSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> "TrainResult":
    """Train to the last epoch; a run that was stopped goes on from its latest checkpoint.

    A small input is trained on by one worker in this process. Several workers, and large inputs,
    are the matter of Ray, which the executor joins, or starts on this machine.

    With ``settings.analyze``, the last epoch is analysed then. Where that fails, the result has the
    reason: the run is finished all the same.

    Raises:
        RaydrgnError: If the particles, the settings, the run directory or the cluster do not allow
            it; nothing is started then.
    """
    from raydrgn.io import storage

    root = storage.absolute(settings.out)
    with notices(settings.notify, command="train", run=root) as notice:
        found = _run(settings, executor, progress)
        if settings.analyze and found.finished and found.stopped:
            command = shlex.join(["raydrgn", "analyze", root])
            problem = (
                f"the analysis was left out, since a stop was asked for. To make it: {command}"
            )
            found = replace(found, analysis_problem=problem)
        elif settings.analyze and found.finished:
            from raydrgn.workflows.analyze import analyze_finished

            report, problem = analyze_finished(root, executor=executor, progress=progress)
            found = replace(found, report=report, analysis_problem=problem)
        if found.finished:
            what = f"{counted(found.epochs, 'epoch')} of {found.num_particles:,} particles are done"
            notice.ended(f"{what}; {found.analysis_problem}" if found.analysis_problem else what)
        else:
            notice.stopped(f"stopped on request; {found.what_is_kept}")
    return found


def _run(settings: TrainSettings, executor: Executor, progress: Progress) -> "TrainResult":
    from raydrgn.model.device import gpu_problem
    from raydrgn.run.claim import RunClaim
    from raydrgn.run.relocation import relocate
    from raydrgn.run.status import find_run
    from raydrgn.training import prepare_run
    from raydrgn.training.result import TrainResult
    from raydrgn.training.start import start_training

    def check_room(config: "RunConfig", num_particles: int) -> None:
        executor.check_room(prepare_run.wanted(config, num_particles), gpu_problem)

    request = settings.request()
    status = find_run(request.root)
    with RunClaim(request.root) as claim:
        if status is None:
            prepared = prepare_run.begin(request, claim=claim, before_reading=check_room)
        else:
            if not (settings.resume or status.is_finished):
                raise RunDirectoryError(
                    f"{request.root} holds this run already, with {status.count}. Add --resume to "
                    "go on with it, or choose another -o."
                )
            if settings.datadir and settings.is_moved(status.config.source):
                relocate(request.root, datadir=settings.datadir)
                status = find_run(request.root) or status
            prepared = prepare_run.resume(request, status)
            if status.is_finished and prepared.config.train.epochs == status.epochs_done:
                return TrainResult.of(prepared, finished=True, trained=False)
            check_room(prepared.config, len(prepared.table))
            claim.take()
            status = find_run(request.root) or status  # as the command before has left it
            prepared = prepare_run.resume(request, status)
        found = start_training(prepared, claim=claim, executor=executor, progress=progress)
        if found.finished:
            _warn_of_contrast(prepared.config, request.root, claim)
    return found


def _warn_of_contrast(config: "RunConfig", root: str, claim: "RunClaim") -> None:
    """Warn, on the console and in the run's log, of density or images of the other sign."""
    from raydrgn.decoding.contrast import contrast_of_run
    from raydrgn.mfa.concerns import concerns_of_contrast
    from raydrgn.run.reader import open_run
    from raydrgn.run.writer import RunWriter

    opened = open_run(root)
    epoch = opened.epoch(None)
    problem = contrast_of_run(opened, epoch, uses_gpu=bool(config.resources.gpus))
    problems = [] if problem is None else [problem]
    if opened.is_mixture:
        found, groups = opened.estimates(epoch), opened.particles().optics_groups()
        problems += concerns_of_contrast(found["contrast"], found["null_probability"], groups)
    for problem in problems:
        log.warning("%s", problem)
        RunWriter(root, num_particles=0, claim=claim.ticket).log(problem)
