"""Volumes of latents: decoded by one process, or by actors that hold the decoder.

A command opens one ``DecoderPool``. The weights are shipped once; volumes come back in memory, are
written where they were made, or are given to a function there, several latents at a time. Of each
volume half of the Fourier ball is evaluated (``raydrgn.model.volume``).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from raydrgn.errors import ConfigError
from raydrgn.fourier.resample import low_pass
from raydrgn.geometry.lattice import check_box
from raydrgn.io.mrc import write_volume
from raydrgn.io.storage import Uri
from raydrgn.remote.fanout import Outcome, fan_out
from raydrgn.remote.session import Allotment
from raydrgn.run.weights import DecoderState
from raydrgn.shapes import Float

T = TypeVar("T")

LATENTS_PER_BATCH = 8

Work = Callable[["VolumeDecoder", Sequence[T]], Any]
"""What is done with a batch of items by the process that holds the decoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeOptions:
    """What is done to volumes before they are given out, in this order."""

    box: int | None = None
    """Smaller box to decode at; pixels grow accordingly."""

    flip: bool = False
    """Change the hand, by reversing the z axis."""

    invert: bool = False
    """Change the sign."""

    low_pass_angstrom: float | None = None
    """Resolution beyond which frequencies are left out."""

    def check(self, box: int) -> None:
        """Refuse what makes no sense for a run's box.

        Raises:
            ConfigError: Naming the option.
        """
        if self.box is not None:
            check_box(self.box)
            if self.box > box:
                raise ConfigError(f"--box {self.box} is larger than the run's box of {box} px.")
        if self.low_pass_angstrom is not None and not 0 < self.low_pass_angstrom < math.inf:
            raise ConfigError(f"--low-pass must be positive, got {self.low_pass_angstrom}.")


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """One volume to make, and where to write it."""

    z: tuple[float, ...]
    uri: Uri


