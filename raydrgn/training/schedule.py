"""Learning rate over steps."""

import math
from dataclasses import dataclass

from raydrgn.run.config import RunConfig
from raydrgn.run.recipe import TrainConfig
from raydrgn.training.plan import BatchPlan


@dataclass(frozen=True, slots=True)
class RateSchedule:
    """The learning rate of each step of a run."""

    config: TrainConfig
    peak: float
    """The highest rate."""

    steps_per_epoch: int

    @classmethod
    def of(cls, config: RunConfig, plan: BatchPlan) -> "RateSchedule":
        """Return the schedule of a run."""
        train = config.train
        return cls(train, train.peak_rate(config.model.decoder_width), plan.num_steps)

    def __call__(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step, counted from 0 within its epoch, from 1."""
        return learning_rate(
            self.config,
            peak=self.peak,
            step=(epoch - 1) * self.steps_per_epoch + step,
            steps_per_epoch=self.steps_per_epoch,
        )


def learning_rate(config: TrainConfig, *, peak: float, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0 over the whole run.

    It rises linearly to ``peak`` over the warm-up, which is at most half of all steps, then stays,
    or falls to zero at the last step as half a period of a cosine. In a run that has gone on after
    its end (``restarted_after``), it rises and falls once more.
    """
    first, last = 0, config.epochs * steps_per_epoch
    restart = config.restarted_after * steps_per_epoch
    first, last = (restart, last) if step >= restart else (first, restart)
    since = step - first
    warmup = min(config.warmup_steps, (last - first) // 2)
    if since < warmup:
        return peak * (since + 1) / warmup
    if config.schedule == "constant":
        return peak
    done = (since - warmup) / max(last - first - warmup, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def change_note(before: TrainConfig, after: TrainConfig, *, epochs_done: int) -> str | None:
    """Return how the learning rate goes on, if a run is resumed with another schedule."""
    names = ("epochs", "schedule", "learning_rate")
    if all(getattr(before, name) == getattr(after, name) for name in names):
        return None
    first, last, peak = epochs_done + 1, after.epochs, after.learning_rate or 0.0
    if after.schedule == "constant":
        return f"the learning rate is {peak:.2e} from epoch {first} to epoch {last}"
    if after.restarted_after == epochs_done > 0:
        return (
            f"the run had ended with epoch {epochs_done}; the learning rate rises again to "
            f"{peak:.2e} and falls to zero at the end of epoch {last} (a warm restart)"
        )
    return (
        f"from epoch {first} the learning rate follows the cosine of a run of {last} epochs: its "
        f"highest value is {peak:.2e}, and it falls to zero at the end of epoch {last}"
    )
