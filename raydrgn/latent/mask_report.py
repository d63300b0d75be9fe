"""The mask of a mixture of factor analysers, beside the density that it lets through."""

from dataclasses import dataclass

import numpy as np

from raydrgn.decoding.volume_sets import slices_of
from raydrgn.io.mrc import write_volume
from raydrgn.reporting.figures import sheet, slice_rows
from raydrgn.reporting.report import Section
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float

MASK = "mask.mrc"


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedDensity:
    """A mask, and the density of a fit within it."""

    mask: Float[np.ndarray, "d d d"]
    mean: Float[np.ndarray, "d d d"]
    variation: Float[np.ndarray, "d d d"]
    """SD of the density over the particles, by the components."""

    pixel_size_angstrom: float

    @classmethod
    def of(cls, run: RunReader, epoch: int | None) -> "MaskedDensity":
        """Read those of an epoch of a mixture.

        Raises:
            RunDirectoryError: If the weights are damaged.
        """
        import torch

        from raydrgn.run.mixture import read_mixture

        model = read_mixture(run, epoch)
        variation = torch.linalg.vector_norm(model.volumes[1:], dim=0)
        return cls(
            mask=model.support.numpy(),
            mean=model.volumes[0].numpy(),
            variation=variation.numpy(),
            pixel_size_angstrom=run.pixel_size_angstrom,
        )

    def section(self, folder: ResultFolder) -> Section:
        """Write the mask into a folder, and return the part of a report that shows it."""
        write_volume(folder.at(MASK), self.mask, pixel_size_angstrom=self.pixel_size_angstrom)
        titles = ["mean", "variation", "mask"]
        shown = (self.mean, self.variation, self.mask)
        figure = sheet(slice_rows(titles, [slices_of(volume) for volume in shown]), tile_inches=1.8)
        folder.write_figure("mask.png", figure)
        return Section(
            title="Mask",
            text="Density outside of the mask is 0. Where the variation goes up to its edge, "
            f"mobile density may be cut off: `raydrgn train --mask` takes {MASK}, changed or "
            "grown, and `--mask none` the ball in the box.",
            figures=[
                (figure, "Central slices: mean, SD of the density by the components, and mask.")
            ],
        )
