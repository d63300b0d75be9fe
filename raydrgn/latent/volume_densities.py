"""Peak, noise and sign of the volumes of an analysis, as numbers that a person can compare."""

from collections.abc import Sequence

import numpy as np

from raydrgn.decoding.volume_sets import MadeSets, Preview, VolumeSet
from raydrgn.fourier.density import CLEAR_SKEWNESS, Density
from raydrgn.reporting.report import ReportTable
from raydrgn.reporting.result_folder import ResultFolder

DENSITIES = (
    "Peak is the 99.99th percentile of the density, noise its SD in the corners of the box, and "
    "skewness its third moment about the median, which is positive for particles of the right "
    "contrast. Volumes of junk have a low peak beside those of particles."
)


def write_densities(
    volumes: VolumeSet, previews: Sequence[Preview | None], name: str, folder: ResultFolder
) -> ReportTable:
    """Write the numbers of the volumes of a set, and return them for the report."""
    made = [(str(k), shown.density) for k, shown in enumerate(previews) if shown is not None]
    return density_table(volumes.name, made, name, folder)


def density_table(
    what: str, made: Sequence[tuple[str, Density]], name: str, folder: ResultFolder
) -> ReportTable:
    """Write the numbers of named volumes, and return them for the report.

    Args:
        what: What the names are of.
        made: Name and numbers of each volume.
        name: Of the table in the folder.
        folder: Where it goes.
    """
    head = ("volume", *Density._fields)
    folder.write_table(name, head, [(volume, *density) for volume, density in made])
    highest = max((density.peak for _, density in made), default=1.0)
    rows = [
        (
            volume,
            f"{density.peak:.3g}",
            f"{100 * density.peak / highest:.0f} %" if highest > 0 else "–",
            f"{density.noise:.2g}",
            f"{density.skewness:.2f}",
        )
        for volume, density in made
    ]
    return ReportTable(head=(what, "peak", "of the highest", "noise", "skewness"), rows=rows)


def contrast_problem(made: MadeSets) -> str | None:
    """Return what to do if the density of the volumes is negative; None if it is not."""
    found = [shown.density.skewness for of_set in made.previews for shown in of_set if shown]
    if not found or (median := float(np.median(found))) > -CLEAR_SKEWNESS:
        return None
    return (
        f"The density of the volumes is negative (median skewness {median:.2f}): contrast looks "
        "inverted. See `raydrgn backproject`, and train again with `raydrgn train "
        "--uninvert-data`, or without it if it was given."
    )
