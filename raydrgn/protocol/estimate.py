"""Time, memory and disk that a project takes, before anything runs.

Rates are measured on this machine: training steps on made-up images, volumes of made-up networks,
and slices of a mixture of factor analysers at 64 px or less. Times of the other steps are those of
``step_times``. Everything else is computed from sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch

from raydrgn.bench import em
from raydrgn.bench.settings import EmSettings
from raydrgn.bench.step import calls_per_second
from raydrgn.bench.synthetic_steps import make_fixed_step, make_step
from raydrgn.data.store import free_memory
from raydrgn.decoding.pool import LATENTS_PER_BATCH
from raydrgn.geometry.lattice import half_disc
from raydrgn.mfa.config import MfaConfig
from raydrgn.mfa.memory import fit_bytes, needs_grid_file
from raydrgn.model.config import ModelConfig
from raydrgn.model.decoder import build_decoder
from raydrgn.model.device import default_device
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.model.volume import decode_volumes, volume_type
from raydrgn.protocol.round_training import LONGEST
from raydrgn.protocol.settings import TrainingPlan
from raydrgn.protocol.step_times import (
    LARGEST_BOX,
    MOST_PARTICLES,
    StepTime,
    after_training,
    before_rounds,
    ensemble,
    filtering,
    smaller_box,
    start_of_workers,
)
from raydrgn.run.recipe import TrainConfig
from raydrgn.training.disk_room import mfa_weights_bytes, weights_bytes
from raydrgn.training.fixed_step import CapturedStep
from raydrgn.training.gpu_memory import StepMemory
from raydrgn.wording import in_bytes, in_time

MEASURED_BOX = 64
"""Largest box at which slices are timed; time goes with the number of Fourier points."""

MFA_SLICES, MFA_POSTERIORS = 4.0, 1.2
"""Time of an epoch of a mixture over that of the slices of one pass and their adjoint, and over
that of the posteriors of all particles: it has two passes, in one of which slices are derived by
rotations. Measured with 500 to 6,000 images of 32 to 64 px."""

MFA_UPDATE = 1.6e-6
"""Seconds of an update of ten components with its grid of slices, for each voxel; measured at 32
to 128 px."""

MFA_MORE_EPOCHS = 3.0
"""Epochs that take as long as what the first two have beyond others: the mean, random latents,
passes at low frequency. Measured as above: 2 to 4."""

COMPONENTS = MfaConfig().components
"""Of a mixture of factor analysers."""

CPU_BATCH, CPU_FLOP = 2, 5e11
"""Particles of a step that is timed on a CPU, at least: as many as training takes, unless their
matrix products are more than this, which is some seconds. Of small networks the optimiser takes
much of a step, whatever the batch."""

MAPS = 96
"""Maps at full box that the check and up to twenty classes leave, four each and some more."""

LIBRARIES = 0.4e9
"""Memory of a process that trains, beside what it computes with; measured."""

ANALYSES, ANALYSED_PARTICLE = 1.7e9, 20e3
"""Memory of UMAP, volumes and figures: of few particles, and for each more; measured with projects
of 1,200 and 50,000."""

DECODED_BOX = {"cpu": 16, "cuda": 64}
"""Largest box in which volumes of a network are timed; time goes with the number of voxels."""

LONG = 12 * 3600.0
"""Seconds of a project from which on a quicker one is suggested."""

WITHIN = f"as measured to {MOST_PARTICLES:,} particles and {LARGEST_BOX} px, on one core"
BEYOND = f"computed beyond {MOST_PARTICLES:,} particles or {LARGEST_BOX} px, for one core"
"""Where times of steps other than trainings come from."""

VOLUMES = 200
"""Volumes of a round that are written: of clusters, components, paths, states, classes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a step takes."""

    step: str
    seconds: float
    longest_seconds: float
    """Where trainings go on as long as they may."""

    memory_bytes: float
    disk_bytes: float
    basis: str
    """Where the time comes from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectEstimate:
    """What a project takes, step by step."""

    costs: Sequence[Cost]
    device: str

    advice: str = ""
    """The option by which it would take much less time; empty if it takes little."""

    @property
    def seconds(self) -> float:
        """Time of everything."""
        return sum(cost.seconds for cost in self.costs)

    @property
    def longest_seconds(self) -> float:
        """Time of everything where trainings go on as long as they may."""
        return sum(cost.longest_seconds for cost in self.costs)

    @property
    def disk_bytes(self) -> float:
        """Disk of everything."""
        return sum(cost.disk_bytes for cost in self.costs)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table, for a person to read."""
        head = ("step", "time", "if it goes on", "memory", "disk", "time is")
        rows = [
            (
                c.step,
                in_time(c.seconds),
                "at most " + in_time(c.longest_seconds) if c.longest_seconds > c.seconds else "",
                in_bytes(c.memory_bytes),
                in_bytes(c.disk_bytes),
                c.basis,
            )
            for c in self.costs
        ]
        times = (in_time(self.seconds), f"at most {in_time(self.longest_seconds)}")
        memory = in_bytes(max(cost.memory_bytes for cost in self.costs))
        total = ("in all", *times, memory, in_bytes(self.disk_bytes), self.device)
        return [head, *rows, total]


def needed_disk(rounds: Sequence[TrainingPlan], *, num_particles: int, image_box: int) -> float:
    """Return the bytes that all files of a project take at most; computed.

    Trainings that do not converge are extended to ``LONGEST`` times their epochs.
    """
    longest = [replace(plan, epochs=LONGEST * plan.epochs) for plan in rounds]
    costs = [
        _stacks(rounds, num_particles, image_box),
        *(_disk(plan, num_particles) for plan in longest),
    ]
    return sum(costs) + MAPS * 4 * image_box**3


def estimate(
    rounds: Sequence[TrainingPlan],
    *,
    num_particles: int,
    image_box: int,
    has_model: bool,
    has_workers: bool = False,
) -> ProjectEstimate:
    """Measure rates, and return what each step takes, in the order in which they are made.

    Steps that the project has already are counted, too.

    Args:
        rounds: All trainings, in their order; each has its box.
        num_particles: Particles; all of them, since how many are kept is not known.
        image_box: Edge of the images as they are.
        has_model: Whether occupancies of an atomic model are scored.
        has_workers: Whether Ray is started for several workers.
    """
    device = default_device()
    volume = cache(partial(_volume_seconds, device=device))
    training = cache(partial(_training, num_particles=num_particles, device=device))
    items: list[StepTime | Cost] = []
    items += before_rounds(num_particles, image_box, has_model=has_model)
    made = {image_box}
    for number, plan in enumerate(rounds, start=1):
        assert plan.box is not None
        if plan.box not in made:
            made.add(plan.box)
            items.append(smaller_box(num_particles, image_box, plan.box))
        trained = training(plan)
        items.append(replace(trained, step=f"round {number}: {trained.step}"))
        items += after_training(number, plan, num_particles, volume)
        if number < len(rounds):
            items += filtering(number, plan, num_particles, volume)
    items += ensemble(rounds[-1], num_particles, image_box, volume, has_model=has_model)
    if has_workers:
        steps = [item for item in items if isinstance(item, StepTime)]
        items.append(start_of_workers(steps, trainings=len(rounds)))
    of_step = partial(_cost, num_particles=num_particles, image_box=image_box)
    costs = [item if isinstance(item, Cost) else of_step(item) for item in items]
    found = ProjectEstimate(costs=costs, device=f"trainings on {device.type}")
    last = rounds[-1]
    if last.width is None or found.seconds < LONG:
        return found
    other = estimate(
        [*rounds[:-1], TrainingPlan(box=last.box)],
        num_particles=num_particles,
        image_box=image_box,
        has_model=has_model,
        has_workers=has_workers,
    )
    return replace(found, advice=_advice(found, last, other))


def _advice(found: ProjectEstimate, last: TrainingPlan, other: ProjectEstimate) -> str:
    """Return by what a project takes less time, if it does.

    Args:
        found: Of the project as it is planned.
        last: Training of its last round.
        other: Of the project with a mixture in the last round, too.
    """
    if other.seconds > found.seconds / 2:
        return ""
    return (
        f"With a mixture of factor analysers in the last round, too (--high {last.box}), the whole "
        f"takes {in_time(other.seconds)} instead of {in_time(found.seconds)}."
    )


def _training(plan: TrainingPlan, num_particles: int, device: torch.device) -> Cost:
    """Return what a training takes."""
    seconds, basis = _seconds(plan, num_particles, device)
    return Cost(
        step=plan.in_words(),
        seconds=seconds,
        longest_seconds=LONGEST * seconds,
        memory_bytes=_memory(plan, num_particles, device),
        disk_bytes=_disk(plan, num_particles),
        basis=basis,
    )


def _cost(step: StepTime, *, num_particles: int, image_box: int) -> Cost:
    """Return what a step that is no training takes."""
    memory, disk = ANALYSES + ANALYSED_PARTICLE * num_particles, 0.0
    if step.step == "classes":
        disk = MAPS * 4.0 * image_box**3
    elif step.step == "check" or step.box is not None:
        memory = LIBRARIES + 3 * 16 * (2 * image_box) ** 3
        disk = 4.0 * num_particles * (step.box or 0) ** 2
    return Cost(
        step=step.step,
        seconds=step.seconds,
        longest_seconds=step.longest_seconds,
        memory_bytes=memory,
        disk_bytes=disk,
        basis=WITHIN if step.is_measured else BEYOND,
    )


def _volume_seconds(plan: TrainingPlan, box: int, device: torch.device) -> float:
    """Return the time in which a network decodes a volume; 0 of a mixture (see ``step_times``)."""
    if plan.width is None:
        return 0.0
    assert plan.box is not None
    network = _network(plan)
    decoder = build_decoder(network, plan.box).to(device).eval()
    z = torch.zeros(LATENTS_PER_BATCH, network.zdim, device=device)
    small = min(box, DECODED_BOX[device.type])
    dtype = volume_type(device)
    decode = partial(decode_volumes, decoder, z, box=plan.box, small_box=small, amp_dtype=dtype)
    decode()
    return (box / small) ** 3 / (calls_per_second(decode, device) * len(z))


def _seconds(plan: TrainingPlan, num_particles: int, device: torch.device) -> tuple[float, str]:
    """Return the time of a training, and where it comes from."""
    assert plan.box is not None
    if plan.width is None:
        box = min(plan.box, MEASURED_BOX)
        rates = em.run(EmSettings(box=box, device=device.type))
        of_slices = (1 / rates.gathered_per_s + 1 / rates.inserted_per_s) * (plan.box / box) ** 2
        of_image = MFA_SLICES * of_slices + MFA_POSTERIORS / rates.posterior_per_s
        basis = "computed from a measured rate"
        if box < plan.box:
            basis += f" at {box} px"
        of_epoch = num_particles * of_image + MFA_UPDATE * plan.box**3
        return (plan.epochs + MFA_MORE_EPOCHS) * of_epoch, basis
    train = TrainConfig()
    if device.type == "cpu":
        count = min(max(int(CPU_FLOP / _flop(plan)), CPU_BATCH), train.batch_size)
        train = replace(train, batch_size=count)
    network, first = _network(plan), 1
    if device.type == "cuda":  # captured, as in all but short trainings
        first += CapturedStep.WARM_UP
        step = make_fixed_step(network, train, box=plan.box, device=device, is_compiled=True)
    else:
        step = make_step(network, train, box=plan.box, device=device)
    for _ in range(first):
        step()
    rate = train.batch_size * calls_per_second(step, device)
    return plan.epochs * num_particles / rate, "computed from measured steps"


def _network(plan: TrainingPlan) -> ModelConfig:
    assert plan.width is not None
    return ModelConfig(
        encoder_width=plan.width,
        decoder_width=plan.width,
        encoder_layers=plan.layers,
        decoder_layers=plan.layers,
    )


def _flop(plan: TrainingPlan) -> float:
    """Return the operations of a particle's matrix products, forward and backward."""
    assert plan.box is not None
    with torch.device("meta"):
        decoder = build_decoder(_network(plan), plan.box)
    weights = sum(parameter.numel() for parameter in decoder.parameters())
    return 6 * weights * len(half_disc(plan.box)) * TrainConfig().points_fraction


