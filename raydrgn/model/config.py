"""Shape of the network, fixed for the life of a run."""

from dataclasses import dataclass
from typing import Literal, get_args

from raydrgn.errors import ConfigError

Encoding = Literal[
    "gaussian", "geom_ft", "geom_full", "geom_lowf", "geom_nohighf", "linear_lowf", "none"
]
Domain = Literal["fourier", "hartley"]
Activation = Literal["relu", "leaky_relu"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Shape of the variational autoencoder."""

    zdim: int = 8
    """Dimension of the latent variable; 1 to 10 is usual."""

    encoder_layers: int = 3
    """Residual layers of the image encoder."""

    encoder_width: int = 256
    """Units in each of them."""

    decoder_layers: int = 3
    """Residual layers of the decoder."""

    decoder_width: int = 256
    """Units in each of them."""

    encoding: Encoding = "gaussian"
    """Positional encoding of the decoder's Fourier points; cryoDRGN's names."""

    encoding_dim: int = 0
    """Frequencies of the encoding (per axis; thrice as many in all). 0 means box / 2."""

    encoding_sigma: float = 0.5
    """Width of the Gaussian encoding's frequencies, in units of the box."""

    domain: Domain = "fourier"
    """Whether the decoder gives Fourier coefficients or values of the Hartley transform."""

    activation: Activation = "relu"
    """Activation after each layer."""

    def __post_init__(self) -> None:
        for name in ("zdim", "encoder_layers", "encoder_width", "decoder_layers", "decoder_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}.")
        if self.encoding_sigma <= 0:
            raise ConfigError(f"model.encoding_sigma must be positive, got {self.encoding_sigma}.")
        if self.encoding_dim < 0:
            raise ConfigError(f"model.encoding_dim must not be negative, got {self.encoding_dim}.")
        for name, kind in (
            ("encoding", Encoding),
            ("domain", Domain),
            ("activation", Activation),
        ):
            value = getattr(self, name)
            if value not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ConfigError(f"model.{name} is {value!r}; it must be one of {known}.")
