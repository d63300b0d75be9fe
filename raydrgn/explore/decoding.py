"""Volumes for the page, decoded one request after the other.

A page numbers its requests. One that a later request of the same page has overtaken is dropped
where it waits, or between two of its volumes.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from raydrgn.errors import ClusterError, InputError, RaydrgnError
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

if TYPE_CHECKING:
    from raydrgn.decoding.pool import DecoderPool

log = logging.getLogger(__name__)

PREVIEW_BOX = 32
"""Box that two cores decode within a second, pixels."""

LARGEST_BOX = 128
"""Box that a browser makes surfaces of in about a second, pixels."""

MOST_WAITING = 32
MOST_PAGES = 64


class OvertakenError(RaydrgnError):
    """A later request of the same page has taken the place of this one."""


class BusyError(RaydrgnError):
    """Too many requests wait."""


class VolumeOrder(NamedTuple):
    """What a page asks for."""

    page: str
    number: int
    run: Uri
    epoch: int | None
    weights: datetime | None
    """When they were written: the same epoch may be trained anew."""

    is_flipped: bool
    """Whether the hand is opposite to the run's."""

    z: Float[np.ndarray, "k zdim"]
    box: int


class Decoding:
    """The decoder pool of the epoch that was asked for last, which one thread holds and asks.

    Args:
        open_pool: Opens the pool of a run's epoch; called again after the pool was lost.
        workers: Decoders of a pool; None decodes in this process.
    """

    def __init__(
        self, open_pool: Callable[[Uri, int | None], "DecoderPool"], *, workers: int | None
    ) -> None:
        self._open_pool, self._workers = open_pool, workers
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoding")
        self._pool: DecoderPool | None = None
        self._decodes: tuple[Uri, int | None, datetime | None, bool] | None = None
        self._latest: dict[str, int] = {}
        self._waiting = 0
        self._is_loaded = False

    def load(self) -> None:
        """Load what decodes, which takes seconds, before the first request needs it."""
        if not self._is_loaded:
            self._is_loaded = True
            self._thread.submit(import_module, "raydrgn.decoding.pool")

    async def volumes(self, order: VolumeOrder) -> Float[np.ndarray, "k d d d"]:
        """Return the volumes that a page has asked for.

        Raises:
            OvertakenError: If the page has asked for others since.
            BusyError: If too many requests wait.
            ClusterError: If the decoder was lost; the next request starts it again.
            InputError: If volumes are not finite.
            RaydrgnError: If the weights cannot be read, or there is no room for a decoder.
        """
        if self._waiting >= MOST_WAITING:
            raise BusyError(f"{MOST_WAITING} requests for volumes wait already; try again later.")
        if self._latest.get(order.page, order.number) > order.number:  # it came late
            raise OvertakenError("Other volumes were asked for since.")
        self._latest.pop(order.page, None)
        self._latest[order.page] = order.number
        if len(self._latest) > MOST_PAGES:
            del self._latest[next(iter(self._latest))]
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._decode, order)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the decoders."""
        self._thread.submit(self._leave).result()
        self._thread.shutdown()

    def _decode(self, order: VolumeOrder) -> Float[np.ndarray, "k d d d"]:
        made = []
        at_once = 1
        if self._workers is not None:
            from raydrgn.decoding.pool import LATENTS_PER_BATCH

            at_once = LATENTS_PER_BATCH * self._workers
        for start in range(0, len(order.z), at_once):
            if self._latest.get(order.page) != order.number:
                raise OvertakenError("Other volumes were asked for since.")
            made.append(self._some(order, slice(start, start + at_once)))
        return np.concatenate(made)

    def _some(self, order: VolumeOrder, part: slice) -> Float[np.ndarray, "b d d d"]:
        try:
            wanted = order.run, order.epoch, order.weights, order.is_flipped
            if self._decodes != wanted:
                self._leave()
            if self._pool is None:
                self._pool = self._open_pool(order.run, order.epoch).__enter__()
                self._decodes = wanted
            made = self._pool.volumes(order.z[part], box=order.box)
        except Exception as error:
            is_known = isinstance(error, RaydrgnError)
            if is_known and not (isinstance(error, ClusterError) and self._pool is not None):
                raise  # nothing was lost: it is about the weights, the settings or the cluster
            log.warning(
                "decoding failed, and the decoder is started again: %s",
                error,
                exc_info=not is_known,
            )
            self._leave()
            raise ClusterError(
                f"The decoder was lost ({error}). It is started again with the next request."
            ) from error
        if not np.isfinite(made).all():
            of = "" if order.epoch is None else f" of epoch {order.epoch}"
            raise InputError(
                f"{order.run}: volumes{of} have densities that are not finite, so the training "
                "has diverged or the weights are damaged. Choose another epoch."
            )
        return made

    def _leave(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.__exit__(None, None, None)
