"""The runs of a sweep: the same particles, each with the settings of its trial."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from raydrgn.io import storage
from raydrgn.io.half_sets import half_of_particles
from raydrgn.io.storage import Uri
from raydrgn.run.status import find_run
from raydrgn.sweep.scores import Score, Scorer
from raydrgn.sweep.trial_training import TrialTraining
from raydrgn.training.prepare_run import PreparedRun, variant
from raydrgn.training.sharing import SharedShards

HALVES = (1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What one trial trains."""

    number: int
    values: Mapping[str, Any]
    half: int | None = None
    """The first or the second half of the particles, in turn; None for all."""

    @property
    def name(self) -> str:
        """Folder of the run within that of the sweep."""
        suffix = f"-half-{self.half}" if self.half else ""
        return f"trial-{self.number:03d}{suffix}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialPlan:
    """What all trials share."""

    root: Uri
    base: PreparedRun
    """Particles, and the settings that no trial changes."""

    particles: str
    """Which particles, prepared in which way."""

    default_rate: bool
    """Whether the learning rate is that of the recipe for the width of each trial's network."""

    scorer: Scorer | None
    """None for trainings on half of the particles, which are compared when all have ended."""

    milestones: tuple[int, ...]
    keeper: Any
    """Actor of a ``ShardKeeper``."""

    cpus: int
    seconds: Mapping[int, float] = field(default_factory=dict)
    """Time that trials took in earlier commands, by number."""

    def run(self, trial: Trial) -> PreparedRun:
        """Return the run of a trial, new or to go on with."""
        # Epochs are scored while training goes on: all weights are kept.
        values = {**trial.values, "train.keep_epochs": 1}
        if self.default_rate:
            values.setdefault("train.learning_rate", None)
        root = storage.join(self.root, trial.name)
        made = variant(self.base, root, values)
        if trial.half:
            rows = np.flatnonzero(half_of_particles(made.table) == trial.half - 1)
            made = replace(made, table=made.table.select(rows), held_out=None)
        return made

    def training(self, trial: Trial) -> TrialTraining:
        """Return the training of a trial; nothing is started."""
        run = self.run(trial)
        status = find_run(run.root)
        particles = f"{self.particles}, half {trial.half}" if trial.half else self.particles
        return TrialTraining(
            run,
            scorer=self.scorer or _no_score,
            milestones=self.milestones if self.scorer else (),
            shards=SharedShards(self.keeper, particles, trial.name),
            cpus=self.cpus,
            seconds_before=self.seconds.get(trial.number, 0.0),
            is_trained=status is not None and status.is_finished,
        )


def _no_score(root: Uri, epoch: int) -> Score:
    return Score(np.zeros(2))
