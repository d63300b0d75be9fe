"""Peak, noise, sign and streaks of volumes, as numbers that a person can compare."""

from collections.abc import Sequence

import numpy as np

from raydrgn.decoding.contrast import negative_density
from raydrgn.decoding.volume_sets import MadeSets, Preview, VolumeSet
from raydrgn.fourier.density import Density
from raydrgn.fourier.streaks import CLEAR_STREAKS
from raydrgn.reporting.report import ReportTable
from raydrgn.reporting.result_folder import ResultFolder

DENSITIES = (
    "Peak is the 99.99th percentile of the density, noise its SD in the corners of the box, and "
    "skewness its third moment about the median, which is positive for particles of the right "
    "contrast. Volumes of junk have a low peak beside those of particles. Streaks is a "
    "correlation: how far density outside the particle goes on along rays from the centre (between "
    "the first and the last third of them) or along parallel lines (a sixth to a third of the box "
    "apart, in the direction where it is highest). It is near 0 for noise; above "
    f"{CLEAR_STREAKS:g} there are streaks, as decoders draw them where few particles support a "
    "latent."
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
            "–" if np.isnan(density.streaks) else f"{density.streaks:.2f}",
        )
        for volume, density in made
    ]
    return ReportTable(
        head=(what, "peak", "of the highest", "noise", "skewness", "streaks"), rows=rows
    )


def contrast_problem(made: MadeSets, *, seen: int | None = None) -> str | None:
    """Return what to do if the density of the volumes is negative; None if it is not.

    Args:
        made: Previews of the volumes.
        seen: Images seen in training, as ``decoding.contrast`` counts them.
    """
    return negative_density(
        [shown.density.skewness for of_set in made.previews for shown in of_set if shown],
        seen=seen,
    )


def streaked(sets: Sequence[VolumeSet], made: MadeSets) -> str | None:
    """Return which volumes have streaks, in a sentence; None if none has."""
    listed = []
    for volumes, previews in zip(sets, made.previews, strict=True):
        numbers = [
            f"vol_{number:03d}"
            for number, shown in enumerate(previews)
            if shown is not None and shown.density.streaks > CLEAR_STREAKS
        ]
        if numbers:
            listed.append(f"{', '.join(numbers)} of {volumes.name}")
    if not listed:
        return None
    return (
        f"Streaks outside the particle in {'; '.join(listed)}: few particles may support "
        "what these show. Compare the number of particles around each."
    )
