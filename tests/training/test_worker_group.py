"""What Ray Train gives the workers of a group, and how they exchange gradients."""

import pytest

from raydrgn.remote.allocation import Allocation
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