class VolumeDecoder:
    """Holds one decoder on one device.

    A plain class: one process uses it directly, and ``decode_to_files`` makes actors of it.
    """

    def __init__(
        self, state: DecoderState, options: VolumeOptions, *, threads: int | None = None
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._state = state
        self._options = options
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._decoder = state.build(self._device)

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the volumes given out."""
        field = self._state.pixel_size_angstrom * self._state.box
        return field / (self._options.box or self._state.box)

    def decode(self, z: Float[np.ndarray, "b zdim"]) -> Float[np.ndarray, "b d d d"]:
        """Return the volumes of latents."""
        options = self._options
        volumes = self._state.volumes(self._decoder, z, small_box=options.box)
        if options.flip:
            volumes = volumes.flip(-3)
        if options.invert:
            volumes = -volumes
        if options.low_pass_angstrom is not None:
            volumes = low_pass(
                volumes,
                resolution_angstrom=options.low_pass_angstrom,
                pixel_size_angstrom=self.pixel_size_angstrom,
            )
        return volumes.cpu().numpy()

    def write(self, requests: Sequence[VolumeRequest]) -> list[Uri]:
        """Decode and write volumes; arrays stay here, paths are returned."""
        volumes = self.decode(np.array([request.z for request in requests], dtype=np.float32))
        for request, volume in zip(requests, volumes, strict=True):
            write_volume(request.uri, volume, pixel_size_angstrom=self.pixel_size_angstrom)
        return [request.uri for request in requests]


def _write_requested(decoder: VolumeDecoder, requests: Sequence[VolumeRequest]) -> list[Uri]:
    """Decode and write volumes."""
    return decoder.write(requests)


class _ShippedDecoder:
    """A decoder in an actor, whose state lies in the object store once for all actors.

    The reference comes with the work and is looked up by the first call, since Ray cannot promise
    to have a constructor's arguments still when it starts an actor again.
    """

    def __init__(self, options: VolumeOptions, *, threads: int) -> None:
        self._options = options
        self._threads = threads
        self._decoder: VolumeDecoder | None = None

    def run(self, shipped: list[Any], items: Sequence[Any]) -> Any:
        """Do the shipped work on a batch; ``shipped`` refers to the state and to the work."""
        import ray

        if self._decoder is None:
            self._decoder = VolumeDecoder(ray.get(shipped[0]), self._options, threads=self._threads)
        return ray.get(shipped[1])(self._decoder, items)


class DecoderPool:
    """The decoders of one command, in this process or on the actors of an allotment.

    A context manager. An actor that dies is started again, twice at most, and the batch that it
    held is done again; a batch that fails for good is an outcome with its error.
    """

    def __init__(
        self, state: DecoderState, options: VolumeOptions, allotment: Allotment | None = None
    ) -> None:
        options.check(state.box)
        self._state, self._options, self._allotment = state, options, allotment
        self._actors: list[Any] = []
        self._decoder: VolumeDecoder | None = None
        self._shipped: Any = None

    def __enter__(self) -> "DecoderPool":
        allotment = self._allotment
        if allotment is None:
            self._decoder = VolumeDecoder(self._state, self._options)
            return self
        import ray

        decoder_class: Any = ray.remote(_ShippedDecoder)
        self._shipped = ray.put(self._state)
        self._actors = [
            decoder_class.options(
                num_cpus=allotment.cpus, num_gpus=allotment.gpus, max_restarts=2, max_task_retries=2
            ).remote(self._options, threads=allotment.cpus)
            for _ in range(allotment.num_workers)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        if self._actors:
            import ray

            for actor in self._actors:
                ray.kill(actor)
            self._actors = []

    def run(self, work: Work[T], items: Sequence[T]) -> Iterator[Outcome[Sequence[T]]]:
        """Do work on batches of items where the decoders are; yield what became of each batch.

        At most two batches per actor are under way. What ``work`` refers to is shipped once.
        """
        size = LATENTS_PER_BATCH
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        if self._decoder is not None:
            yield from (Outcome(batch, value=work(self._decoder, batch)) for batch in batches)
            return
        import ray

        shipped = [self._shipped, ray.put(work)]
        waiting, holder = [0] * len(self._actors), {}

        def submit(batch: Sequence[T]) -> Any:
            # To whoever has least to do: in turn, all would be as slow as the slowest.
            place = waiting.index(min(waiting))
            waiting[place] += 1
            holder[id(batch)] = place
            return self._actors[place].run.remote(shipped, batch)

        for outcome in fan_out(submit, batches, max_in_flight=2 * len(self._actors)):
            waiting[holder.pop(id(outcome.item))] -= 1
            yield outcome

    def write(
        self, requests: Sequence[VolumeRequest]
    ) -> Iterator[Outcome[Sequence[VolumeRequest]]]:
        """Decode and write volumes where the decoders are."""
        return self.run(_write_requested, requests)

    def apply(
        self,
        function: Callable[[Float[np.ndarray, "b d d d"]], Any],
        z: Float[np.ndarray, "n zdim"],
    ) -> Iterator[Outcome[range]]:
        """Yield what a function makes of the volumes of latents, batch by batch, as they finish.

        Items are the rows of ``z``; volumes stay where they were made.
        """
        return self.run(_Applied(function, z), range(len(z)))  # type: ignore[return-value]

    def volumes(self, z: Float[np.ndarray, "n zdim"]) -> Float[np.ndarray, "n d d d"]:
        """Return the volumes of latents, in memory and in order.

        Raises:
            Exception: What a batch failed of; there is no use in half of an array.
        """
        box = self._options.box or self._state.box
        made = np.empty((len(z), box, box, box), dtype=np.float32)
        for outcome in self.apply(_as_they_are, z):
            if outcome.error:
                raise outcome.error
            made[outcome.item.start : outcome.item.stop] = outcome.value
        return made


@dataclass(frozen=True, slots=True)
class _Applied:
    """A function of volumes as work on rows of latents."""

    function: Callable[[Any], Any]
    z: Float[np.ndarray, "n zdim"]

    def __call__(self, decoder: VolumeDecoder, rows: Sequence[int]) -> Any:
        return self.function(decoder.decode(self.z[rows[0] : rows[-1] + 1]))


def _as_they_are(volumes: Float[np.ndarray, "b d d d"]) -> Float[np.ndarray, "b d d d"]:
    return volumes


def decode_to_files(
    requests: Sequence[VolumeRequest],
    *,
    state: DecoderState,
    options: VolumeOptions,
    allotment: Allotment | None,
) -> Iterator[Outcome[Sequence[VolumeRequest]]]:
    """Decode and write volumes in batches; yield what became of each batch.

    On the actors of ``allotment`` on the connected cluster; or, if it is None, in this process.
    """
    with DecoderPool(state, options, allotment) as pool:
        yield from pool.write(requests)
