"""Classes beside maps of their own particles: whether the particles support what is seen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from raydrgn.fourier.shells import resolution_at, shell_correlation, with_flat_spectrum
from raydrgn.inputs.backprojection import Backprojection
from raydrgn.inputs.resolution import density_mask
from raydrgn.protocol.class_differences import EnsembleMean, compare_differences, in_box
from raydrgn.reporting.figures import Tile, sheet
from raydrgn.shapes import Float

FEWEST = 20
"""Particles of a class below which its half maps are noise."""

LESS_DETAIL = 2.0

REPRODUCED, EXPLAINED = 0.65, 0.65
"""Correlation of a class's difference between its half maps, and share of it that is decoded.

Of simulated states at SNRs of 0.03 and 0.1 both were 0.73 or more. The correlation was 0.42 at most
of random classes of these particles, but up to 0.66 of classes that a mixture had made of the noise
of 8,000 particles in one state; the share was 0.34 at most with the volume of another state
(docs/protocol.md).
"""

RULE = (
    f"A class is supported if it has {FEWEST} particles or more, half maps of its particles agree "
    f"(FSC 0.143) to a resolution at most {LESS_DETAIL:g} times as coarse as those of all "
    "particles together, the map of its particles agrees with its decoded volume (FSC 0.5) to "
    f"one at most {LESS_DETAIL:g} times as coarse as its half maps, and its particles show what "
    "its decoded volume has that others do not: its difference from all particles is reproduced "
    f"in its half maps (correlation {REPRODUCED:g} or more, to their resolution), and the "
    "difference of its decoded volume from the mean of all classes explains at least "
    f"{100 * EXPLAINED:g} % of the power that is reproduced. Else the decoded volume shows what "
    "its own particles do not prove. Of a single class there is no difference: its map and its "
    "half maps decide. This does not prove a class, since its maps are made of the images that it "
    "was found in: classes of their noise agree too, and the better the more particles they have. "
    "`raydrgn halves` tests whether two trainings agree on it."
)

FEW = f"fewer than {FEWEST} particles"
COARSE = "its half maps agree to a much coarser resolution than those of all particles"
NOT_REPRODUCED = "its difference from all particles is not reproduced in its half maps"
NOT_DECODED = "its decoded volume differs from the others in another way than its particles do"
NO_AGREEMENT = "the map of its particles does not agree with its decoded volume"


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

    difference_half_maps: float | None
    """Correlation of its difference from all particles between its half maps; None of one class."""

    difference_explained: float | None
    """Share of the reproduced power of its difference that its decoded volume explains."""

    why_not: str | None
    """What is missing for its particles to support it; None if they do."""

    @property
    def is_supported(self) -> bool:
        """Whether its particles show what its decoded volume shows."""
        return self.why_not is None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "is_supported": self.is_supported}


def class_support(
    name: str,
    maps: Backprojection | None,
    decoded: Float[np.ndarray, "d d d"],
    *,
    particles: int,
    share: float,
    mean: EnsembleMean,
) -> ClassSupport:
    """Compare the map of a class's particles with its decoded volume.

    Args:
        name: Of the class.
        maps: Of its particles, at any box of the same width in Å; None where there are too few.
        decoded: Its decoded volume.
        particles: Their number.
        share: Their share of all particles.
        mean: What all particles have in common.
    """
    half = agreement = differences = None
    if maps is not None:
        half = maps.resolution.at(0.143)
        agreement = _agreement(in_box(maps.full, len(decoded)), decoded, mean.pixel_size_angstrom)
        if mean.num_classes > 1:
            differences = compare_differences(maps, decoded, mean)
    why_not = None
    if half is None or agreement is None or particles < FEWEST:
        why_not = FEW
    elif half > LESS_DETAIL * mean.resolution_angstrom:
        why_not = COARSE
    elif agreement > LESS_DETAIL * half:
        why_not = NO_AGREEMENT
    elif differences is not None and differences.half_maps < REPRODUCED:
        why_not = NOT_REPRODUCED
    elif differences is not None and differences.explained < EXPLAINED:
        why_not = NOT_DECODED
    return ClassSupport(
        name=name,
        particles=particles,
        share=share,
        half_maps_angstrom=half,
        agreement_angstrom=agreement,
        difference_half_maps=None if differences is None else differences.half_maps,
        difference_explained=None if differences is None else differences.explained,
        why_not=why_not,
    )


def _agreement(
    mapped: Float[np.ndarray, "d d d"],
    decoded: Float[np.ndarray, "d d d"],
    pixel_size_angstrom: float,
) -> float:
    """Return the resolution in Å to which a map and a decoded volume agree, at an FSC of 0.5."""
    mask = density_mask(mapped, pixel_size_angstrom=pixel_size_angstrom)
    curve = shell_correlation(
        *(
            with_flat_spectrum(torch.from_numpy(volume.astype(np.float32))) * torch.from_numpy(mask)
            for volume in (mapped, decoded)
        )
    )
    curve[:2] = 1  # the zero frequency alone
    return resolution_at(curve, threshold=0.5, pixel_size_angstrom=pixel_size_angstrom)


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
