"""Times of the steps of a project that are no trainings, as they were measured on one core.

All but the start of workers are CPU seconds, of one thread on a core of an Intel Xeon with other
work. ``SECONDS`` was fitted to ``raydrgn protocol`` on three sets of ``raydrgn simulate`` with a
fifth of junk, with a model and mixtures of factor analysers: 1,500 and 6,000 particles of 48 px
(rounds at 32 and 48 px), and 1,500 of 96 px (rounds at 48 and 96 px; an SNR of 0.2). The check
found that the last one does not match its map, which was passed over. UMAP, k-means and the
regression of the landscape were measured by themselves, with up to 60,000 made-up latents of ten
dimensions.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from raydrgn.clustering.embedding import UMAP_LIMIT
from raydrgn.convergence.epochs import MAX_EMBEDDED, NAMES
from raydrgn.latent.mean_volumes import AVERAGED
from raydrgn.protocol.ensemble import SAMPLED, SCORED, SKETCHED
from raydrgn.protocol.inputs import CHECKED
from raydrgn.protocol.round_training import COMPARED, LONGEST, STEPS
from raydrgn.protocol.rounds import CLUSTERS, PER_CLUSTER
from raydrgn.protocol.settings import TrainingPlan
from raydrgn.workflows.landscape import DEFAULT_BOX

MOST_PARTICLES, LARGEST_BOX = 6_000, 96
"""Of the sets that were measured; beyond them times are computed."""

UMAP_PARTICLE, UMAP_PAIR = 5.2e-4, 7e-9
"""Seconds of each particle, and of each pair among which neighbours are searched. Measured, with
normal latents on an AMD EPYC: 1.65 s with 3,000, 8.0 s with 12,000, 20 s with 25,000 and 42 s with
50,000."""

INTERPOLATED = 3.4e-4
"""Seconds of each particle that is interpolated among those that are fitted; measured with 5,000
among 100,000."""

ANALYSED = CLUSTERS + 2 * 10
"""Volumes of an analysis: of clusters, and along two components."""

PATH, CLASSES = 10, 7
"""Volumes of the path, and classes, typically; the sets that were measured had 6 and 7 classes."""

REGRESSION, PREDICTED = 25.0, 2e-5
"""Seconds of the regression of the landscape from 11,000 volumes, where there are more particles
than volumes, and of each particle that is predicted; measured with 50,000."""

RAY_STARTED, WORKERS_STARTED = 4.0, 4.0
"""Wall-clock seconds until Ray has started on this machine, and until two workers have begun, as
they do for each training and each step of ``DECODING``; measured on two cores with other work."""

DECODING = ("analysis", "selection", "path", "landscape", "occupancies", "occupancy classes")
"""Steps with a pool of workers that decode volumes."""

VolumeSeconds = Callable[[TrainingPlan, int], float]
"""Returns the time in which a network decodes a volume in a box; 0 of a mixture, whose volumes are
part of ``SECONDS``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """What a step works on."""

    particles: int
    box: int
    """Of images and volumes, pixels."""

    volumes: int = 0
    clusters: int = 0
    """Of k-means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSeconds:
    """CPU seconds of a step, by what they grow with."""

    fixed: float
    """Of loading what it needs, figures and pages."""

    particle: float = 0.0
    """Of each particle."""

    pixel: float = 0.0
    """Of each pixel of each particle."""

    voxel: float = 0.0
    """Of each voxel of each volume: of a mixture decoding it, and measuring, drawing, writing."""

    distance: float = 0.0
    """Of each pair of a particle and a cluster."""

    def of(self, amount: Amount) -> float:
        """Return the seconds."""
        images = amount.particles * (self.particle + self.pixel * amount.box**2)
        volumes = self.voxel * amount.volumes * amount.box**3
        return self.fixed + images + volumes + self.distance * amount.particles * amount.clusters


SECONDS = {
    "check": StepSeconds(fixed=5.5, pixel=1.54e-7, voxel=4.4e-6),
    "masks": StepSeconds(fixed=2.0, voxel=9e-7),
    "particles": StepSeconds(fixed=0.05, pixel=1.5e-8),
    "convergence": StepSeconds(fixed=1.9, voxel=2.4e-7),
    "analysis": StepSeconds(fixed=12.6, particle=2e-4, voxel=1.3e-7),
    "proposal": StepSeconds(fixed=1.5, pixel=4.6e-7, voxel=1.42e-6),
    "selection": StepSeconds(fixed=1.2),
    "comparison": StepSeconds(fixed=1.1),
    "path": StepSeconds(fixed=0.5, particle=4.2e-4, voxel=1.2e-7),
    "landscape": StepSeconds(fixed=6.6, voxel=5.5e-9, distance=8e-8),
    "occupancies": StepSeconds(fixed=0.05, voxel=2e-8, distance=8e-8),
    "occupancy classes": StepSeconds(fixed=4.8, particle=1e-4, voxel=1e-7),
    "classes": StepSeconds(fixed=1.3, pixel=3.5e-7, voxel=3.5e-6),
    "report": StepSeconds(fixed=3.0),
}
"""Seconds of each step beside those of UMAP, of the volumes of a network and of the regression."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """A step that will be made, and its seconds."""

    step: str
    seconds: float
    longest_seconds: float
    """Where the training before it goes on."""

    is_measured: bool
    """Whether the sets that were measured had as many particles and as large a box."""

    uses_decoders: bool = False
    """Whether workers are started that decode volumes, where there are several."""

    box: int | None = None
    """Of the images that it writes, pixels; None of other steps."""


def before_rounds(num_particles: int, image_box: int, *, has_model: bool) -> Iterator[StepTime]:
    """Yield the steps before the first round: the check, and the masks of a model."""
    checked = min(num_particles, CHECKED)
    yield _timed("check", Amount(particles=checked, box=image_box, volumes=1))
    if has_model:
        yield _timed("masks", Amount(particles=0, box=image_box, volumes=1))


def smaller_box(num_particles: int, image_box: int, box: int) -> StepTime:
    """Return the step that brings all images to a smaller box."""
    made = _timed(f"particles of {box} px", Amount(particles=num_particles, box=image_box))
    return replace(made, box=box)


def after_training(
    number: int, plan: TrainingPlan, num_particles: int, volume_seconds: VolumeSeconds
) -> Iterator[StepTime]:
    """Yield what follows the training of a round: convergence and analysis.

    Convergence is judged once more each time that an autoencoder goes on.
    """
    assert plan.box is not None
    embedded = umap_seconds(min(num_particles, MAX_EMBEDDED))
    examined = -(-plan.epochs // max(1, plan.epochs // COMPARED))
    of_volume = volume_seconds(plan, plan.box)
    points = Amount(particles=num_particles, box=plan.box, volumes=len(NAMES) * examined)
    once = _timed(
        f"convergence of round {number}",
        points,
        more=examined * embedded + points.volumes * of_volume,
    )
    times = 1 if plan.method == "mfa" else 1 + (LONGEST - 1) * STEPS[plan.method]
    again = (times - 1) * once.seconds
    yield replace(once, longest_seconds=once.seconds + again)
    shown = Amount(particles=num_particles, box=plan.box, volumes=ANALYSED)
    more = umap_seconds(num_particles) + ANALYSED * of_volume
    yield _timed(f"analysis of round {number}", shown, more=more)


def filtering(
    number: int, plan: TrainingPlan, num_particles: int, volume_seconds: VolumeSeconds
) -> Iterator[StepTime]:
    """Yield the steps of a round that drops particles: the proposal and the selection."""
    assert plan.box is not None
    maps = Amount(particles=num_particles, box=plan.box, volumes=CLUSTERS + 1)
    yield _timed(f"proposal of round {number}", maps)
    kept = Amount(particles=num_particles, box=plan.box, volumes=2 * AVERAGED)
    more = kept.volumes * volume_seconds(plan, plan.box)
    yield _timed(f"selection of round {number}", kept, more=more)


def ensemble(
    plan: TrainingPlan,
    num_particles: int,
    image_box: int,
    volume_seconds: VolumeSeconds,
    *,
    has_model: bool,
) -> Iterator[StepTime]:
    """Yield what follows the last round, to the classes and the report."""
    assert plan.box is not None
    box, of_volume = plan.box, volume_seconds(plan, plan.box)
    yield _timed("comparison of rounds", Amount(particles=num_particles, box=box))
    path = Amount(particles=num_particles, box=box, volumes=PATH)
    yield _timed("path", path, more=PATH * of_volume)
    yield _landscape(plan, num_particles, volume_seconds)
    if has_model:
        scored = min(SCORED, num_particles // PER_CLUSTER)
        scores = Amount(particles=num_particles, box=box, volumes=scored, clusters=scored)
        yield _timed("occupancies", scores, more=scored * of_volume)
        centroids = Amount(particles=num_particles, box=box, volumes=CLASSES)
        yield _timed("occupancy classes", centroids, more=CLASSES * of_volume)
    maps = Amount(particles=num_particles, box=image_box, volumes=CLASSES)
    yield _timed("classes", maps, more=CLASSES * of_volume)
    yield _timed("report", Amount(particles=num_particles, box=box))


def _landscape(plan: TrainingPlan, num_particles: int, volume_seconds: VolumeSeconds) -> StepTime:
    """Return the landscape, whose volumes are decoded in a small box."""
    assert plan.box is not None
    box = min(DEFAULT_BOX, plan.box)
    sketched, sampled = min(SKETCHED, num_particles // PER_CLUSTER), min(SAMPLED, num_particles)
    work = Amount(particles=num_particles, box=box, volumes=sketched + sampled, clusters=sketched)
    more = work.volumes * volume_seconds(plan, box)
    if num_particles > sampled:
        more += REGRESSION + PREDICTED * num_particles
    return _timed("landscape", work, more=more)


def start_of_workers(steps: Iterable[StepTime], *, trainings: int) -> StepTime:
    """Return the start of Ray, and of the workers of all trainings and steps that use them."""
    starts = trainings + sum(step.uses_decoders for step in steps)
    seconds = RAY_STARTED + WORKERS_STARTED * starts
    return StepTime(
        step="start of workers",
        seconds=seconds,
        longest_seconds=seconds,
        is_measured=True,
    )


def umap_seconds(num_particles: int) -> float:
    """Return the time of a UMAP; of more particles than are fitted, the others are interpolated."""
    fitted = min(num_particles, UMAP_LIMIT)
    between = INTERPOLATED * (num_particles - fitted)
    return UMAP_PARTICLE * fitted + UMAP_PAIR * fitted**2 + between


def _timed(step: str, amount: Amount, *, more: float = 0.0) -> StepTime:
    """Return a step with its time and what is added to it, seconds."""
    kind = step.partition(" of ")[0]
    seconds = SECONDS[kind].of(amount) + more
    is_measured = amount.particles <= MOST_PARTICLES and amount.box <= LARGEST_BOX
    return StepTime(
        step=step,
        seconds=seconds,
        longest_seconds=seconds,
        is_measured=is_measured,
        uses_decoders=kind in DECODING,
    )
