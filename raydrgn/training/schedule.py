"""Learning rate over steps."""

import math

from raydrgn.run.recipe import TrainConfig


def learning_rate(config: TrainConfig, *, peak: float, step: int, num_steps: int) -> float:
    """Return the learning rate of a step, counted from 0 over the whole run.

    It rises linearly to ``peak`` over the warm-up, then stays, or falls to zero at
    ``num_steps`` as half a period of a cosine.
    """
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return peak
    done = (step - config.warmup_steps) / max(num_steps - config.warmup_steps, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
