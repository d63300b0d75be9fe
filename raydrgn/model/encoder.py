"""Image encoder: the Hartley values of a phase-flipped image to the latent's distribution."""

from torch import Tensor

from raydrgn.model.config import ModelConfig
from raydrgn.model.layers import ResidualMLP
from raydrgn.shapes import Float


class Encoder(ResidualMLP):
    """A residual perceptron from the disc's pixels to mean and log-variance."""

    def __init__(self, config: ModelConfig, *, num_pixels: int) -> None:
        super().__init__(
            num_pixels,
            config.encoder_layers,
            config.encoder_width,
            2 * config.zdim,
            config.activation,
        )

    def encode(
        self, hartley: Float[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b zdim"], Float[Tensor, "b zdim"]]:
        """Return mean and log-variance of each image's latent."""
        mean, logvar = self(hartley).chunk(2, dim=-1)
        return mean, logvar
