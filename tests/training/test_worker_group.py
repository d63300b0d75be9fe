"""What Ray Train gives the workers of a group, and how they exchange gradients."""

import json
import time
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import ray.train.torch
import torch
from torch import distributed

from processes import run_group
from raydrgn.errors import ClusterError
from raydrgn.remote.allocation import Allocation
from raydrgn.training import worker
from raydrgn.training.collectives import WorkerGroup
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


LIMIT_SECONDS = 5.0
"""Of the group as it is made, in place of ten minutes."""


def _train_in_group(rank, folder, asked):
    """Run a worker whose training begins, on the second one, after the limit of the group."""
    limit = timedelta(seconds=LIMIT_SECONDS)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2, timeout=limit
    )
    ray.get, ray.util.get_current_placement_group = lambda value: value, lambda: None
    worker._train = lambda job: _wait_for_the_other(rank)
    board = SimpleNamespace(is_stopping=SimpleNamespace(remote=lambda attempt: rank in asked))
    parts = replace(job(0.0), board=board)
    found = worker.train_worker({name: getattr(parts, name) for name in asdict(job(0.0))})
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


def _wait_for_the_other(rank):
    time.sleep(1.5 * LIMIT_SECONDS * rank)
    return WorkerGroup().all_of(rank) == [0, 1]


@pytest.mark.parametrize(
    ("asked", "finished"),
    [
        ([], True),  # it reads its particles, or passes over them, for longer than the limit
        ([1], False),  # neither waits for one that has ended
    ],
)
def test_workers_wait_for_the_slowest_and_stop_together(tmp_path, asked, finished):
    run_group(_train_in_group, str(tmp_path), asked, world=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert found == [{"finished": finished}] * 2
