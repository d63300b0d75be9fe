"""Classes beside maps of their own particles: whether the particles support what is seen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from raydrgn.fourier.resample import resample
from raydrgn.fourier.shells import resolution_at, shell_correlation
from raydrgn.inputs.backprojection import Backprojection
from raydrgn.inputs.resolution import density_mask
from raydrgn.reporting.figures import Tile, sheet
from raydrgn.shapes import Float

FEWEST = 20
"""Particles of a class below which its half maps are noise."""

LESS_DETAIL = 2.0

RULE = (
    f"A class is supported if it has {FEWEST} particles or more, half maps of its particles agree "
    f"(FSC 0.143) to a resolution at most {LESS_DETAIL:g} times as coarse as those of all "
    "particles together, and the map of its particles agrees with its decoded volume (FSC 0.5) to "
    f"one at most {LESS_DETAIL:g} times as coarse as its half maps. Else the decoded volume shows "
    "what its own particles do not prove."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassSupport:
    """A class, its decoded volume and the map of its particles."""

    name: str
    particles: int
    share: float
    half_maps_angstrom: float | None
    """Resolution of the half maps of its particles; None where there are too few for a map."""

    agreement_angstrom: float | None
    """Where the FSC of map and decoded volume falls below 0.5."""

    is_supported: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def class_support(
    name: str,
    maps: Backprojection | None,
    decoded: Float[np.ndarray, "d d d"],
    *,
    particles: int,
    share: float,
    resolution_angstrom: float,
) -> ClassSupport:
    """Compare the map of a class's particles with its decoded volume.

    Args:
        name: Of the class.
        maps: Of its particles, at any box of the same width in Å; None where there are too few.
        decoded: Its decoded volume.
        particles: Their number.
        share: Their share of all particles.
        resolution_angstrom: Of the half maps of all particles.
    """
    half = agreement = None
    if maps is not None:
        half = maps.resolution.at(0.143)
        small = in_box(maps.full, len(decoded))
        pixel_size = maps.resolution.pixel_size_angstrom * len(maps.full) / len(decoded)
        mask = density_mask(small, pixel_size_angstrom=pixel_size)
        curve = shell_correlation(
            torch.from_numpy((small * mask).astype(np.float32)),
            torch.from_numpy((decoded * mask).astype(np.float32)),
        )
        curve[:2] = 1  # the zero frequency alone
        agreement = resolution_at(curve, threshold=0.5, pixel_size_angstrom=pixel_size)
    is_supported = (
        half is not None
        and agreement is not None
        and particles >= FEWEST
        and half <= LESS_DETAIL * resolution_angstrom
        and agreement <= LESS_DETAIL * half
    )
    return ClassSupport(
        name=name,
        particles=particles,
        share=share,
        half_maps_angstrom=half,
        agreement_angstrom=agreement,
        is_supported=is_supported,
    )


def in_box(volume: Float[np.ndarray, "r r r"], box: int) -> Float[np.ndarray, "d d d"]:
    """Return a volume in a smaller box, with the same densities."""
    old = len(volume)
    small = resample(torch.from_numpy(volume), box=box, ndim=3).numpy()
    return np.asarray(small * (box / old) ** 3, dtype=np.float32)


def class_figure(
    classes: Sequence[ClassSupport], slices: Mapping[str, tuple[np.ndarray, np.ndarray | None]]
) -> Figure:
    """Draw the decoded volume of each class above the map of its particles.

    Args:
        classes: In the order to draw.
        slices: Central slices of both, by the name of the class; the second None without a map.
    """
    decoded = [
        Tile(image=slices[c.name][0], title=c.name if c.is_supported else f"{c.name} ?")
        for c in classes
    ]
    white = np.full((2, 2, 3), 255)
    mapped = [
        Tile(image=white, title=f"{c.particles:,}: too few")
        if (shown := slices[c.name][1]) is None
        else Tile(image=shown, title=f"{c.particles:,}")
        for c in classes
    ]
    return sheet([("decoded", decoded), ("particles", mapped)])