def _memory(plan: TrainingPlan, num_particles: int, device: torch.device) -> float:
    """Return what a training takes in memory: libraries, images, and grids or network and batch."""
    assert plan.box is not None
    points = len(half_disc(plan.box))
    images = 8.0 * num_particles * points
    if plan.width is None:
        free = free_memory(device)
        on_disk = needs_grid_file(plan.box, COMPONENTS, device=device, free=free)
        fit = fit_bytes(plan.box, COMPONENTS, device=device, is_in_slabs=on_disk)
        return LIBRARIES + images + fit
    train, network = TrainConfig(), _network(plan)
    with torch.device("meta"):
        vae = HeterogeneousVAE(network, box=plan.box, num_pixels=2 * points)
    compared = int(points * train.points_fraction)
    step = StepMemory.of(vae, num_points=points, num_compared=compared, uses_amp=False)
    return LIBRARIES + images + step.network + train.batch_size * step.per_particle


def _model_bytes(plan: TrainingPlan) -> float:
    """Return the size of the weights of one epoch: parameters and moments, or volumes."""
    assert plan.box is not None
    if plan.width is None:
        return mfa_weights_bytes(COMPONENTS, plan.box)
    return weights_bytes(_network(plan), plan.box)


def _disk(plan: TrainingPlan, num_particles: int) -> float:
    """Return the bytes that a round writes: weights and latents of all epochs, and volumes."""
    assert plan.box is not None
    of_particle = 2 * 4 * 10 + (0 if plan.width else 8 * 7)
    of_epoch = _model_bytes(plan) + num_particles * of_particle
    return plan.epochs * of_epoch + VOLUMES * 4 * plan.box**3


def _stacks(rounds: Sequence[TrainingPlan], num_particles: int, image_box: int) -> float:
    """Return the bytes of the stacks in smaller boxes."""
    boxes = {plan.box for plan in rounds if plan.box} - {image_box}
    return sum(4.0 * num_particles * box**2 for box in boxes)
