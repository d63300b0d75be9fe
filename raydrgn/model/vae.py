"""The variational autoencoder: image to latent to slice, in one forward pass."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from raydrgn.model.config import ModelConfig
from raydrgn.model.decoder import build_decoder
from raydrgn.model.encoder import Encoder
from raydrgn.shapes import Float


class Reconstruction(NamedTuple):
    """What one forward pass gives the loss."""

    predicted: Float[Tensor, "b n 2"]
    mean: Float[Tensor, "b zdim"]
    logvar: Float[Tensor, "b zdim"]


class HeterogeneousVAE(nn.Module):
    """Encode an image into a latent, and decode a slice of the volume of that latent."""

    def __init__(self, config: ModelConfig, *, box: int, num_pixels: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, num_pixels=num_pixels)
        self.decoder = build_decoder(config, box)

    def forward(
        self,
        hartley: Float[Tensor, "b m"],
        points: Float[Tensor, "b n 3"],
        noise: Float[Tensor, "b zdim"],
    ) -> Reconstruction:
        """Encode, sample and decode.

        Training calls only this: DistributedDataParallel averages the gradients of what passes
        through ``forward``, and of nothing else. ``noise`` is standard normal and drawn outside, so
        that the model itself is a function.

        Args:
            hartley: Phase-flipped images, the whole disc.
            points: Fourier points at which each particle's slice is wanted, cycles per pixel.
            noise: One draw per particle.
        """
        mean, logvar = self.encoder.encode(hartley)
        mean, logvar = mean.float(), logvar.float()
        z = mean + torch.exp(0.5 * logvar) * noise
        return Reconstruction(self.decoder.values(points, z), mean, logvar)
