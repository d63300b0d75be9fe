"""ParticleBatch: what one training step takes of some particles."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from torch import Tensor

from raydrgn.ctf import CTFParameters
from raydrgn.shapes import Float, Int


@dataclass(frozen=True, kw_only=True, slots=True)
class ParticleBatch:
    """Prepared particles with their poses and optics, all on one device."""

    coefficients: Float[Tensor, "b n 2"]
    """Centred and normalised (Re, Im) at the half disc, single precision."""

    rotations: Float[Tensor, "b 3 3"]
    """Volume frame to image frame, times the pixel size of the volume over that of the image.

    ``plane @ rotations`` are the points of the slice, in cycles per pixel of the volume.
    """

    pixel_size_angstrom: Float[Tensor, " b"]
    """Of the images as they are trained on."""

    ctf: CTFParameters | None
    """Optics; None where images are taken as plain projections."""

    optics_group: Int[Tensor, " b"] | None = None
    """Number of the optics group; None where groups make no difference."""

    def __len__(self) -> int:
        return len(self.coefficients)

    def micro_batches(self, size: int) -> Iterator["ParticleBatch"]:
        """Yield views of ``size`` consecutive particles each, the last one of what is left."""
        for start in range(0, max(len(self), 1), size):
            yield self.chosen(slice(start, start + size))

    def chosen(self, rows: Int[Tensor, " k"] | slice) -> "ParticleBatch":
        """Return some of the particles."""
        return ParticleBatch(
            coefficients=self.coefficients[rows],
            rotations=self.rotations[rows],
            pixel_size_angstrom=self.pixel_size_angstrom[rows],
            ctf=self.ctf
            and CTFParameters(
                **{f.name: getattr(self.ctf, f.name)[rows] for f in fields(self.ctf)}
            ),
            optics_group=None if self.optics_group is None else self.optics_group[rows],
        )
