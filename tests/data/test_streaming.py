"""Batches one ahead through two buffers: those of the store, bit by bit."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from raydrgn.data.store import make_store
from raydrgn.data.streaming import HostStream

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["host", "disk"])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_each_batch_is_that_of_its_selection(kind, precision, count):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(30, 5, 2)).astype(precision)
    store = make_store(kind, values.shape, precision=precision, device=CPU)
    store.write(np.arange(30), values)
    selections = [torch.from_numpy(generator.integers(0, 30, 4)) for _ in range(count)]
    stream = HostStream(store, 4, CPU)
    for _ in range(2):  # a second epoch uses the same buffers
        found = [batch.clone() for batch in stream.batches(selections)]
        assert len(found) == count
        for rows, batch in zip(selections, found, strict=True):
            assert batch.dtype == store.dtype
            np.testing.assert_array_equal(batch.numpy(), values[rows.numpy()])


def test_it_can_be_left_within_an_epoch():
    store = make_store("host", (30, 5, 2), precision="float32", device=CPU)
    store.write(np.arange(30), np.arange(300, dtype=np.float32).reshape(30, 5, 2))
    stream = HostStream(store, 1, CPU)
    rows = [torch.tensor([row]) for row in range(30)]
    for number, batch in enumerate(stream.batches(rows)):
        assert batch[0, 0, 0] == 10 * number
        if number == 3:
            break
    assert next(stream.batches(rows[7:]))[0, 0, 0] == 70


def test_the_thread_that_copies_is_on_the_gpu_of_its_stream(monkeypatch):
    """With recorders in place of CUDA's: it begins on the first GPU, which is another worker's."""
    log, second = [], torch.device("cuda", 1)

    def recorded(name):
        @contextmanager
        def within(given):
            log.append((name, given))
            yield
            log.append(f"end of {name}")

        return within

    store = make_store("host", (30, 5, 2), precision="float32", device=CPU)
    store.write(np.arange(30), np.zeros((30, 5, 2), np.float32))
    stream = HostStream(store, 1, CPU)
    side = SimpleNamespace(wait_event=lambda event: log.append("waits"))
    stream._stream, stream._device = side, second
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, recorded(name))
    assert len(list(stream.batches([torch.tensor([3])]))) == 1
    assert log == [("device", second), ("stream", side), "waits", "end of stream", "end of device"]
