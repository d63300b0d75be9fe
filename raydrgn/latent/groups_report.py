"""Clusters or components shown before anything is dropped: sizes, particles, mean volumes."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from raydrgn.clustering.clusters import nearest_to_median
from raydrgn.decoding.pool import DecoderPool
from raydrgn.decoding.volume_sets import Preview, preview
from raydrgn.errors import RaydrgnError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import write_volume
from raydrgn.latent.analysis_tables import particle_columns
from raydrgn.latent.filter_report import IMAGES_PER_ROW, SHOWN, image_rows
from raydrgn.latent.mean_volumes import mean_volume
from raydrgn.latent.volume_densities import DENSITIES, density_table
from raydrgn.remote.progress import Progress, silent
from raydrgn.reporting import latent_figures
from raydrgn.reporting.figures import sheet, slice_rows
from raydrgn.reporting.latent_plane import Plane
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.latents_file import LatentSource
from raydrgn.shapes import Float, Int


class GroupSize(NamedTuple):
    """Particles of a label, and how far they lie from the centre of the latent space."""

    label: int
    particles: int
    share: float
    mean_norm: float
    sd_norm: float
    max_norm: float
    """Of |z|."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Clusters or components of the particles of an epoch."""

    noun: str
    """``cluster`` or ``component``."""

    labels: Int[np.ndarray, " n"]
    """Of each particle; −1 belongs to none."""

    z: Float[np.ndarray, "n zdim"]
    numbers: Int[np.ndarray, " n"]
    """Of the particles in the original set."""

    @property
    def present(self) -> list[int]:
        """The labels, ascending."""
        return np.unique(self.labels).tolist()

    def members(self, label: int) -> Int[np.ndarray, " m"]:
        """Return the particles of a label, as rows."""
        return np.flatnonzero(self.labels == label)

    def name(self, label: int) -> str:
        """Return what files of a label are called."""
        return f"{self.noun}{label}" if label >= 0 else "none"

    def sizes(self) -> list["GroupSize"]:
        """Return the size of each label."""
        norm = np.linalg.norm(self.z.astype(np.float64), axis=1)
        rows = []
        for label in self.present:
            own = norm[self.labels == label]
            share = float(len(own) / len(norm))
            norms = float(own.mean()), float(own.std()), float(own.max())
            rows.append(GroupSize(label, len(own), share, *norms))
        return rows

    def describe(self) -> list[str]:
        """Return a line per label."""
        return [
            f"{self.noun} {row.label}: {row.particles:,} particles ({100 * row.share:.1f} %), "
            f"mean |z| {row.mean_norm:.2f}"
            for row in self.sizes()
        ]


def write_labels(groups: Groups, folder: ResultFolder, *, uids: np.ndarray | None) -> None:
    """Write the label of each particle, and the size of each label."""
    cryodrgn.write_pickles(folder.at("labels.pkl"), groups.labels)
    columns = particle_columns(len(groups.labels), groups.numbers, uids=uids)
    folder.write_parquet("labels.parquet", {**columns, "cluster": groups.labels})
    head = (groups.noun, *GroupSize._fields[1:])
    folder.write_table("sizes.csv", head, groups.sizes())


def write_images(
    groups: Groups, source: LatentSource, folder: ResultFolder, *, progress: Progress = silent
) -> tuple[Figure | None, str]:
    """Draw twenty random particles of each label, as they are and filtered.

    Returns:
        A sheet of ten filtered ones of each label, None if there are no images; and why.
    """
    shown = []
    try:
        for done, label in enumerate(groups.present, start=1):
            name = groups.name(label)
            rows = image_rows(source, name, groups.members(label), groups.numbers, count=SHOWN)
            folder.write_figure(f"images/{name}.png", sheet(rows))
            _, clear = rows[1]
            titles = rows[0][1]
            tiles = [tile.titled(raw.title) for tile, raw in zip(clear, titles, strict=True)]
            shown.append((str(label), tiles[:IMAGES_PER_ROW]))
            progress("images", done, len(groups.present), unit="groups")
    except RaydrgnError as error:
        return None, f"Images could not be read: {error}"
    return sheet(shown), ""


