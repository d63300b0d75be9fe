"""Scoring of occupancies beside decoding alone: the price of masks, memory, and workers.

Rounds alternate, so that ratios hold on a machine whose speed drifts. Each worker has one core (or
a GPU), whatever their number.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy import sparse

from raydrgn.bench.prepare import peak_megabytes
from raydrgn.bench.settings import OccupancyBenchSettings
from raydrgn.bench.workers import OneCoreWorkers
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool, VolumeDecoder
from raydrgn.occupancy.masked_sums import MaskedSums, ScoreLatents
from raydrgn.occupancy.scored_volumes import ScoredVolumes
from raydrgn.occupancy.scoring import score_volumes
from raydrgn.occupancy.subunits import SubunitSet
from raydrgn.remote.fanout import Outcome
from raydrgn.remote.progress import Progress, silent
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import open_run
from raydrgn.shapes import Float, Int

ROUNDS = 5
VOLUMES_PER_ROUND = 64  # of each worker
MASK_RADIUS = 0.09  # of the box: a protein of a ribosome


@dataclass(frozen=True, kw_only=True, slots=True)
class OccupancyRates:
    """Volumes per second; medians over rounds."""

    decode: float
    """Of one worker that decodes and does nothing with the volumes."""

    score: float
    """Of one worker that decodes and scores."""

    share: float
    """Of the second in the first, median of the rounds' ratios."""

    workers: float
    """Of all workers that decode and score."""

    speed_up: float
    """Of the third over the second, median of the rounds' ratios."""

    whole: float
    """Of the whole command with all workers, its parts and tables written."""

    worker_growth_megabytes: float
    """Growth of a worker's largest memory from the first tenth of the volumes to the end."""

    own_growth_megabytes: float
    """The same of the process that holds the table."""


@dataclass(frozen=True, slots=True)
class _Decode:
    """Decodes, and keeps nothing."""

    z: Float[np.ndarray, "n zdim"]

    def __call__(self, decoder: VolumeDecoder, rows: Sequence[int]) -> int:
        return len(decoder.decode(self.z[list(rows)]))


@dataclass(frozen=True, slots=True)
class _Watched:
    """Scores, and returns the largest memory that the process has had too, in MB."""

    work: ScoreLatents

    def __call__(self, decoder: VolumeDecoder, rows: Sequence[int]) -> tuple[MaskedSums, float]:
        return self.work(decoder, rows), peak_megabytes()


def run(settings: OccupancyBenchSettings, *, progress: Progress = silent) -> OccupancyRates:
    """Time the decoder of a run's last epoch with and without masks, alone and by all workers.

    Raises:
        RaydrgnError: If the run or the box does not allow it.
    """
    opened, workers = open_run(settings.run), settings.workers
    options = VolumeOptions(box=settings.box)
    options.check(opened.box)
    epoch = opened.epoch(None)
    state, latents = opened.decoder(epoch), opened.latents(epoch)
    rows = np.random.default_rng(0).integers(len(latents), size=settings.num_volumes)
    z = latents[rows]
    work = ScoreLatents(made_up_masks(settings.num_masks, settings.box), z)
    decode, scored, many = [], [], []
    with (
        OneCoreWorkers(workers=workers, address=settings.address) as several,
        OneCoreWorkers(workers=1, address=settings.address) as one,
        DecoderPool(state, options, one) as alone,
        DecoderPool(state, options, several) as together,
    ):
        for _ in range(ROUNDS + 1):  # the first warms up
            decode.append(_rate(alone, _Decode(z), VOLUMES_PER_ROUND))
            scored.append(_rate(alone, work, VOLUMES_PER_ROUND))
            many.append(_rate(together, work, VOLUMES_PER_ROUND * workers))
        whole, growth, own = _whole(together, work, progress)
    pairs = list(zip(decode, scored, many, strict=True))[1:]
    return OccupancyRates(
        decode=median(d for d, _, _ in pairs),
        score=median(s for _, s, _ in pairs),
        share=median(s / d for d, s, _ in pairs),
        workers=median(m for _, _, m in pairs),
        speed_up=median(m / s for _, s, m in pairs),
        whole=whole,
        worker_growth_megabytes=growth,
        own_growth_megabytes=own,
    )


def made_up_masks(count: int, box: int) -> SubunitSet:
    """Return balls at random positions within the middle half of a box."""
    generator = np.random.default_rng(0)
    ticks = np.arange(box) - box / 2
    grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)
    rows = []
    for _ in range(count):
        centre = generator.uniform(-box / 4, box / 4, 3)
        inside = np.square(grid - centre).sum(axis=-1) <= (MASK_RADIUS * box) ** 2
        rows.append(sparse.csr_array(inside.reshape(1, -1).astype(np.float32)))
    return SubunitSet(
        names=tuple(f"ball{number}" for number in range(count)),
        box=box,
        pixel_size_angstrom=0.0,
        weights=sparse.csr_array(sparse.vstack(rows)),
    )


def _rate(pool: DecoderPool, work: Callable[..., object], count: int) -> float:
    began = time.perf_counter()
    for outcome in pool.run(work, range(count)):
        if outcome.error:
            raise outcome.error
    return count / (time.perf_counter() - began)


def _whole(pool: DecoderPool, work: ScoreLatents, progress: Progress) -> tuple[float, float, float]:
    """Score everything; return the rate, and how memory grew in a worker and here."""
    count = len(work.z)
    wanted = ScoredVolumes(names=tuple(map(str, range(count))), z=work.z)
    peaks = np.zeros((2, 2))  # after a tenth and at the end; of workers and of this process

    def scoring(rows: Int[np.ndarray, " m"]) -> Iterator[Outcome[Sequence[int]]]:
        done = 0
        for outcome in pool.run(_Watched(work), rows.tolist()):
            if outcome.error:
                raise outcome.error
            found, megabytes = outcome.value
            done += len(outcome.item)
            first = 0 if done <= count / 10 else 1
            peaks[first:] = np.maximum(peaks[first:], [megabytes, peak_megabytes()])
            yield Outcome(outcome.item, value=found)

    with tempfile.TemporaryDirectory(prefix="raydrgn-bench-") as place:
        began = time.perf_counter()
        score_volumes(wanted, work.subunits, scoring, ResultFolder(place), progress=progress)
        seconds = time.perf_counter() - began
    worker, own = peaks[1] - peaks[0]
    return count / seconds, float(worker), float(own)
