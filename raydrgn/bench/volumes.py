"""Decoding of volumes: beside the machine's limit, the whole ball, and more workers.

Rounds alternate, so that ratios hold on a machine whose speed drifts.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from raydrgn.bench import step
from raydrgn.bench.prepare import peak_megabytes
from raydrgn.bench.settings import DecodingBenchSettings
from raydrgn.bench.workers import OneCoreWorkers
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import LATENTS_PER_BATCH, DecoderPool, VolumeDecoder
from raydrgn.fourier.transforms import fft_centred
from raydrgn.geometry.lattice import half_ball
from raydrgn.model.config import ModelConfig
from raydrgn.model.decoder import Decoder, build_decoder
from raydrgn.model.device import default_device
from raydrgn.model.linear import LinearDecoder
from raydrgn.model.volume import ROWS_PER_PASS, decode_volumes, volume_type
from raydrgn.remote.progress import Progress, silent
from raydrgn.run.weights import DecoderState
from raydrgn.shapes import Float

ROUNDS = 5
WHOLE_BATCH_BOX = 64
"""Box, in pixels, up to which the whole ball is decoded of a batch of volumes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodingRates:
    """What a volume costs in one process; medians over rounds."""

    device: str
    precision: str
    volumes_per_s: float
    flop_per_volume: float
    """Of matrix products."""

    flop_per_s: float
    limit_flop_per_s: float
    share: float
    """Of the limit, median of the rounds' ratios."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeBall:
    """Half of the ball, as it is decoded, beside the whole one in float32."""

    half_of_full: float
    """Time of half of the ball over time of the whole; both once, after a first time."""

    difference: float
    """Largest difference between the volumes, over their SD."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolRates:
    """Volumes per second of decoder pools; medians over rounds."""

    one: float
    """Of one worker with one core (or a GPU)."""

    workers: float
    """Of all workers, each with as much."""

    speed_up: float
    """Median of the rounds' ratios."""

    growth_megabytes: float
    """Growth of a worker's largest memory after the first tenth of the volumes."""


def run(
    settings: DecodingBenchSettings, *, progress: Progress = silent
) -> tuple[DecodingRates, WholeBall, PoolRates | None]:
    """Time decoding in this process, and by several workers if a number of volumes is given."""
    state = decoder_state(settings.box, width=settings.width, layers=settings.layers)
    device = default_device()
    rates, whole = measure(state, device=device), compare_whole(state, device=device)
    pools = measure_pools(state, settings, progress=progress) if settings.num_volumes else None
    return rates, whole, pools


def decoder_state(box: int, *, width: int, layers: int) -> DecoderState:
    """Return an untrained decoder of the protocol's kind; what it decodes costs the same."""
    torch.manual_seed(0)
    model = ModelConfig(decoder_width=width, decoder_layers=layers)
    return DecoderState(
        model=model,
        box=box,
        pixel_size_angstrom=1.0,
        scale=1.0,
        offset=0.0,
        corners=False,
        tensors=dict(build_decoder(model, box).state_dict()),
    )


def latents(count: int, zdim: int) -> Float[np.ndarray, "n zdim"]:
    """Return seeded latents."""
    return np.random.default_rng(0).normal(size=(count, zdim)).astype(np.float32)


def measure(state: DecoderState, *, device: torch.device) -> DecodingRates:
    """Time a batch of volumes in this process beside one large product."""
    decoder, z, dtype = _decoder(state, device), _latents(state, device), volume_type(device)

    def half() -> Tensor:
        return decode_volumes(decoder, z, box=state.box, amp_dtype=dtype)

    with FlopCounterMode(display=False) as counter:
        half()
    flop = counter.get_total_flops() / len(z)
    product = step.product(dtype or torch.float32, device)
    product()
    rounds = [
        (
            len(z) * step.calls_per_second(half, device),
            2 * step.LIMIT_SIZE[device.type] ** 3 * step.calls_per_second(product, device),
        )
        for _ in range(ROUNDS)
    ]
    rate = median(r for r, _ in rounds)
    return DecodingRates(
        device=step.device_name(device),
        precision="float16" if dtype else "float32",
        volumes_per_s=rate,
        flop_per_volume=flop,
        flop_per_s=rate * flop,
        limit_flop_per_s=median(limit for _, limit in rounds),
        share=median(r * flop / limit for r, limit in rounds),
    )


