"""The page that shows what is proposed to be junk: volumes, methods, images."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from matplotlib.figure import Figure

from raydrgn.data.particle_images import clear_images, read_images
from raydrgn.errors import RaydrgnError
from raydrgn.mfa.config import SHOWS_NOTHING
from raydrgn.mfa.latents import UNDETERMINED
from raydrgn.protocol.proposal import (
    CLUSTER_RULE,
    NULL_RULE,
    Proposal,
    cluster_table,
    overlap_table,
)
from raydrgn.reporting.figures import PALETTE, Tile, sheet
from raydrgn.reporting.latent_plane import Plane, latent_plane
from raydrgn.reporting.report import Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

SHOWN, COLUMNS = 20, 10
SEED = 0

BY_NUMBER = "Random particles, phases flipped and low-pass filtered, by original number."
BY_CLUSTER = (
    f"Up to {SHOWN} random particles of each cluster, drawn in the same way; the numbers of those "
    "of which most particles are proposed are red."
)

MEANING = (
    "Peak, total and noise are of the decoded volume at the centre of a cluster, in the units of "
    "the map, so that they can be compared: highest density, sum of the density in the sphere, SD "
    "in the sphere outside the mask of the map of all particles, where density that most particles "
    "lack counts as noise, too. Half sets are the even and odd particles of the cluster, "
    "back-projected: their mean FSC in shells 2 to 8 within that mask, and the resolution at "
    "0.143. Small clusters have less of both."
)


def write_page(
    proposal: Proposal,
    run: RunReader,
    epoch: int,
    volumes: Sequence[Float[np.ndarray, "d d d"]],
    folder: ResultFolder,
    *,
    labels: Int[np.ndarray, " n"],
    command: str,
    explore: str,
) -> None:
    """Draw the figures, and make a page of them.

    Args:
        proposal: What is proposed.
        run: The run.
        epoch: Its epoch.
        volumes: Decoded volume of each cluster.
        folder: Where to write.
        labels: Cluster of each particle.
        command: What goes on with the project.
        explore: What shows the project in a browser.
    """
    slices = slice_figure(proposal, volumes)
    folder.write_figure("volumes.png", slices)
    sections = [
        _cluster_section(proposal, slices, command=command, explore=explore),
        Section(title="What the numbers mean", text=MEANING),
    ]
    plane = latent_plane(run, epoch, run.finite_latents(epoch))
    if plane is not None:
        methods = method_figure(proposal, plane)
        folder.write_figure("methods.png", methods)
        sections.append(_method_section(proposal, methods))
    with suppress(RaydrgnError):  # images that cannot be read any more
        images, of_clusters = (
            image_figure(proposal, run),
            cluster_image_figure(proposal, run, labels),
        )
        folder.write_figure("images.png", images)
        folder.write_figure("cluster_images.png", of_clusters)
        sections.append(
            Section(title="Particles", figures=[(images, BY_NUMBER), (of_clusters, BY_CLUSTER)])
        )
    write_report(
        folder.at("report.html"),
        title=f"{run.root}, epoch {epoch}: junk",
        summary=summary(proposal),
        sections=sections,
    )


def _cluster_section(proposal: Proposal, slices: Figure, *, command: str, explore: str) -> Section:
    """Return the rule, the volumes and the numbers of the clusters, and what accepts them."""
    has_null = proposal.numbers[0].shows_nothing is not None
    return Section(
        title="Clusters",
        text=f"{NULL_RULE if has_null else ''}{CLUSTER_RULE}",
        figures=[(slices, "Central slices normal to z of the volume of each cluster, on one "
                  "grey scale; those of which most particles are proposed have a red frame.")],
        tables=[cluster_table(proposal)],
        commands=f"{command} --accept\n{command} --drop 3,11    # these clusters instead\n"
        f"{command} --drop none    # keep all\n"
        f"{explore}    # choose particles in a browser",
    )  # fmt: skip


def _method_section(proposal: Proposal, methods: Figure) -> Section:
    return Section(
        title="Other methods",
        text="What each method would drop, and how far they agree. Only those of the rule above "
        "are proposed.",
        figures=[(methods, "Blue: kept; red: dropped.")],
        tables=[overlap_table(proposal)],
    )


def summary(proposal: Proposal) -> str:
    """Return in words what is proposed."""
    count, drop = len(proposal.kept), int((~proposal.kept).sum())
    clusters = "" if proposal.has_latents else f" No cluster is proposed. {UNDETERMINED}"
    if not drop:
        return f"No junk was found: all {count:,} particles are proposed to be kept.{clusters}"
    listed = ", ".join(map(str, proposal.clusters))
    parts = [f"clusters {listed}"] if listed else []
    if proposal.numbers[0].shows_nothing is not None:
        nothing = int((~proposal.methods[0].kept).sum())
        parts.insert(0, f"{nothing:,} that show nothing (probability above {SHOWS_NOTHING:g})")
    return (
        f"{drop:,} of {count:,} particles ({100 * drop / count:.1f} %) are proposed to be dropped: "
        f"{' and '.join(parts)}.{clusters}"
    )


def slice_figure(proposal: Proposal, volumes: Sequence[Float[np.ndarray, "d d d"]]) -> Figure:
    """Draw central slices of the volumes on one grey scale."""
    rows = -(-len(volumes) // COLUMNS)
    columns = min(COLUMNS, len(volumes))
    figure = Figure(figsize=(1.25 * columns, 1.5 * rows), layout="constrained")
    middles = [volume[len(volume) // 2] for volume in volumes]
    low, high = min(m.min() for m in middles), float(np.percentile(np.stack(middles), 99.9))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in grid:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, middle, numbers in zip(grid, middles, proposal.numbers, strict=False):
        axis.imshow(middle, cmap="gray", origin="lower", vmin=low, vmax=high)
        axis.set_title(f"{numbers.cluster}: {100 * numbers.share:.1f} %", fontsize=8, pad=2)
        if proposal.reason(numbers):
            axis.spines[:].set(visible=True, color=PALETTE[1], linewidth=2.5)
    return figure


def method_figure(proposal: Proposal, plane: Plane) -> Figure:
    """Draw what each method drops, side by side, in one plane of the latent space."""
    names, xy = plane
    count = len(proposal.methods)
    figure = Figure(figsize=(2.9 * count, 3.2), layout="constrained")
    grid = figure.subplots(1, count, squeeze=False)[0]
    for axis, method in zip(grid, proposal.methods, strict=True):
        for rows, colour in ((method.kept, PALETTE[0]), (~method.kept, PALETTE[1])):
            axis.scatter(*xy[rows].T, s=2, color=colour, linewidths=0, rasterized=True)
        dropped = int((~method.kept).sum())
        axis.set_title(f"{method.name}\n{dropped:,} dropped", fontsize=8)
        axis.set(xlabel=names[0], ylabel=names[1], xticks=[], yticks=[])
    return figure


def image_figure(proposal: Proposal, run: RunReader) -> Figure:
    """Draw random images of what is proposed to be dropped, and of what is kept.

    Raises:
        RaydrgnError: If images cannot be read any more.
    """
    rows: list[tuple[str, list[Tile]]] = []
    numbers = run.original_numbers(len(proposal.kept))
    for name, chosen in (("dropped", ~proposal.kept), ("kept", proposal.kept)):
        members, images = _random_images(run, np.flatnonzero(chosen))
        tiles = [
            Tile(image=image, title=str(number))
            for image, number in zip(images, numbers[members], strict=True)
        ]
        rows += [(name, tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)]
    return sheet(rows)


def cluster_image_figure(
    proposal: Proposal, run: RunReader, labels: Int[np.ndarray, " n"]
) -> Figure:
    """Draw random images of each cluster, a row of it for each.

    Raises:
        RaydrgnError: If images cannot be read any more.
    """
    count = len(proposal.numbers)
    figure = Figure(figsize=(11, 0.55 * count))
    place = {"left": 0.03, "right": 1.0, "bottom": 0.0, "top": 1.0, "hspace": 0.04}
    grid = figure.subplots(count, 1, squeeze=False, gridspec_kw=place)[:, 0]
    for axis, numbers in zip(grid, proposal.numbers, strict=True):
        _, images = _random_images(run, np.flatnonzero(labels == numbers.cluster))
        box = run.box
        row = np.full((box, SHOWN * box), np.nan, dtype=np.float32)
        for k, image in enumerate(images):
            low, high = np.percentile(image, [0.5, 99.5])
            row[:, k * box : (k + 1) * box] = (image - low) / max(high - low, 1e-30)
        axis.imshow(row, cmap="gray", vmin=0, vmax=1, aspect="equal")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        colour = PALETTE[1] if proposal.reason(numbers) else "black"
        text = f"{numbers.cluster}"
        axis.set_ylabel(text, rotation=0, ha="right", va="center", color=colour, fontsize=8)
    return figure


def _random_images(
    run: RunReader, members: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k h w"]]:
    """Return rows of some particles, ascending, and their images, filtered."""
    table = run.particles(need_images=True)
    count = min(SHOWN, len(members))
    chosen = np.sort(np.random.default_rng(SEED).choice(members, count, replace=False))
    if not count:
        return chosen, np.empty((0, run.box, run.box), dtype=np.float32)
    images = read_images(table, chosen)
    return chosen, clear_images(images, table.select(chosen), bright=run.inverts)
