"""Where a prepared run is trained: in this process or on Ray. Nothing heavy is loaded before."""

from typing import TYPE_CHECKING

from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress

if TYPE_CHECKING:
    from raydrgn.run.claim import RunClaim
    from raydrgn.training.prepare_run import PreparedRun
    from raydrgn.training.result import TrainResult


def start_training(
    run: "PreparedRun", *, claim: "RunClaim", executor: Executor, progress: Progress
) -> "TrainResult":
    """Train a run to its last epoch, going on from its latest checkpoint.

    A small input is trained on by one worker in this process. Several workers, and large inputs,
    are the matter of Ray, which the executor joins, or starts on this machine.

    Raises:
        RaydrgnError: If the particles, the run directory or the cluster do not allow it.
    """
    from raydrgn.training.prepare_run import image_megabytes, wanted

    config, count = run.config, len(run.table)
    here = None
    if not config.resources.is_elastic:
        image_bytes = 1e6 * image_megabytes(config, count)
        here = executor.one_worker_here(wanted(config, count), image_bytes)
    if here is not None:
        from raydrgn.training.in_process import train_here

        return train_here(run, here, claim=claim, progress=progress)
    with executor.connected():
        from raydrgn.training import trainer  # Ray's settings are in place by now

        return trainer.train(
            run, claim=claim, progress=progress, wait_seconds=executor.wait_seconds
        )
