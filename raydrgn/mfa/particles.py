"""What is estimated of each particle beside its latent: contrast, junk, shift and rotation."""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from raydrgn.shapes import Float, Int


@dataclass(slots=True)
class ParticleEstimates:
    """Estimates of the particles of one worker; changed in place, pass by pass."""

    contrast: Float[Tensor, " n"]
    """Factor of the signal; 1 on average."""

    null_probability: Float[Tensor, " n"]
    """Probability that an image shows nothing."""

    shifts_px: Float[Tensor, "n 2"]
    """How far a particle lies from where its given shift has it, (x, y) in pixels."""

    rotations: Float[Tensor, "n 3"]
    """Rotation vector in the frame of the image, radians, that comes after the given rotation."""

    @classmethod
    def given(cls, count: int, *, device: torch.device) -> "ParticleEstimates":
        """Return what is taken before anything is estimated."""
        return cls(
            torch.ones(count, device=device),
            torch.zeros(count, device=device),
            torch.zeros(count, 2, device=device),
            torch.zeros(count, 3, device=device),
        )

    @classmethod
    def from_table(
        cls, table: Float[np.ndarray, "n 7"], *, device: torch.device
    ) -> "ParticleEstimates":
        """Return the estimates in a table with the columns ``COLUMNS``."""
        values = torch.from_numpy(np.ascontiguousarray(table, dtype=np.float32)).to(device)
        contrast, null, shifts, rotations = values.split((1, 1, 2, 3), dim=1)
        return cls(contrast[:, 0].clone(), null[:, 0].clone(), shifts.clone(), rotations.clone())

    def to_table(self) -> Float[np.ndarray, "n 7"]:
        """Return the estimates as a table with the columns ``COLUMNS``."""
        parts = [self.contrast[:, None], self.null_probability[:, None], self.shifts_px]
        return torch.cat([*parts, self.rotations], dim=1).cpu().numpy()

    def __len__(self) -> int:
        return len(self.contrast)

    def __getitem__(self, rows: Int[Tensor, " b"]) -> "ParticleEstimates":
        return ParticleEstimates(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __setitem__(self, rows: Int[Tensor, " b"], found: "ParticleEstimates") -> None:
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(found, field.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimated:
    """What a pass estimates of each particle beside its latent."""

    contrast: bool = False
    null_class: bool = False
    shifts: bool = False
    rotations: bool = False
    pose_slope: bool = False
    """What shifts and rotations have of a linear dependence on the latent."""


@dataclass(frozen=True, slots=True)
class ParticlePriors:
    """Distributions that the estimates are drawn from; their widths are estimated, too."""

    contrast_sd: float = 0.3
    null_share: float = 0.02
    """0 where images show too little for junk to be looked for."""

    shift_sd_px: float = 0.5
    rotation_sd: float = math.radians(3)
    """Of each component of the rotation vector, radians."""

    empty_share: float = 0.5
    """Of images without a particle, those of noise alone; the others show ice or carbon."""


def rotation_matrices(vectors: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Return the matrices of rotation vectors (Rodrigues' formula)."""
    zero = torch.zeros_like(vectors[:, 0])
    x, y, z = vectors.unbind(-1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(-1, 3, 3)
    angle = vectors.norm(dim=-1).clamp(min=1e-8)[:, None, None]
    identity = torch.eye(3, device=vectors.device)
    sine, versine = torch.sin(angle) / angle, (1 - torch.cos(angle)) / angle**2
    return identity + sine * cross + versine * (cross @ cross)


def turns(rotations: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    """Return rotations without the scale that they have where pixel sizes differ.

    Shifts in the frame of an image, in pixels, have that scale; rotation vectors do not.
    """
    return rotations / rotations[:, :1].norm(dim=-1, keepdim=True)


def composed(second: Float[Tensor, "b 3"], first: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3"]:
    """Return the rotation vectors of one rotation after another, by their quaternions."""
    w1, v1 = _quaternions(first)
    w2, v2 = _quaternions(second)
    w = w2 * w1 - (v2 * v1).sum(-1, keepdim=True)
    v = w2 * v1 + w1 * v2 + torch.linalg.cross(v2, v1)
    v = torch.where(w < 0, -v, v)
    sine = v.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, w.abs())
    return torch.where(sine > 1e-8, v * angle / sine.clamp(min=1e-8), 2 * v)


def _quaternions(vectors: Float[Tensor, "b 3"]) -> tuple[Tensor, Tensor]:
    angle = vectors.norm(dim=-1, keepdim=True)
    scale = torch.where(angle > 1e-8, torch.sin(angle / 2) / angle.clamp(min=1e-8), 0.5)
    return torch.cos(angle / 2), vectors * scale
