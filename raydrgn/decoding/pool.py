"""Volumes of latents, decoded by workers that hold the decoder, or by this process.

A command opens one ``DecoderPool``. The weights are shipped once; volumes come back in memory, are
written where they were made, or are given to a function there, several latents at a time. Of each
volume half of the Fourier ball is evaluated (``raydrgn.model.volume``).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from raydrgn.decoding.options import VolumeOptions
from raydrgn.fourier.resample import cropped, low_pass
from raydrgn.io.mrc import write_volume
from raydrgn.io.storage import Uri
from raydrgn.io.unfinished import remove_unfinished
from raydrgn.model.device import default_device, gpu_problem
from raydrgn.remote import metrics
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.fanout import Outcome
from raydrgn.run.weights import DecoderState
from raydrgn.shapes import Float

T = TypeVar("T")

LATENTS_PER_BATCH = 8

Work = Callable[["VolumeDecoder", Sequence[T]], Any]
"""What is done with a batch of items by the process that holds the decoder."""


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """One volume to make, and where to write it."""

    z: tuple[float, ...]
    uri: Uri
    crop: int | None = None
    """Edge of the cube about the centre of the box that is written, voxels; None writes all."""


class VolumeDecoder:
    """Holds one decoder on one device.

    A plain class: one process uses it directly, and a pool makes actors of it.
    """

    def __init__(
        self, state: DecoderState, options: VolumeOptions, *, threads: int | None = None
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._state = state
        self._options = options
        self._device = default_device()
        self._decoder = state.build(self._device)

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the volumes given out."""
        return self._options.pixel_size(self._state.pixel_size_angstrom, self._state.box)

    def decode(
        self, z: Float[np.ndarray, "b zdim"], *, box: int | None = None
    ) -> Float[np.ndarray, "b d d d"]:
        """Return the volumes of latents, in the box of the options if no other is given."""
        options = self._options if box is None else replace(self._options, box=box)
        volumes = self._state.volumes(self._decoder, z, small_box=options.box)
        if options.flip:
            volumes = volumes.flip(-3)
        if options.invert:
            volumes = -volumes
        if options.low_pass_angstrom is not None:
            volumes = low_pass(
                volumes,
                resolution_angstrom=options.low_pass_angstrom,
                pixel_size_angstrom=options.pixel_size(
                    self._state.pixel_size_angstrom, self._state.box
                ),
            )
        self.count("volumes", len(z))
        return volumes.cpu().numpy()

    def count(self, name: str, number: int) -> None:
        """Add to a counter of ``raydrgn.remote.metrics``, for the decoder's run."""
        metrics.count(name, number, run=self._state.run)

    def write(self, requests: Sequence[VolumeRequest]) -> list[Uri]:
        """Decode and write volumes; arrays stay here, paths are returned."""
        volumes = self.decode(np.array([request.z for request in requests], dtype=np.float32))
        for request, volume in zip(requests, volumes, strict=True):
            cube, start = cropped(volume, request.crop or len(volume))
            write_volume(
                request.uri,
                cube,
                pixel_size_angstrom=self.pixel_size_angstrom,
                origin_angstrom=(start * self.pixel_size_angstrom,) * 3,
            )
        return [request.uri for request in requests]


def _write_requested(decoder: VolumeDecoder, requests: Sequence[VolumeRequest]) -> list[Uri]:
    """Decode and write volumes."""
    return decoder.write(requests)


def _make_decoder(
    state: DecoderState, options: VolumeOptions, threads: int | None
) -> VolumeDecoder:
    return VolumeDecoder(state, options, threads=threads)


class DecoderPool:
    """The decoders of a run's epoch, in this process or on the workers of an executor.

    A context manager. Workers that are lost are replaced, and the batches that they held are done
    again; a batch that fails for good is an outcome with its error. In this process it is raised.
    """

    def __init__(
        self,
        state: DecoderState,
        options: VolumeOptions,
        executor: Executor = IN_PROCESS,
        *,
        num_volumes: int | None = None,
    ) -> None:
        """Ask the executor for its workers.

        Args:
            state: Decoder of an epoch.
            options: What is done to volumes.
            executor: Where they are decoded.
            num_volumes: How many there will be, if that is known: many are shared among the GPUs of
                a machine, and few get no more workers than there is work for.
        """
        options.check(state.box)
        self._state, self._options = state, options
        make = partial(_make_decoder, state, options)
        batches = None if num_volumes is None else math.ceil(num_volumes / LATENTS_PER_BATCH)
        self._workers = executor.pool(make, gpu_problem=gpu_problem, batches=batches)

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the volumes."""
        return self._options.pixel_size(self._state.pixel_size_angstrom, self._state.box)

    def __enter__(self) -> "DecoderPool":
        self._workers.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.__exit__(*error)

    def run(self, work: Work[T], items: Sequence[T]) -> Iterator[Outcome[Sequence[T]]]:
        """Do work on batches of items where the decoders are; yield the outcome of each batch."""
        size = LATENTS_PER_BATCH
        return self._workers.run(
            work, [items[start : start + size] for start in range(0, len(items), size)]
        )

    def write(
        self, requests: Sequence[VolumeRequest], work: Work[VolumeRequest] = _write_requested
    ) -> Iterator[Outcome[Sequence[VolumeRequest]]]:
        """Decode and write volumes where the decoders are; yield what the work returns of each.

        Args:
            requests: The volumes.
            work: Writes them; by default the paths are returned.
        """
        yield from self.run(work, requests)
        if self._workers.has_lost_workers:
            remove_unfinished(request.uri for request in requests)

    def apply(
        self,
        function: Callable[[Float[np.ndarray, "b d d d"]], Any],
        z: Float[np.ndarray, "n zdim"],
        *,
        box: int | None = None,
    ) -> Iterator[Outcome[range]]:
        """Yield what a function makes of the volumes of latents, batch by batch, as they finish.

        Items are the rows of ``z``; volumes stay where they were made.

        Args:
            function: What is done with a batch of volumes.
            z: Latents.
            box: Box of the volumes, if not that of the options, pixels.
        """
        return self.run(_Applied(function, z, box), range(len(z)))  # type: ignore[return-value]

    def volumes(
        self, z: Float[np.ndarray, "n zdim"], *, box: int | None = None
    ) -> Float[np.ndarray, "n d d d"]:
        """Return the volumes of latents, in memory and in order; ``box`` as in ``apply``.

        Raises:
            Exception: What a batch failed of; there is no use in half of an array.
        """
        size = box or self._options.box or self._state.box
        made = np.empty((len(z), size, size, size), dtype=np.float32)
        for outcome in self.apply(_as_they_are, z, box=box):
            if outcome.error:
                raise outcome.error
            made[outcome.item.start : outcome.item.stop] = outcome.value
        return made


@dataclass(frozen=True, slots=True)
class _Applied:
    """A function of volumes as work on rows of latents."""

    function: Callable[[Any], Any]
    z: Float[np.ndarray, "n zdim"]
    box: int | None

    def __call__(self, decoder: VolumeDecoder, rows: Sequence[int]) -> Any:
        return self.function(decoder.decode(self.z[rows[0] : rows[-1] + 1], box=self.box))


def _as_they_are(volumes: Float[np.ndarray, "b d d d"]) -> Float[np.ndarray, "b d d d"]:
    return volumes
