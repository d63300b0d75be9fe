"""Batches: rows of a shard with their poses and optics, whole and in micro-batches."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from phantoms import table_of
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import make_store
from raydrgn.io.particles import CTF_COLUMNS

CPU = torch.device("cpu")


def shard_of(table, kind="host"):
    values = np.random.default_rng(0).normal(size=(len(table), 5, 2)).astype(np.float32)
    store = make_store(kind, values.shape, precision="float32", device=CPU)
    store.write(np.arange(len(table)), values)
    return ResidentShard(table, store, pixel_size_angstrom=1.5, device=CPU), values


@pytest.fixture
def table():
    defocus = np.linspace(1e4, 2e4, 7)
    return table_of(7, defocus_u_angstrom=defocus, pixel_size_angstrom=np.linspace(1, 2, 7))


def scaled_rotations(table, rows):
    """Rotations times the volume's pixel size over the image's."""
    factors = np.float32(1.5) / table.column("pixel_size_angstrom")[rows]
    return table.rotations[rows] * factors[:, None, None]


def test_a_batch_is_its_rows_of_everything(table):
    shard, values = shard_of(table)
    rows = [5, 0, 0, 3]
    batch = shard.batch(torch.tensor(rows))
    assert len(shard) == 7
    assert len(batch) == 4
    np.testing.assert_array_equal(batch.coefficients, values[rows])
    np.testing.assert_allclose(batch.rotations, scaled_rotations(table, rows), rtol=1e-6)
    np.testing.assert_array_equal(batch.rotations[3], table.rotations[3])  # 1.5 Å
    np.testing.assert_array_equal(
        batch.pixel_size_angstrom, table.column("pixel_size_angstrom")[rows]
    )
    for name in CTF_COLUMNS:
        np.testing.assert_array_equal(getattr(batch.ctf, name), table.column(name)[rows])


def test_particles_without_ctf_have_none():
    shard, _ = shard_of(table_of(3, voltage_kv=None))
    assert shard.batch(torch.tensor([0, 2])).ctf is None


@pytest.mark.parametrize("kind", ["host", "disk"])
def test_batches_come_one_per_selection_in_their_order(table, kind):
    shard, values = shard_of(table, kind)
    selections = [[6, 1], [0], [2, 3, 4], [5, 5]]
    batches = list(shard.batches(torch.tensor(rows) for rows in selections))
    assert len(batches) == 4
    for batch, rows in zip(batches, selections, strict=True):
        np.testing.assert_array_equal(batch.coefficients, values[rows])
        np.testing.assert_allclose(batch.rotations, scaled_rotations(table, rows), rtol=1e-6)
    assert list(shard.batches(iter(()))) == []


def test_an_error_while_reading_ahead_is_not_lost(table):
    shard, _ = shard_of(table, "disk")

    def selections():
        yield torch.tensor([0])
        yield torch.tensor([1])
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        list(shard.batches(selections()))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
def test_micro_batches_are_the_batch(table, size):
    shard, _ = shard_of(table)
    batch = shard.batch(torch.arange(7))
    parts = list(batch.micro_batches(size))
    assert [len(part) for part in parts] == [min(size, 7 - s) for s in range(0, 7, size)]
    for name in ("coefficients", "rotations", "pixel_size_angstrom"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(batch, name))
    for field in fields(batch.ctf):
        joined = torch.cat([getattr(part.ctf, field.name) for part in parts])
        assert torch.equal(joined, getattr(batch.ctf, field.name))


def test_an_empty_batch_is_one_empty_micro_batch():
    shard, _ = shard_of(table_of(3, voltage_kv=None))
    empty = shard.batch(torch.tensor([], dtype=torch.int64))
    assert [len(part) for part in empty.micro_batches(4)] == [0]
