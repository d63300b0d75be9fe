"""What a selection keeps and drops, to look at: places, images, mean volumes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from raydrgn.clustering.embedding import principal_components
from raydrgn.data.particle_images import clear_images, read_images
from raydrgn.decoding.pool import DecoderPool
from raydrgn.errors import RaydrgnError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import write_volume
from raydrgn.latent.filters import (
    REFERENCE_DEVIATIONS,
    Method,
    by_magnitude,
    overlaps,
)
from raydrgn.reporting import latent_figures
from raydrgn.reporting.analysis_results import AnalysisResults
from raydrgn.reporting.figures import Tile, sheet
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Bool, Float, Int

SHOWN = 20
AVERAGED = 100
"""Particles whose volumes are averaged on either side."""


class Side(NamedTuple):
    """Kept or dropped particles."""

    name: str
    rows: Int[np.ndarray, " k"]


def sides(methods: Sequence[Method]) -> tuple[Bool[np.ndarray, " n"], list[Side]]:
    """Return who is kept by all methods, and both sides."""
    kept = np.logical_and.reduce([method.kept for method in methods])
    return kept, [Side("kept", np.flatnonzero(kept)), Side("dropped", np.flatnonzero(~kept))]


def write_selection(
    run: RunReader,
    epoch: int | None,
    z: Float[np.ndarray, "n zdim"],
    numbers: Int[np.ndarray, " n"],
    methods: Sequence[Method],
    folder: ResultFolder,
) -> list[Side]:
    """Write the particle numbers of both sides, the overlap of the methods, and a figure."""
    kept, both = sides(methods)
    for side in both:
        cryodrgn.write_indices(folder.at(f"{side.name}.ind.pkl"), numbers[side.rows])
    reference = by_magnitude(z, REFERENCE_DEVIATIONS)
    compared = [*methods, *([] if reference.name in [m.name for m in methods] else [reference])]
    if len(methods) > 1:
        compared.append(Method("all together", kept))
    head = ("method", "other", "dropped", "dropped_by_other", "by_both", "jaccard")
    folder.write_table("overlap.csv", head, overlaps(compared))
    places = AnalysisResults(run, epoch).umap(len(z))
    if places is not None:
        folder.write_figure(
            "selection.png", latent_figures.two_sides(("UMAP 1", "UMAP 2"), places, kept)
        )
    elif z.shape[1] > 1:
        xy = principal_components(z).coordinates[:, :2]
        folder.write_figure("selection.png", latent_figures.two_sides(("PC 1", "PC 2"), xy, kept))
    return both


def write_images(
    run: RunReader, numbers: Int[np.ndarray, " n"], both: Sequence[Side], folder: ResultFolder
) -> str:
    """Draw random images of either side, raw and cleared; return why not, if they cannot be."""
    rows: list[tuple[str, list[Tile]]] = []
    try:
        table = run.particles()
        if len(table) != len(numbers):
            return f"Images are of {len(table)} particles, but the run has {len(numbers)}."
        for side in both:
            count = min(SHOWN, len(side.rows))
            chosen = np.sort(np.random.default_rng(0).choice(side.rows, count, replace=False))
            raw = read_images(table, chosen)
            clear = clear_images(raw, table.select(chosen), bright=run.inverts)
            for start in range(0, count, 10):
                for name, images in (("raw", raw), ("clear", clear)):
                    part = images[start : start + 10]
                    titles = [str(number) for number in numbers[chosen[start : start + 10]]]
                    rows.append(
                        (
                            f"{side.name}\n{name}",
                            [
                                Tile(image=image, title=title if name == "raw" else "")
                                for image, title in zip(part, titles, strict=True)
                            ],
                        )
                    )
    except RaydrgnError as error:
        return f"Images could not be read: {error}"
    folder.write_figure("images.png", sheet(rows))
    return ""


def write_mean_volumes(
    pool: DecoderPool,
    z: Float[np.ndarray, "n zdim"],
    both: Sequence[Side],
    folder: ResultFolder,
    *,
    pixel_size_angstrom: float,
) -> list[str]:
    """Write the mean of the volumes of random particles of either side; return what failed."""
    rows: list[tuple[str, list[Tile]]] = []
    failures = []
    for side in both:
        count = min(AVERAGED, len(side.rows))
        chosen = np.random.default_rng(0).choice(side.rows, count, replace=False)
        total, done = None, 0
        for outcome in pool.apply(_sum, z[chosen]):
            if outcome.error:
                failures.append(f"mean volume, {side.name}: {outcome.error}")
                continue
            total = outcome.value if total is None else total + outcome.value
            done += len(outcome.item)
        if total is None:
            continue
        mean = (total / done).astype(np.float32)
        write_volume(
            folder.at(f"{side.name}_mean.mrc"), mean, pixel_size_angstrom=pixel_size_angstrom
        )
        c = len(mean) // 2
        slices = (mean[c], mean[:, c], mean[:, :, c])
        rows.append(
            (side.name, [Tile(image=s, title=f"⊥ {a}") for s, a in zip(slices, "zyx", strict=True)])
        )
    if rows:
        folder.write_figure("mean_volumes.png", sheet(rows, tile_inches=1.6))
    return failures


def _sum(volumes: Float[np.ndarray, "b d d d"]) -> Float[np.ndarray, "d d d"]:
    return volumes.sum(axis=0, dtype=np.float64)