def compare_whole(state: DecoderState, *, device: torch.device) -> WholeBall:
    """Compare half of the ball, as it is decoded, with the whole one in float32.

    Each is timed for about a second, or once, after a first time that does not count. Beyond 64 px
    both are of fewer volumes than a batch, down to one: the points of one pass times its volumes
    are as many then, so that a volume takes as long.
    """
    count = LATENTS_PER_BATCH * WHOLE_BATCH_BOX**3 // state.box**3
    decoder, z = _decoder(state, device), _latents(state, device)[: max(count, 1)]

    def half() -> Tensor:
        return decode_volumes(decoder, z, box=state.box, amp_dtype=volume_type(device))

    def full() -> Tensor:
        return decode_whole_ball(decoder, z, box=state.box)

    made = half()
    difference = (full() - made).abs().max() / made.std()
    half_per_s, full_per_s = (step.calls_per_second(way, device) for way in (half, full))
    return WholeBall(half_of_full=full_per_s / half_per_s, difference=float(difference))


def _decoder(state: DecoderState, device: torch.device) -> Decoder:
    decoder = state.build(device)
    assert not isinstance(decoder, LinearDecoder)  # that of ``decoder_state``
    return decoder


def _latents(state: DecoderState, device: torch.device) -> Float[Tensor, "b zdim"]:
    """Return the latents of a batch."""
    return torch.from_numpy(latents(LATENTS_PER_BATCH, state.zdim)).to(device)


@torch.inference_mode()
def decode_whole_ball(
    decoder: Decoder, z: Float[Tensor, "b zdim"], *, box: int
) -> Float[Tensor, "b d d d"]:
    """Return the volumes of latents with every point of the ball evaluated, as a comparison.

    A decoder has the symmetry v(−k) = conj v(k) but in the plane kz = 0, where only one of each
    pair is already right; there the Friedel mate is evaluated at the same point.
    """
    half = half_ball(box).to(z.device)
    in_plane = half[:, 2] == 0
    asked = torch.cat([half, torch.where(in_plane[:, None], half, -half)])
    parts = [
        decoder.values(chunk.to(torch.float32)[None] / box, z)
        for chunk in asked.split(max(ROWS_PER_PASS // len(z), 1))
    ]
    here, mates = torch.view_as_complex(torch.cat(parts, dim=1).contiguous()).chunk(2, dim=1)
    mates = torch.where(in_plane, mates.conj(), mates)
    hartley = torch.zeros(len(z), box, box, box, device=z.device)
    for points, values in ((-half, mates), (half, here)):  # the origin is its own Friedel mate
        inside = (points < box // 2).all(dim=1)
        x, y, w = (points[inside] + box // 2).unbind(1)
        hartley[:, w, y, x] = (values.real - values.imag)[:, inside]
    spectrum = fft_centred(hartley, ndim=3)
    return (spectrum.real - spectrum.imag) / box**3


def measure_pools(
    state: DecoderState, settings: DecodingBenchSettings, *, progress: Progress = silent
) -> PoolRates:
    """Time one worker beside all of them, in turn, and watch the memory of a worker."""
    workers = settings.workers
    share = max(LATENTS_PER_BATCH, settings.num_volumes // ((ROUNDS + 1) * (1 + workers)))
    z = latents(share * workers, state.zdim)
    total, done = (ROUNDS + 1) * share * (1 + workers), 0
    peaks = np.zeros(2)  # after a tenth, and at the end

    def rate(pool: DecoderPool, count: int) -> float:
        nonlocal done
        began = time.perf_counter()
        for outcome in pool.run(DecodeOnly(z), range(count)):
            if outcome.error:
                raise outcome.error
            done += len(outcome.item)
            peaks[0 if done <= total / 10 else 1 :] = max(peaks[1], outcome.value)
            progress("decoding", done, total, unit="volumes")
        return count / (time.perf_counter() - began)

    with (
        OneCoreWorkers(workers=workers, address=settings.address) as several,
        OneCoreWorkers(workers=1, address=settings.address) as one,
        DecoderPool(state, VolumeOptions(), one) as alone,
        DecoderPool(state, VolumeOptions(), several) as together,
    ):
        rounds = [(rate(alone, share), rate(together, share * workers)) for _ in range(ROUNDS + 1)]
    rounds = rounds[1:]  # the first warms up
    return PoolRates(
        one=median(a for a, _ in rounds),
        workers=median(b for _, b in rounds),
        speed_up=median(b / a for a, b in rounds),
        growth_megabytes=float(peaks[1] - peaks[0]),
    )


@dataclass(frozen=True, slots=True)
class DecodeOnly:
    """Decodes, and returns the largest memory that the process has had, in MB."""

    z: Float[np.ndarray, "n zdim"]

    def __call__(self, decoder: VolumeDecoder, rows: Sequence[int]) -> float:
        """Decode some rows."""
        decoder.decode(self.z[list(rows)])
        return peak_megabytes()
