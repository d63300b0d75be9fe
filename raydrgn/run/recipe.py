"""How a run is trained: objective, optimiser, and the recipes to choose from."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from raydrgn.errors import ConfigError
from raydrgn.model.config import ModelConfig

Schedule = Literal["constant", "cosine"]

RATE_AT_128 = 3e-3
"""Best learning rate of the recipe ``fast`` at width 128; see jobs/README.md for the search."""

FEWEST_EPOCHS, MOST_EPOCHS = 20, 40
"""Of ``fast`` for large sets, which it would take long for, and for small ones."""

FAST_IMAGES = 800_000
"""Images that it takes of sets between these, each once in an epoch; see jobs/README.md."""

MOST_HELD_OUT = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How the network is fitted; the defaults are the recipe ``fast`` for large sets."""

    epochs: int = FEWEST_EPOCHS
    """Passes over all particles."""

    batch_size: int = 16
    """Particles per step, over all workers together."""

    learning_rate: float | None = None
    """Adam's step size at its highest; None means 3e-3·√(128 / decoder width)."""

    schedule: Schedule = "cosine"
    """Whether the learning rate falls to zero over the run, or stays."""

    warmup_steps: int = 300
    """Steps over which the learning rate rises from zero."""

    restarted_after: int = 0
    """Epoch after which the learning rate rises and falls once more; 0 for none.

    Set when a run that has ended goes on.
    """

    points_fraction: float = 0.25
    """Share of the Fourier points, drawn anew in each step, at which slices are compared."""

    beta: float | None = None
    """Weight of the KL divergence; None means 1 / zdim."""

    amp: bool = True
    """Matrix products in bfloat16, on GPUs that have it and on CPUs with units for it (AMX)."""

    seed: int = 0
    """Seed of everything random in the run."""

    checkpoint_minutes: float = 10.0
    """Longest time between checkpoints, within an epoch too."""

    keep_epochs: int = 1
    """Weights of every n-th epoch only are kept, and those of the last; 1 keeps all.

    Those of epochs that results in the run directory were made from stay too.
    """

    load: str | None = None
    """Weights file that training starts from; None starts from random weights."""

    init: str | None = None
    """Weights file of the mixture of factor analysers whose latents the encoder is pre-trained on.

    It is frozen from then on.
    """

    held_out_fraction: float = 0.0
    """Share of the particles that is kept out of training, to score the run with.

    They are in held_out.parquet, and have no latents; the same ones for every run on a data set.
    """

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "keep_epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} must be at least 1, got {getattr(self, name)}.")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ConfigError(f"train.learning_rate must be positive, got {self.learning_rate}.")
        if not self.checkpoint_minutes > 0:
            raise ConfigError(
                f"train.checkpoint_minutes must be positive, got {self.checkpoint_minutes}."
            )
        if not 0 < self.points_fraction <= 1:
            raise ConfigError(
                f"train.points_fraction must be above 0 and at most 1, got {self.points_fraction}."
            )
        if self.schedule not in ("constant", "cosine"):
            raise ConfigError(f"train.schedule must be constant or cosine, got {self.schedule!r}.")
        if self.restarted_after < 0:
            raise ConfigError(
                f"train.restarted_after must not be negative, got {self.restarted_after}."
            )
        if self.warmup_steps < 0:
            raise ConfigError(f"train.warmup_steps must not be negative, got {self.warmup_steps}.")
        if self.beta is not None and self.beta < 0:
            raise ConfigError(f"train.beta must not be negative, got {self.beta}.")
        if self.load and self.init:
            raise ConfigError(
                "train.load and train.init are both given: a run starts from the weights of an "
                "autoencoder, or from a mixture of factor analysers. Leave one of them out."
            )
        if self.held_out_fraction and self.init:
            raise ConfigError(
                "train.held_out_fraction and train.init are both given: an encoder that is trained "
                "on the latents of its particles does not know those of others. Leave one of them "
                "out."
            )
        if not 0 <= self.held_out_fraction <= MOST_HELD_OUT:
            raise ConfigError(
                f"train.held_out_fraction must be between 0 and {MOST_HELD_OUT}, got "
                f"{self.held_out_fraction}."
            )

    def peak_rate(self, decoder_width: int) -> float:
        """Return the highest learning rate for a network of some width."""
        if self.learning_rate is not None:
            return self.learning_rate
        return RATE_AT_128 * math.sqrt(128 / decoder_width)

    def kl_weight(self, zdim: int) -> float:
        """Return β for a latent of ``zdim`` dimensions."""
        return 1 / zdim if self.beta is None else self.beta


RECIPES: dict[str, dict[str, Any]] = {
    "fast": {},
    "protocol": {
        "epochs": 50,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "schedule": "constant",
        "warmup_steps": 0,
        "points_fraction": 1.0,
    },
}
"""Values by which each recipe differs from the defaults; ``protocol`` is that of the paper."""

PROTOCOL_BOX, PROTOCOL_WIDTH = 128, 1024
"""Box above which ``protocol`` has a network of that width, as in the paper's second round."""

DEFAULT_RECIPE = "fast"


def fast_epochs(num_particles: int) -> int:
    """Return the epochs of ``fast``: 40 for up to 20,000 particles, 20 from 40,000 on."""
    wanted = math.ceil(FAST_IMAGES / max(num_particles, 1))
    return min(max(wanted, FEWEST_EPOCHS), MOST_EPOCHS)


def recipe_config(name: str | None, *, num_particles: int | None = None) -> TrainConfig:
    """Return the settings of a recipe; of the default one for None.

    Args:
        name: Of the recipe.
        num_particles: That it is for; None for those of a large set.

    Raises:
        ConfigError: If there is no such recipe.
    """
    chosen = name or DEFAULT_RECIPE
    if chosen not in RECIPES:
        raise ConfigError(f"--recipe is {chosen!r}; known recipes: {', '.join(RECIPES)}.")
    config = TrainConfig(**RECIPES[chosen])
    if chosen == "fast" and num_particles is not None:
        return replace(config, epochs=fast_epochs(num_particles))
    return config


def recipe_network(name: str | None, box: int) -> ModelConfig:
    """Return the network of a recipe, for images of ``box`` pixels: 256 × 3 or 1024 × 3."""
    if name == "protocol" and box > PROTOCOL_BOX:
        return ModelConfig(encoder_width=PROTOCOL_WIDTH, decoder_width=PROTOCOL_WIDTH)
    return ModelConfig()
