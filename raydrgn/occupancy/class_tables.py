"""Tables of classes and blocks, and the particles of each class, as files."""

import numpy as np

from raydrgn.io import cryodrgn
from raydrgn.occupancy.classes import OccupancyClasses, class_rows, pair_rows
from raydrgn.occupancy.membership import ClassParticles
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Int

IND, LABELS = "ind.pkl", "labels.pkl"


def class_titles(found: OccupancyClasses, particles: ClassParticles | None) -> list[str]:
    """Return name and share of each class: of the particles if they are known, else of volumes."""
    rows = class_rows(found, particles.counts() if particles else None)
    share = 4 if particles else 2
    return [f"{row[0]}  {100 * row[share]:.1f} %" for row in rows]


def write_tables(
    found: OccupancyClasses, particles: ClassParticles | None, folder: ResultFolder
) -> None:
    """Write classes, blocks, volumes, means, scaling and correlations as CSV."""
    counts = particles.counts() if particles else None
    head = ["class", "volumes", "share_of_volumes"]
    head += ["particles", "share_of_particles"] if particles else []
    folder.write_table("classes.csv", (*head, "occupied_blocks"), class_rows(found, counts))
    names, order = found.table.labels, found.blocks.tree.point_order.tolist()
    folder.write_table(
        "blocks.csv",
        ("subunit", "block", "occupancy_at_0", "occupancy_at_1"),
        [
            (
                names[i],
                f"B{found.blocks.labels[i]}",
                found.scaling.low[i],
                found.scaling.high[i],
            )
            for i in order
        ],
    )
    means = found.means()
    folder.write_table(
        "class_means.csv",
        ("class", *(names[i] for i in order)),
        [(f"C{c}", *means[c - 1, order]) for c in range(1, found.classes.count + 1)],
    )
    _write_volumes(found, folder)
    folder.write_table(
        "correlations.csv",
        ("subunit", "other", "r", "p_adjusted", "significant"),
        [(row[0], row[1], *row[2:]) for row in pair_rows(found)],
    )


def _write_volumes(found: OccupancyClasses, folder: ResultFolder) -> None:
    """Write the class of each volume, with its particle where it has one."""
    table = found.table
    columns: dict[str, list[object]] = {
        "volume": list(table.volumes),
        "class": [f"C{label}" for label in found.classes.labels],
    }
    if found.selected is not None:
        columns["selected"] = found.selected.astype(int).tolist()
    if table.particles is not None:
        columns["particle"] = table.particles.tolist()
    if table.original is not None:
        columns["original"] = table.original.tolist()
    rows = list(zip(*columns.values(), strict=True))
    folder.write_table("volumes.csv", list(columns), rows)


def selected_particles(
    found: OccupancyClasses, particles: ClassParticles | None
) -> Int[np.ndarray, " q"] | None:
    """Return the original numbers of the particles of the selected volumes, if any are selected."""
    if particles is None or found.selected is None:
        return None
    members = particles.members
    return members.numbers[members.particles_of(np.flatnonzero(found.selected))]


def write_particles(
    particles: ClassParticles, selected: Int[np.ndarray, " q"] | None, folder: ResultFolder
) -> None:
    """Write the particles of each class, and those of the selected volumes.

    Numbers are those of the original set. ``labels.pkl`` has the class of each particle of the
    run, as ``filter --labels`` takes it.
    """
    cryodrgn.write_pickles(folder.at(LABELS), particles.labels)
    for number in range(1, len(particles.centroids) + 1):
        in_class = particles.members.numbers[particles.labels == number]
        cryodrgn.write_indices(folder.at(f"C{number}", IND), in_class)
    if selected is not None:
        cryodrgn.write_indices(folder.at(IND), selected)
