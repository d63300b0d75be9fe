"""Volumes of latents: decoded by one process, or by actors that hold the decoder."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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

LATENTS_PER_BATCH = 8


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
        if self.low_pass_angstrom is not None and not self.low_pass_angstrom > 0:
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


class _ShippedDecoder:
    """A decoder in an actor, whose state lies in the object store once for all actors.

    The reference comes with the work and is looked up by the first call, since Ray cannot promise
    to have a constructor's arguments still when it starts an actor again.
    """

    def __init__(self, options: VolumeOptions, *, threads: int) -> None:
        self._options = options
        self._threads = threads
        self._decoder: VolumeDecoder | None = None

    def write(self, shipped: list[Any], requests: Sequence[VolumeRequest]) -> list[Uri]:
        """Decode and write volumes."""
        if self._decoder is None:
            import ray

            self._decoder = VolumeDecoder(ray.get(shipped[0]), self._options, threads=self._threads)
        return self._decoder.write(requests)


def decode_to_files(
    requests: Sequence[VolumeRequest],
    *,
    state: DecoderState,
    options: VolumeOptions,
    allotment: Allotment | None,
) -> Iterator[Outcome[Sequence[VolumeRequest]]]:
    """Decode and write volumes in batches; yield what became of each batch.

    On the actors of ``allotment`` on the connected cluster, the weights being shipped once; or, if
    it is None, in this process. An actor that dies is started again, twice at most.
    """
    options.check(state.box)
    batches = [
        requests[start : start + LATENTS_PER_BATCH]
        for start in range(0, len(requests), LATENTS_PER_BATCH)
    ]
    if allotment is None:
        decoder = VolumeDecoder(state, options)
        yield from (Outcome(batch, value=decoder.write(batch)) for batch in batches)
        return
    import ray

    decoder_class: Any = ray.remote(_ShippedDecoder)
    shipped = ray.put(state)
    actors = [
        decoder_class.options(
            num_cpus=allotment.cpus, num_gpus=allotment.gpus, max_restarts=2, max_task_retries=2
        ).remote(options, threads=allotment.cpus)
        for _ in range(allotment.num_workers)
    ]
    turns = itertools.cycle(actors)
    try:
        yield from fan_out(
            lambda batch: next(turns).write.remote([shipped], batch),
            batches,
            max_in_flight=2 * len(actors),
        )
    finally:
        for actor in actors:
            ray.kill(actor)
