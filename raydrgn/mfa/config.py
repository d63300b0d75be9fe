"""Settings of a mixture of factor analysers."""

from dataclasses import dataclass

from raydrgn.errors import ConfigError

EPOCHS = 7
"""Of a fit, by default; after them the volumes hardly change."""

LOW_PASSES = 4
"""Passes at low frequency, in the first epoch."""

WEAK = 0.02
"""Norm of a component, over that of the strongest, below which it is without density."""

SHOWS_NOTHING = 0.5
"""Null probability from which an image counts as one without a particle."""

MASKS = ("auto", "none")
"""What ``MfaConfig.mask`` may be beside the path of a map."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MfaConfig:
    """Shape of the mixture, and what is estimated of each particle."""

    components: int = 10
    """Volumes that are added to the mean, each times a latent coordinate."""

    states: int = 40
    """Normal distributions that the prior of the latents is a mixture of, at most."""

    mask: str = "auto"
    """Where there may be density: ``auto`` finds it in the mean, ``none`` is the ball in the box,
    and anything else is the path of a map."""

    contrast: bool = True
    """Whether each image's contrast is estimated."""

    null_class: bool = True
    """Whether images may be of nothing; the probability is that of junk."""

    shifts: bool = True
    """Whether each image's shift is refined."""

    rotations: bool = True
    """Whether each image's orientation is refined."""

    def __post_init__(self) -> None:
        for name in ("components", "states"):
            if getattr(self, name) < 1:
                raise ConfigError(f"mfa.{name} must be at least 1, got {getattr(self, name)}.")
        if not self.mask:
            raise ConfigError("mfa.mask must be auto, none or the path of a map.")
