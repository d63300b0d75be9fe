"""What a selection keeps and drops: particle numbers, figures, images, mean volumes."""

from collections.abc import Mapping, Sequence

import numpy as np

from raydrgn.data.particle_images import clear_images, read_images
from raydrgn.errors import InputError, RaydrgnError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.mrc import write_volume
from raydrgn.latent.analysis_tables import particle_columns
from raydrgn.latent.filters import REFERENCE_SD, Method, by_magnitude, overlaps
from raydrgn.reporting import latent_figures
from raydrgn.reporting.figures import Tile, sheet
from raydrgn.reporting.latent_plane import Plane
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.latents_file import LatentSource
from raydrgn.shapes import Bool, Float, Int

SHOWN = 20
"""Images of kept, and of dropped particles."""

IMAGES_PER_ROW = 10


def write_selection(
    kept: Bool[np.ndarray, " n"],
    numbers: Int[np.ndarray, " n"],
    folder: ResultFolder,
    *,
    uids: np.ndarray | None = None,
) -> None:
    """Write kept and dropped particles by their numbers in the original set, and as a table."""
    cryodrgn.write_indices(folder.at("kept.ind.pkl"), numbers[kept])
    cryodrgn.write_indices(folder.at("dropped.ind.pkl"), numbers[~kept])
    folder.write_parquet(
        "selection.parquet",
        {**particle_columns(len(kept), numbers, uids=uids), "kept": kept},
    )


def write_overlaps(
    methods: Sequence[Method],
    kept: Bool[np.ndarray, " n"],
    z: Float[np.ndarray, "n zdim"],
    folder: ResultFolder,
) -> None:
    """Write how far the methods agree with each other, and with the protocol's threshold."""
    reference = by_magnitude(z, REFERENCE_SD)
    compared = [*methods]
    if reference.name not in [method.name for method in methods]:
        compared.append(reference)
    if len(methods) > 1:
        compared.append(Method("all together", kept))
    head = ("method", "other", "dropped", "dropped_by_other", "by_both", "jaccard")
    folder.write_table("overlap.csv", head, overlaps(compared))


def write_embedding_figure(
    kept: Bool[np.ndarray, " n"], plane: Plane | None, folder: ResultFolder
) -> None:
    """Draw kept and dropped particles in two dimensions of the latent space."""
    if plane is not None:
        folder.write_figure("selection.png", latent_figures.kept_and_dropped(*plane, kept))


def write_images(
    run: LatentSource,
    kept: Bool[np.ndarray, " n"],
    numbers: Int[np.ndarray, " n"],
    folder: ResultFolder,
) -> str:
    """Draw random images of kept and dropped particles, as they are and filtered.

    Returns:
        Why images could not be drawn; empty if they were.
    """
    rows: list[tuple[str, list[Tile]]] = []
    try:
        for name, members in (("kept", np.flatnonzero(kept)), ("dropped", np.flatnonzero(~kept))):
            rows += image_rows(run, name, members, numbers, count=SHOWN)
    except RaydrgnError as error:
        return f"Images could not be read: {error}"
    folder.write_figure("images.png", sheet(rows))
    return ""


def image_rows(
    run: LatentSource,
    name: str,
    members: Int[np.ndarray, " m"],
    numbers: Int[np.ndarray, " n"],
    *,
    count: int,
) -> list[tuple[str, list[Tile]]]:
    """Return random images of some particles for ``sheet``: ten as they are, the same filtered, ….

    Args:
        run: Whose particles they are.
        name: Of the particles.
        members: Their rows.
        numbers: Of all particles in the original set.
        count: Images.

    Raises:
        RaydrgnError: If the images cannot be read.
    """
    table = run.particles(need_images=True)
    if len(table) != len(numbers):
        raise InputError(
            f"the images are of {len(table):,} particles, the run has {len(numbers):,}."
        )
    chosen = np.random.default_rng(0).choice(members, min(count, len(members)), replace=False)
    chosen.sort()
    raw = read_images(table, chosen)
    clear = clear_images(raw, table.select(chosen), bright=run.inverts)
    titles = [str(number) for number in numbers[chosen]]
    rows = []
    for start in range(0, len(chosen), IMAGES_PER_ROW):
        part = slice(start, start + IMAGES_PER_ROW)
        tiles = [
            Tile(image=image, title=title)
            for image, title in zip(raw[part], titles[part], strict=True)
        ]
        rows.append((f"{name}\nraw", tiles))
        rows.append((f"{name}\nfiltered", [Tile(image=image) for image in clear[part]]))
    return rows


def write_filter_report(
    methods: Sequence[Method],
    kept: Bool[np.ndarray, " n"],
    folder: ResultFolder,
    *,
    title: str,
    commands: Sequence[str],
) -> None:
    """Write ``report.html``: what each method drops, the figures of the folder, what comes next."""
    rows = [
        (method.name, f"{dropped:,}", f"{100 * dropped / len(kept):.1f} %")
        for method in methods
        for dropped in (int((~method.kept).sum()),)
    ]
    overlapping = [
        (first, second, f"{both:,}", f"{jaccard:.2f}")
        for first, second, _, _, both, jaccard in overlaps(methods)
    ]
    tables = [ReportTable(head=("method", "dropped", "share"), rows=rows)]
    if overlapping:
        head = ("method", "other", "dropped by both", "Jaccard index")
        tables.append(ReportTable(head=head, rows=overlapping))
    listed = (
        ("selection.png", "Kept and dropped particles in the latent space."),
        ("mean_volumes.png", "Mean volumes of kept and dropped particles."),
        ("images.png", "Random particles that are kept, and dropped ones."),
    )
    figures = [
        (storage.read_bytes(folder.at(name)), caption)
        for name, caption in listed
        if folder.has(name)
    ]
    write_report(
        folder.at("report.html"),
        title=title,
        summary=f"{int(kept.sum()):,} of {len(kept):,} particles are kept by all methods.",
        sections=[
            Section(title="Selection", figures=figures, tables=tables),
            Section(title="Next", commands="\n".join(commands)),
        ],
    )


def write_mean_volumes(
    means: Mapping[str, Float[np.ndarray, "d d d"]],
    folder: ResultFolder,
    *,
    pixel_size_angstrom: float,
) -> None:
    """Write mean volumes by the names of their groups, and draw their central slices."""
    rows: list[tuple[str, list[Tile]]] = []
    for name, mean in means.items():
        uri = folder.at(f"{name}_mean.mrc")
        write_volume(uri, mean, pixel_size_angstrom=pixel_size_angstrom)
        c = len(mean) // 2
        slices = (mean[c], mean[:, c], mean[:, :, c])
        tiles = [Tile(image=s, title=f"⊥ {axis}") for s, axis in zip(slices, "zyx", strict=True)]
        rows.append((name, tiles))
    if rows:
        folder.write_figure("mean_volumes.png", sheet(rows, tile_inches=1.6))
