"""Decoders: what a volume is to training, volumes and analysis.

A decoder gives Fourier coefficients at points, for latents; nothing else knows how. Points are in
cycles per pixel in the frame of the volume, and values are those of a real volume, v(−k) = conj
v(k), so callers ask for one of each pair.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from raydrgn.model.config import ModelConfig
from raydrgn.model.device import autocast, operand_type
from raydrgn.model.layers import ResidualMLP
from raydrgn.model.positional import axis_waves, projection_waves, series_frequencies
from raydrgn.shapes import Float


@runtime_checkable
class Decoder(Protocol):
    """Values at Fourier points for given latents."""

    def values(
        self, points: Float[Tensor, "p n 3"], z: Float[Tensor, "b zdim"]
    ) -> Float[Tensor, "b n 2"]:
        """Return (Re, Im) at the points, p = b sets of them or p = 1 for all latents."""
        ...


class _PerceptronDecoder(nn.Module):
    """Positional encoding and latent through a residual perceptron.

    Parameters are named as cryoDRGN names them: ``rand_freqs`` and ``decoder.main.…``.
    """

    def __init__(self, config: ModelConfig, box: int, *, num_outputs: int) -> None:
        super().__init__()
        dim = config.encoding_dim or box // 2
        num_features = 3 if config.encoding == "none" else 6 * dim
        self.encoding = config.encoding
        self.scale = box // 2
        self.num_features = num_features
        if config.encoding == "gaussian":
            frequencies = torch.randn(3 * dim, 3) * config.encoding_sigma
            self.rand_freqs = nn.Parameter(frequencies, requires_grad=False)
        elif config.encoding != "none":
            self.register_buffer(
                "series", series_frequencies(config.encoding, box, dim), persistent=False
            )
        self.decoder = ResidualMLP(
            num_features + config.zdim,
            config.decoder_layers,
            config.decoder_width,
            num_outputs,
            config.activation,
        )

    def _features(
        self, points: Float[Tensor, "p n 3"], dtype: torch.dtype | None
    ) -> Float[Tensor, "p n f"]:
        if self.encoding == "gaussian":
            return projection_waves(points, self.rand_freqs * self.scale, dtype=dtype)
        if self.encoding == "none":
            return points
        return axis_waves(points, self.get_buffer("series"), dtype=dtype)

    def _evaluate(
        self, points: Float[Tensor, "p n 3"], z: Float[Tensor, "b zdim"]
    ) -> Float[Tensor, "b n out"]:
        operands = operand_type(points.device)
        # The phases reach several hundred radians: never in half precision.
        with autocast(points.device, None):
            features = self._features(points, operands)
        return self.decoder.split(features, z).float()


class FourierDecoder(_PerceptronDecoder):
    """A perceptron that gives (Re, Im) where z ≤ 0, else the conjugate of the Friedel mate."""

    def __init__(self, config: ModelConfig, box: int) -> None:
        super().__init__(config, box, num_outputs=2)

    def values(
        self, points: Float[Tensor, "p n 3"], z: Float[Tensor, "b zdim"]
    ) -> Float[Tensor, "b n 2"]:
        """Return (Re, Im) at the points."""
        sign = torch.where(points[..., 2:] > 0, -1.0, 1.0)  # (p n 1)
        real, imag = self._evaluate(points * sign, z).split(1, dim=-1)
        return torch.cat([real, imag * sign], dim=-1)


class HartleyDecoder(_PerceptronDecoder):
    """A perceptron that gives the Hartley transform; both points of a pair are evaluated."""

    def __init__(self, config: ModelConfig, box: int) -> None:
        super().__init__(config, box, num_outputs=1)

    def values(
        self, points: Float[Tensor, "p n 3"], z: Float[Tensor, "b zdim"]
    ) -> Float[Tensor, "b n 2"]:
        """Return (Re, Im) at the points, from H(k) = Re − Im and H(−k) = Re + Im."""
        at, opposite = self._evaluate(torch.cat([points, -points], dim=1), z).chunk(2, dim=1)
        return torch.cat([at + opposite, opposite - at], dim=-1) / 2


def build_decoder(config: ModelConfig, box: int) -> FourierDecoder | HartleyDecoder:
    """Make the decoder that a configuration names."""
    return (
        FourierDecoder(config, box) if config.domain == "fourier" else HartleyDecoder(config, box)
    )
