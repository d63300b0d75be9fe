"""What a pass over particles adds up: all that workers exchange."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from raydrgn.mfa.poses import ROTATION_SDS
from raydrgn.shapes import Float, Int

LEAST_VARIANCE = 1e-4
"""Of a latent, when they are made to have covariance 1."""


@dataclass(slots=True)
class Sums:
    """Sums over particles; those of several workers are added."""

    grid: Float[Tensor, "z y x f"]
    """Slices' residuals at the points of the unpadded grid, times each moment of the latent."""

    residual: Float[Tensor, "groups shells"]
    """Expected |image − prediction|² by optics group and shell, in units of the noise."""

    likely: Float[Tensor, " groups"]
    """How many particles the residual is of, each by how likely it is one."""

    null_power: Float[Tensor, " shells"]
    """|image|² of ice and carbon by shell, in units of the noise."""

    contaminants: Float[Tensor, " groups"]
    """How many images of each optics group show ice or carbon, each by how likely it does."""

    latent: Float[Tensor, " k"]
    """Latents of particles, each by how likely it is one."""

    square: Float[Tensor, "k k"]
    """Expectations of their products, likewise."""

    square_of_means: Float[Tensor, "k k"]
    """Products of their expectations, likewise."""

    contrast_latent: Float[Tensor, " k"]
    """Expectations of contrast times latent, likewise."""

    pose_latent: Float[Tensor, "6 k1"]
    """Shift, pixels, and rotation vector in the frame of the volume times (1, latent), likewise."""

    in_plane: Float[Tensor, "3 3"]
    """R_xyᵀ R_xy of the given rotations R, likewise: which directions images show."""

    rotation_evidence: Float[Tensor, " trials"]
    """Logarithms of the images' probabilities for each of ``ROTATION_SDS``, over those for 0."""

    scalars: Float[Tensor, " scalars"]
    """In the order of ``SCALARS``."""

    @classmethod
    def zero(
        cls,
        grid: Float[Tensor, "z y x f"],
        *,
        num_components: int,
        num_shells: int,
        num_groups: int,
    ) -> "Sums":
        """Return sums over nothing; the grid is taken as it is."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=grid.device)

        return cls(
            grid,
            zeros(num_groups, num_shells),
            zeros(num_groups),
            zeros(num_shells),
            zeros(num_groups),
            zeros(num_components),
            zeros(num_components, num_components),
            zeros(num_components, num_components),
            zeros(num_components),
            zeros(6, num_components + 1),
            zeros(3, 3),
            zeros(len(ROTATION_SDS)),
            zeros(len(SCALARS)),
        )

    def release_grid(self) -> None:
        """Give up the grid, which is as large as the volumes, once they are made of it."""
        self.grid = self.grid.new_empty(0, 0, 0, self.grid.shape[-1])

    def add_residuals(
        self,
        square: Float[Tensor, "b n"],
        shell: Int[Tensor, " n"],
        group: Int[Tensor, " b"],
        likely: Float[Tensor, " b"],
    ) -> None:
        """Add the squared residuals of images of optics groups at points of shells."""
        by_shell = square.new_zeros(len(square), self.residual.shape[1])
        by_shell.index_add_(1, shell, square)
        self.residual.index_add_(0, group, by_shell.double())
        self.likely.index_add_(0, group, likely.double())

    def add(self, **scalars: Tensor) -> None:
        """Add the sums of values over particles to the scalars of their names."""
        for name, values in scalars.items():
            self.scalars[SCALARS.index(name)] += values.double().sum()

    def total(self, name: str) -> float:
        """Return a scalar by its name."""
        return float(self.scalars[SCALARS.index(name)])

    def inverse_covariance(self) -> Float[Tensor, "k k"]:
        """Return the inverse of the latents' covariance, with what is uncertain of them."""
        mean = self.latent / self.total("likely")
        second = self.square / self.total("likely") - torch.outer(mean, mean)
        values, vectors = torch.linalg.eigh(second)
        return (vectors / values.clamp(min=LEAST_VARIANCE)) @ vectors.T

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
