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
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool, VolumeDecoder
from raydrgn.occupancy.masked_sums import Scored, ScoreLatents
from raydrgn.occupancy.scored_volumes import WantedVolumes
from raydrgn.occupancy.scoring import score
from raydrgn.occupancy.subunits import SubunitSet
from raydrgn.remote.fanout import Outcome
from raydrgn.remote.resources import Resources
from raydrgn.remote.session import Allocation, allocated
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

ROUNDS = 5
VOLUMES_PER_ROUND = 64  # of each worker
MASK_RADIUS = 0.09  # of the box: a protein of a ribosome

Progress = Callable[[int, int], None]


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
    """Decodes, and forgets."""

    z: Float[np.ndarray, "n zdim"]

    def __call__(self, decoder: VolumeDecoder, rows: Sequence[int]) -> int:
        return len(decoder.decode(self.z[list(rows)]))


@dataclass(frozen=True, slots=True)
class _Watched:
    """Scores, and says how much memory the process has had at most, in MB."""

    work: ScoreLatents

    def __call__(self, decoder: VolumeDecoder, rows: Sequence[int]) -> tuple[Scored, float]:
        return self.work(decoder, rows), peak_megabytes()


def measure(
    run: RunReader,
    *,
    num_volumes: int,
    num_masks: int,
    box: int,
    workers: int,
    address: str | None,
    progress: Progress,
) -> OccupancyRates:
    """Time a run's decoder with and without masks, with one worker and with all.

    Args:
        run: Whose last epoch is decoded.
        num_volumes: Of the run with all workers.
        num_masks: Balls at random places.
        box: To decode at.
        workers: At most.
        address: Cluster to join, or None to start Ray here.
        progress: Told how many of the volumes are scored.
    """
    epoch = run.epoch(None)
    state, latents = run.decoder(epoch), run.latents(epoch)
    z = latents[np.random.default_rng(0).integers(len(latents), size=num_volumes)]
    work = ScoreLatents(made_up_masks(num_masks, box), z)
    options = VolumeOptions(box=box)
    resources = Resources(num_workers=workers, cpus=1)
    with allocated(resources, address) as allocation:
        assert allocation is not None
        one = Allocation(1, allocation.cpus, allocation.gpus)
        with (
            DecoderPool(state, options, one) as alone,
            DecoderPool(state, options, allocation) as together,
        ):
            decode, scored, many = [], [], []
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
    """Return balls at random places within the middle half of a box."""
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
    wanted = WantedVolumes(names=tuple(map(str, range(count))), z=work.z)
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
        score(wanted, work.subunits, scoring, ResultFolder(place), progress=progress)
        seconds = time.perf_counter() - began
    worker, own = peaks[1] - peaks[0]
    return count / seconds, float(worker), float(own)
