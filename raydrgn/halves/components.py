"""How many components and states the particles support: likelihood of each half by the other's fit.

Of a mixture of factor analysers only. The images of a half are new to the volumes of the other.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure

from raydrgn.data.shard import ResidentShard
from raydrgn.halves.splitting import HALVES
from raydrgn.mfa.columns import COLUMNS
from raydrgn.mfa.held_out import gains_of_states, image_likelihoods
from raydrgn.mfa.particles import ParticleEstimates
from raydrgn.mfa.workers import WorkerParticles
from raydrgn.remote.progress import Progress
from raydrgn.reporting.figures import PALETTE
from raydrgn.run.config import RunConfig
from raydrgn.run.mixture import read_mixture
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float
from raydrgn.training.collectives import WorkerGroup
from raydrgn.wording import counted

log = logging.getLogger(__name__)

MOST_PARTICLES = 4000
"""Of a half, that the likelihood is of; of more, this number is taken evenly."""

LEAST_GAIN = 1e-3
"""Nats for each image, below which a number of components or states explains no more."""

LEAST_SHARE = 0.05
"""Of the largest gain, below which a number of states explains no more. Latents of one state are
not exactly normal, and more normal distributions describe them a little better."""

STATES = (1, 2, 5, 10, 20, 40, 80)
"""Numbers of states that are compared."""

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Gains:
    """What each half's images gain by numbers of components, or of states, of the other's fit."""

    numbers: Sequence[int]
    by_half: Sequence[Float[np.ndarray, "n numbers"]]
    """Logarithms of probabilities over those of the first number, nats."""

    least_share: float = 0.0
    """Share of the largest gain that does not count."""

    @property
    def means(self) -> Float[np.ndarray, "2 numbers"]:
        """Mean gain of the images of each half."""
        return np.stack([gains.mean(axis=0) for gains in self.by_half])

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Numbers and mean gains as a table."""
        return [
            (str(number), *(f"{gain:.4f}" for gain in gains))
            for number, gains in zip(self.numbers, self.means.T, strict=True)
        ]

    @property
    def supported(self) -> int:
        """The smallest number whose gain is within a standard error of the largest gain.

        Or within ``least_share`` of it, or ``LEAST_GAIN``, which rounding errors of components
        without density have not.
        """
        gains = np.concatenate(self.by_half)
        best = int(gains.mean(axis=0).argmax())
        lost = gains[:, best : best + 1] - gains
        error = lost.std(axis=0) / np.sqrt(len(lost))
        limit = max(LEAST_GAIN, self.least_share * gains.mean(axis=0)[best])
        enough = lost.mean(axis=0) <= np.maximum(error, limit)
        return self.numbers[int(np.argmax(enough))]


@dataclass(frozen=True, slots=True)
class Support:
    """What other images support of a fit."""

    components: Gains
    states: Gains

    @property
    def summary(self) -> str:
        """The answer in a sentence or two."""
        most, found = self.components.numbers[-1], self.components.supported
        text = f"The other half's images support {found} of {most} components"
        if found == most:
            again = f"raydrgn train PARTICLES --method mfa --components {2 * most} -o OUT"
            text += f" (more may be found by `{again}`)"
        return f"{text}, and {_in_words(self.states.supported, self.states.numbers)}."


def _in_words(supported: int, tried: Sequence[int]) -> str:
    """Return a number of states, of which not all were tried."""
    before = [number for number in tried if number < supported]
    if not before:
        return counted(supported, "state")
    if supported == tried[-1]:
        return f"more than {before[-1]} states"
    least = before[-1] + 1
    return f"{supported} states" if least == supported else f"{least} to {supported} states"


def measure_support(runs: Sequence[RunReader], *, progress: Progress) -> Support | None:
    """Return what the images of each half support of the other's fit; None if none can be compared.

    Args:
        runs: The finished fits of both halves.
        progress: Called with the fits that are done.
    """
    components, states = [], []
    for half, run in zip(HALVES, runs, strict=True):
        progress("comparing components", half - 1, len(HALVES), unit="halves")
        config = RunConfig.read(run.files.config)
        assert config.mfa is not None
        names = sorted(set(run.particles().optics_groups()))
        model = read_mixture(run, run.epoch(None)).of_groups(len(names))
        samples = [_sample(one, config, names) for one in (run, runs[2 - half])]
        if not all(samples):
            log.warning(
                "how many components and states the particles support is not known: no particle of "
                "a half is left without junk and optics groups that the other half lacks"
            )
            return None
        own, other = (
            image_likelihoods(model, *sample, has_contrast=config.mfa.contrast)
            for sample in samples
            if sample is not None
        )
        seed = config.train.seed
        components.append(other.by_components - other.by_components[:, :1])
        states.append(gains_of_states(own, other, STATES, seed=seed))
    progress("comparing components", len(HALVES), len(HALVES), unit="halves")
    numbers = range(components[0].shape[1])
    return Support(Gains(numbers, components), Gains(STATES, states, LEAST_SHARE))


def _sample(
    run: RunReader, config: RunConfig, names: list[str]
) -> tuple[WorkerParticles, ParticleEstimates] | None:
    """Return some of a run's particles that are no junk, and what it has estimated of them.

    None if there are no such particles.

    Args:
        run: The half that the particles are of.
        config: Of the fit that they are compared with.
        names: Optics groups whose noise that fit knows.
    """
    table, found = run.particles(), run.estimates(run.epoch(None))
    groups = np.array(table.optics_groups(), dtype=object)
    rows = np.flatnonzero((found["null_probability"] < 0.5) & np.isin(groups, names))
    if not len(rows):
        return None
    if len(rows) > MOST_PARTICLES:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_PARTICLES).astype(np.int64)]
    columns = np.stack([found[name][rows] for name in COLUMNS], axis=1)
    shard = ResidentShard.in_memory(
        table.select(rows), config.data, pixel_size_angstrom=config.pixel_size_angstrom
    )
    particles = WorkerParticles(
        shard=shard,
        group=WorkerGroup(),
        num_particles=len(rows),
        first_row=0,
        seed=config.train.seed,
        optics_groups=torch.tensor([names.index(name) for name in shard.optics_groups]),
        optics_shares=torch.full((len(names),), 1 / len(names)),
        optics_names=names,
        device=CPU,
        on_batch=lambda count: None,
    )
    return particles, ParticleEstimates.from_table(columns, device=CPU)


def support_figure(support: Support) -> Figure:
    """Draw the gains of both halves over the numbers of components and of states."""
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    panels = (
        ("components", "gain over the mean alone", support.components),
        ("states", "gain over one state", support.states),
    )
    for axis, (name, label, gains) in zip(figure.subplots(1, 2), panels, strict=True):
        for half, means in zip(HALVES, gains.means, strict=True):
            axis.plot(
                gains.numbers, means, marker=".", color=PALETTE[half - 1],
                label=f"images of half {3 - half}",
            )  # fmt: skip
        axis.axvline(gains.supported, color="#bbbbbb", linewidth=1, zorder=0)
        axis.set(xlabel=f"number of {name}", ylabel=f"{label}, nats per image")
        axis.spines[["top", "right"]].set_visible(False)
    axis.set_xscale("log")
    axis.set_xticks(STATES, [str(number) for number in STATES], minor=False)
    axis.minorticks_off()
    axis.legend(frameon=False)
    return figure
