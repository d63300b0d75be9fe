"""What a pass over particles adds up: all that workers exchange."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from raydrgn.mfa.poses import ROTATION_SDS
from raydrgn.shapes import Float


@dataclass(slots=True)
class Sums:
    """Sums over particles; those of several workers are added."""

    grid: Float[Tensor, "z y x f"]
    """Slices' residuals at the points of the unpadded grid, times each moment of the latent."""

    residual: Float[Tensor, " shells"]
    """Expected |image − prediction|² of particles by shell, in units of the noise."""

    null_power: Float[Tensor, " shells"]
    """|image|² of junk by shell, in units of the noise."""

    latent: Float[Tensor, " k"]
    """Latents of particles, each by how likely it is one."""

    square: Float[Tensor, "k k"]
    """Their products, likewise."""

    rotation_evidence: Float[Tensor, " trials"]
    """Logarithms of the images' probabilities for each of ``ROTATION_SDS``, over those for 0."""

    scalars: Float[Tensor, " scalars"]
    """In the order of ``SCALARS``."""

    @classmethod
    def zero(
        cls, grid: Float[Tensor, "z y x f"], *, num_components: int, num_shells: int
    ) -> "Sums":
        """Return sums over nothing; the grid is taken as it is."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=grid.device)

        return cls(
            grid,
            zeros(num_shells),
            zeros(num_shells),
            zeros(num_components),
            zeros(num_components, num_components),
            zeros(len(ROTATION_SDS)),
            zeros(len(SCALARS)),
        )

    def add(self, **scalars: Tensor) -> None:
        """Add the sums of values over particles to the scalars of their names."""
        for name, values in scalars.items():
            self.scalars[SCALARS.index(name)] += values.double().sum()

    def total(self, name: str) -> float:
        """Return a scalar by its name."""
        return float(self.scalars[SCALARS.index(name)])

    def tensors(self) -> list[Tensor]:
        """Return the tensors to add up over workers."""
        return [getattr(self, field.name) for field in fields(self)]


SCALARS = (
    "particles",
    "likely",
    "contrast",
    "square_contrast",
    "null",
    "log_evidence",
    "divergence",
    "power",
    "misfit",
    "square_shift",
)
"""Numbers of particles, of those that are likely particles, and sums over them."""
