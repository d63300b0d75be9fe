"""What Ray Train gives the workers of a group, and how they exchange gradients."""

import pytest
import ray.train.torch
import torch

from raydrgn.errors import ClusterError
from raydrgn.remote.allocation import Allocation
from raydrgn.training import worker
from raydrgn.training.worker import TrainingJob
from raydrgn.training.worker_group import scaling_config, torch_config


@pytest.mark.parametrize(
    ("allocation", "backend"),
    [
        (Allocation(2, 4, 0.5), "gloo"),  # NCCL refuses two processes on one GPU
        (Allocation(9, 7, 0.5), "gloo"),
        (Allocation(8, 8, 1.0), None),  # Ray Train takes NCCL
        (Allocation(4, 16, 2.0), None),
        (Allocation(1, 8, 0.5), None),  # nothing to exchange
        (Allocation(3, 2, 0.0), None),  # Ray Train takes gloo
    ],
)
def test_workers_that_share_a_gpu_exchange_by_gloo(allocation, backend):
    assert torch_config(allocation).backend == backend
    assert scaling_config(allocation).use_gpu is bool(allocation.gpus)
    assert scaling_config(allocation).num_workers == allocation.num_workers


def job(gpus):
    return TrainingJob(
        root="run",
        config={},
        table=None,
        cpus=1,
        gpus=gpus,
        use_ray_data=False,
        writer=None,
        board=None,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_worker_whose_gpu_torch_cannot_use_ends_in_words(monkeypatch):
    """Its node may have joined the cluster after those there were asked."""
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    with pytest.raises(ClusterError, match=r"^Ray counts GPUs on .*--gpus-per-worker 0\.$"):
        worker._device(job(1.0))
    assert worker._device(job(0.0)) == torch.device("cpu")
