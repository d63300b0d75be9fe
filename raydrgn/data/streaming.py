"""Prepared particles from the host to a GPU, through two pinned buffers, one batch ahead.

Only pinned memory is copied while the GPU computes; anything else waits for it.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from raydrgn.data.store import ParticleStore
from raydrgn.shapes import Float, Int


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU copies one of the host when its turn comes."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


class HostStream:
    """Batches of one size out of a store that is not on the device.

    While the device computes with one batch, a thread gathers the next one into the other buffer
    and lets it be copied, in the type in which the store keeps it, by a stream of its own.
    """

    def __init__(self, store: ParticleStore, size: int, device: torch.device) -> None:
        """Take a store, the particles of a batch, and the device that computes."""
        self._store = store
        self._device = device
        self._on_gpu = device.type == "cuda"
        shape = (size, *store.shape[1:])
        self._host = [
            torch.empty(shape, dtype=store.dtype, pin_memory=self._on_gpu) for _ in range(2)
        ]
        self._there = [torch.empty(shape, dtype=store.dtype, device=device) for _ in range(2)]
        self._stream = torch.cuda.Stream(device) if self._on_gpu else None
        self._copied = [self._event() for _ in range(2)]
        self._used = [self._event() for _ in range(2)]

    def batches(self, selections: Iterable[Int[Tensor, " b"]]) -> Iterator[Float[Tensor, "b n 2"]]:
        """Yield the coefficients of each selection, on the device and as the store keeps them.

        A batch is overwritten after the next one: it is to be used at once.
        """
        for used in self._used:
            self._record(used)  # batches of earlier selections, of which steps may still be running
        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for number, rows in enumerate(selections):
                if number > 1:
                    self._record(self._used[number % 2])  # the batch two before is done with
                coming = reader.submit(self._fill, number % 2, rows)
                if ahead is not None:
                    yield self._received(ahead.result())
                ahead = coming
            if ahead is not None:
                yield self._received(ahead.result())

    def _fill(self, slot: int, rows: Int[Tensor, " b"]) -> int:
        """Gather a batch and have it copied; in the thread of the reader."""
        if self._copied[slot] is not None:
            self._copied[slot].synchronize()  # the buffer's batch before is on the device
        self._store.read_into(rows, self._host[slot])
        with ExitStack() as copying:
            if self._stream is not None:
                # A thread begins on the first GPU, and back there from another one's stream it
                # would take memory of it.
                copying.enter_context(torch.cuda.device(self._device))
                copying.enter_context(torch.cuda.stream(self._stream))
                self._stream.wait_event(self._used[slot])
            self._there[slot].copy_(self._host[slot], non_blocking=self._on_gpu)
            self._record(self._copied[slot])
        return slot

    def _received(self, slot: int) -> Float[Tensor, "b n 2"]:
        """Return a batch, for which the steps that follow wait on the device, not here."""
        if self._copied[slot] is not None:
            torch.cuda.current_stream(self._device).wait_event(self._copied[slot])
        return self._there[slot]

    def _event(self) -> Any:
        return torch.cuda.Event() if self._on_gpu else None

    def _record(self, event: Any) -> None:
        if event is not None:
            event.record(torch.cuda.current_stream(self._device))
