"""Stores: the same values bit by bit wherever they are kept; the choice by size."""

import errno
import os
from collections import namedtuple

import numpy as np
import pytest
import torch

from raydrgn.data import store as store_module
from raydrgn.data.store import (
    DiskStore,
    MemoryStore,
    ParticleStore,
    Sharing,
    choose_store,
    make_store,
)
from raydrgn.errors import StorageError
from raydrgn.io import file_ranges, scratch

CPU = torch.device("cpu")
SHAPE = (9, 5, 2)


def make(kind, *, precision="float32", shape=SHAPE, **room):
    return make_store(kind, shape, precision=precision, device=CPU, **room)


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def filled(kind, values, precision="float32"):
    """Fill a store in blocks that come in any order."""
    store = make(kind, precision=precision, shape=values.shape)
    for rows in (np.array([8, 6]), np.array([0, 1, 2]), np.array([7]), np.array([3, 5, 4])):
        store.write(rows, values[rows].astype(precision))
    return store


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["device", "host", "disk"])
def test_values_come_back_bit_by_bit(kind, precision, values):
    store = filled(kind, values, precision)
    assert isinstance(store, ParticleStore)
    for rows in ([0], [8, 0, 0, 3], list(range(9)), []):
        found = store.read(torch.tensor(rows, dtype=torch.int64))
        assert found.dtype == torch.float32
        expected = values[rows].astype(precision).astype(np.float32)
        np.testing.assert_array_equal(found.numpy(), expected)


def test_kinds_are_where_they_say(values):
    assert isinstance(make("host"), MemoryStore)
    assert isinstance(make("disk"), DiskStore)


def test_half_precision_needs_half_the_disk(values, monkeypatch):
    usage = namedtuple("usage", "total used free")
    size = values.nbytes
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: usage(0, 0, size // 2))
    assert isinstance(make("disk", precision="float16"), DiskStore)
    with pytest.raises(
        StorageError, match=r"B free, but this .* need .*B there.*TMPDIR.*data\.precision=float16"
    ):
        make("disk")


def test_room_that_others_took_meanwhile_is_missed_before_anything_is_read(values, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"B free, but .*TMPDIR"):
        make("disk")


def test_room_is_reserved_where_the_file_system_can(values, monkeypatch):
    store = make("disk")
    assert os.stat(store.path).st_size == values.nbytes

    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    assert os.stat(make("disk").path).st_size == values.nbytes


def test_calls_that_do_less_than_asked_are_repeated(values, monkeypatch):
    monkeypatch.setattr(file_ranges, "CALL_BYTES", 3)
    np.testing.assert_array_equal(filled("disk", values).read(torch.arange(9)).numpy(), values)


def test_a_file_that_was_cut_short_is_refused(values):
    store = filled("disk", values)
    os.truncate(store.path, values.nbytes - 1)
    with pytest.raises(StorageError, match="no particle 8: it has been cut short"):
        store.read(torch.arange(9))


def test_the_file_has_no_name_and_goes_with_its_store(tmp_path, values, monkeypatch):
    monkeypatch.setattr(store_module.tempfile, "gettempdir", lambda: str(tmp_path))
    store = filled("disk", values)
    assert list(tmp_path.iterdir()) == []
    del store  # an unclosed file would be a warning, which fails the test


@pytest.mark.parametrize(
    ("free", "workers", "reserved", "kind"),
    [
        (10_000, 1, 0, MemoryStore),
        (1000, 1, 0, MemoryStore),
        (500, 1, 0, DiskStore),
        (1000, 2, 0, DiskStore),
        (1000, 1, 500, DiskStore),
    ],
)
def test_the_host_is_taken_while_it_has_room(free, workers, reserved, kind, monkeypatch):
    # 9 × 5 × 2 × 4 = 360 bytes; at most 0.6 of what is free for the worker and not reserved
    monkeypatch.setattr(store_module, "free_host_memory", lambda: free)
    assert isinstance(make("auto", sharing=Sharing(workers), reserved=reserved), kind)


@pytest.mark.parametrize(
    ("gpus", "reserved", "kind"),
    [
        (1.0, 0, "device"),
        (4.0, 0, "device"),
        (0.5, 0, "device"),
        (0.25, 0, "host"),  # four workers that each keep 0.3 of the GPU
        (0.5, 1e9, "host"),
    ],
)
def test_a_worker_takes_its_part_of_a_gpu(gpus, reserved, kind, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80 * 10**9, 80 * 10**9))
    monkeypatch.setattr(store_module, "free_host_memory", lambda: 10**12)
    sharing = Sharing.of_worker(gpus=gpus)
    found = choose_store(int(23.9e9), torch.device("cuda"), sharing, reserved=int(reserved))
    assert found == kind


def test_what_is_reserved_on_a_gpu_is_not_taken_from_the_host(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
    monkeypatch.setattr(store_module, "free_host_memory", lambda: 10**10)
    assert choose_store(5 * 10**9, torch.device("cuda"), reserved=9 * 10**9) == "host"
