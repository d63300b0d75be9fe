"""What Ray Train gives the workers of a group, and how they exchange gradients."""

from datetime import timedelta

from ray.train import ScalingConfig
from ray.train.torch import TorchConfig
from torch.distributed.distributed_c10d import _set_pg_timeout

from raydrgn.remote.allocation import Allocation
from raydrgn.training.collectives import WorkerGroup

CONNECTION_TIMEOUT_S = 600
"""Time for workers to connect: longer than any network that lets them through needs."""

SLOWEST_WORKER = timedelta(days=1)
"""Time that workers wait for one that reads its particles, or passes over them, more slowly."""


def scaling_config(allocation: Allocation) -> ScalingConfig:
    """Return the number of workers, and what each of them gets."""
    return ScalingConfig(
        num_workers=allocation.num_workers,
        use_gpu=allocation.gpus > 0,
        resources_per_worker={
            "CPU": allocation.cpus,
            **({"GPU": allocation.gpus} if allocation.gpus else {}),
        },
    )


def torch_config(allocation: Allocation) -> TorchConfig:
    """Return the backend of the exchange: NCCL refuses two processes on one GPU, gloo does not.

    Otherwise it is Ray Train's own choice, NCCL for GPUs and gloo for CPUs.
    """
    shares_gpus = 0 < allocation.gpus < 1 and allocation.num_workers > 1
    return TorchConfig(backend="gloo" if shares_gpus else None, timeout_s=CONNECTION_TIMEOUT_S)


def begin_together(is_stopping: bool) -> bool:
    """Connect all workers, and return whether any of them was asked to stop.

    From then on a collective waits for a day, as its work may be preceded by a whole pass over the
    particles, which one node does hours later than another. The loss of a worker is noticed
    without a limit: a dead process closes gloo's and NCCL's connections; Ray Train's controller,
    which asks each worker every two seconds whether it lives, ends all of them when one is dead,
    when Ray's health check gives its node up, or when it has not answered for ten minutes. None of
    this waits for a collective, which is in a thread of its own.

    NCCL connects here too, in the first collective: otherwise those that come first would wait for
    the first worker in the store of the group, which has the limit of the connection.

    Args:
        is_stopping: Whether this one was asked; a worker that ended alone would be waited for.
    """
    group = WorkerGroup()
    answers = group.all_of(is_stopping)
    if group.size > 1:
        _set_pg_timeout(SLOWEST_WORKER)
    return any(answers)
