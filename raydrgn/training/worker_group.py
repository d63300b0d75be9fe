"""What Ray Train gives the workers of a group, and how they exchange gradients."""

from ray.train import ScalingConfig
from ray.train.torch import TorchConfig

from raydrgn.remote.allocation import Allocation

COLLECTIVE_TIMEOUT_S = 600  # a rank that hangs, or prepares much more slowly than the others


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
    return TorchConfig(backend="gloo" if shares_gpus else None, timeout_s=COLLECTIVE_TIMEOUT_S)