def write_volumes(
    groups: Groups, pool: DecoderPool, folder: ResultFolder, *, progress: Progress = silent
) -> tuple[Section, list[str]]:
    """Write the mean volume of each label, with its peak, noise and skewness.

    Returns:
        What the report shows of them; and what could not be decoded.
    """
    made: dict[int, Preview] = {}
    failures = []
    for label in groups.present:
        name = groups.name(label)
        mean, errors = mean_volume(
            pool, groups.z[groups.members(label)], name=name, progress=progress
        )
        failures += errors
        if mean is not None:
            uri = folder.at("volumes", f"{name}.mrc")
            write_volume(uri, mean, pixel_size_angstrom=pool.pixel_size_angstrom)
            made[label] = preview(mean)
    if not made:
        return Section(title="Mean volumes"), failures
    names = [str(label) for label in made]
    rows = slice_rows(names, [shown.slices for shown in made.values()])
    shown = []
    for file, one_scale, scale in (
        ("mean_volumes.png", False, "each on its own grey scale"),
        ("mean_volumes_one_scale.png", True, "all on one grey scale: weak ones are dark"),
    ):
        figure = sheet(rows, one_scale=one_scale)
        folder.write_figure(file, figure)
        shown.append((figure, f"Central slices, {scale}."))
    densities = [(name, seen.density) for name, seen in zip(names, made.values(), strict=True)]
    table = density_table(groups.noun, densities, "volumes/densities.csv", folder)
    text = f"Means of up to 100 volumes of each {groups.noun}. {DENSITIES}"
    return Section(title="Mean volumes", text=text, figures=shown, tables=[table]), failures


def next_commands(groups: Groups, words: str) -> list[str]:
    """Return commands that drop the smallest group, as examples of what comes next.

    Args:
        groups: What was shown.
        words: The command, but for what it drops.

    Returns:
        Nothing if there is one group only, without which no particle is left.
    """
    if len(groups.present) == 1:
        return []
    label = min(groups.sizes(), key=lambda row: row.particles).label
    option = "--drop" if groups.noun == "component" else "--drop-clusters"
    name = f"without{label}" if label >= 0 else "without_none"
    condition = f"not {groups.noun} in ({label}) and z_score < 2"
    return [
        f"{words} {option} {label}",
        f"{words} --where {shlex.quote(condition)} --name {name}",
    ]


def write_groups_report(
    groups: Groups,
    plane: Plane | None,
    folder: ResultFolder,
    *,
    title: str,
    images: Figure | None,
    volumes: Section,
    commands: Sequence[str],
) -> None:
    """Draw the labels in the latent space, and write the report."""
    figures = []
    if plane is not None:
        names, xy = plane
        present = groups.present
        position = np.searchsorted(present, groups.labels)
        centres = np.array([nearest_to_median(groups.z, groups.members(k)) for k in present])
        figure = latent_figures.clusters(names, xy, position, xy[centres], names=present)
        folder.write_figure("labels.png", figure)
        figures.append((figure, f"Particles coloured by {groups.noun}."))
    head = (groups.noun, "particles", "share", "mean |z|", "SD |z|", "largest |z|")
    rows = [
        (f"{row.label}", f"{row.particles:,}", f"{100 * row.share:.2f} %",
         f"{row.mean_norm:.2f}", f"{row.sd_norm:.2f}", f"{row.max_norm:.2f}")
        for row in groups.sizes()
    ]  # fmt: skip
    sections = [
        Section(title="Sizes", figures=figures, tables=[ReportTable(head=head, rows=rows)]),
        volumes,
        Section(
            title="Particles",
            figures=[
                (
                    images,
                    "Random particles of each, filtered; numbers are those of the "
                    "original set. images/ has twenty of each, as they are too.",
                )
            ]
            if images
            else [],
        ),
        Section(title="Next", commands="\n".join(commands)),
    ]
    write_report(
        folder.at("report.html"),
        title=title,
        summary=f"{len(groups.labels):,} particles in {len(groups.present)} {groups.noun}s. "
        "Nothing is dropped yet.",
        sections=[part for part in sections if part.figures or part.tables or part.commands],
    )
