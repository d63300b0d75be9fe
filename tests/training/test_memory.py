"""A fit that memory has no room for is refused before its particles are read."""

import re

import pytest
import torch

import plain_em
from raydrgn.data import store as store_module
from raydrgn.data.ingest import prepared_blocks
from raydrgn.data.store import ALONE, DiskStore, MemoryStore
from raydrgn.errors import ConfigError
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.memory import fit_bytes
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training import memory
from raydrgn.training.assembly import batch_plan, own_store
from raydrgn.training.memory import Room

CPU = torch.device("cpu")


def in_slabs(box: int, components: int) -> int:
    return fit_bytes(box, components, device=CPU, is_in_slabs=True)


def test_the_memory_that_is_named_holds_the_grids():
    volumes = torch.zeros(9, 64, 64, 64)
    grids = VolumeGrids(64, device=CPU)
    fine = grids.for_slices(volumes, radius=32)
    held = fine.values.nbytes + grids.empty_sums(9).nbytes + volumes.nbytes
    assert held < fit_bytes(64, 8, device=CPU) < 2 * held


def test_what_does_not_fit_is_refused_with_what_would(tmp_path, monkeypatch):
    simulate(str(tmp_path), Simulation(num_particles=60, box=24, seed=1))
    run = plain_em.prepare(tmp_path / "particles.star", tmp_path / "run", **plain_em.SMALL)
    free = in_slabs(24, 2)
    monkeypatch.setattr(memory, "free_memory", lambda device, sharing: free)
    with pytest.raises(ConfigError) as caught:
        plain_em.fit(run)
    text = str(caught.value)
    assert text.startswith("A fit of 4 components at 24 px needs 0.0 GB of memory for each worker")
    assert "--components 2 would fit" in text
    smaller = int(re.search(r"images of (\d+) px would fit", text)[1])
    assert in_slabs(smaller, 4) <= free < in_slabs(smaller + 2, 4)
    assert not (tmp_path / "run" / "weights.1.pkl").exists()


@pytest.mark.parametrize(("room", "kind"), [(0, DiskStore), (10**6, MemoryStore)])
def test_particles_leave_room_for_the_grids(tmp_path, monkeypatch, room, kind):
    """60 images of 24 px are 0.1 MB, which is a small part of what is free in both cases."""
    simulate(str(tmp_path), Simulation(num_particles=60, box=24, seed=1))
    run = plain_em.prepare(tmp_path / "particles.star", tmp_path / "run", **plain_em.SMALL)
    free = fit_bytes(24, run.config.mfa.components, device=CPU) + room
    monkeypatch.setattr(store_module, "free_host_memory", lambda: free)
    whole = Room.of(run.config, CPU, ALONE)
    assert whole.grid_file is None
    blocks = prepared_blocks(run.table, run.config.data)
    plan = batch_plan(run.config, len(run.table))
    store, _ = own_store(
        run.config, plan, CPU, blocks, run=run.root, room=whole, progress=lambda done: None
    )
    assert isinstance(store, kind)
