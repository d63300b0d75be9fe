"""Figures, tables and report of a landscape."""

import shlex
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from raydrgn.decoding.volume_sets import central_slices, previews_of
from raydrgn.io.mrc import read_volume
from raydrgn.landscape.free_energy import FreeEnergy, free_energy
from raydrgn.landscape.options import Linkage
from raydrgn.landscape.particles import ParticleCoordinates
from raydrgn.landscape.regression import Regression
from raydrgn.landscape.results import SHOWN_COMPONENTS, component_set, sd_map, state_set
from raydrgn.landscape.sketch import Sketch
from raydrgn.reporting import latent_figures
from raydrgn.reporting.figures import PALETTE, Tile, explained_variance, sheet, slice_rows
from raydrgn.reporting.latent_plane import latent_plane
from raydrgn.reporting.report import ReportTable, Section, write_report
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.next_commands import selection_commands
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float

ENERGY_NOTE = (
    "The pseudo free energy is −ln of the density of particles, in kT, from its maximum. It "
    "shows which volumes many particles have. It is not an energy: it also depends on the prior of "
    "the latents, on noise, and on which particles refinement and filtering left out."
)
DEEPEST_KT = 6.0

Shown = list[tuple[Figure, str]]


class Landscape(NamedTuple):
    """What a report shows."""

    run: RunReader
    epoch: int | None
    z: Float[np.ndarray, "p zdim"]
    sketch: Sketch
    particles: ParticleCoordinates
    linkage: Linkage
    """Of the states."""


def write_landscape(found: Landscape, folder: ResultFolder) -> None:
    """Draw the figures into the folder, and ``report.html`` of them all."""
    sections = [
        _states(found, folder),
        _particles(found, folder),
        _components(found, folder),
        _energy(found, folder),
        _regression(found.particles.regression, len(found.particles.rows), folder),
        Section(title="Next", commands="\n".join(_next_commands(found, folder))),
    ]
    write_report(
        folder.at("report.html"),
        title=f"Landscape of {found.run.files.root}, epoch {found.epoch}",
        summary=_summary(found),
        sections=[
            section for section in sections if section.figures or section.text or section.commands
        ],
    )


def _next_commands(found: Landscape, folder: ResultFolder) -> list[str]:
    """Return what usually comes after, filled in for the state of the most particles."""
    state = int(np.bincount(found.sketch.particle_states()).argmax())
    name = f"state_{state:03d}"
    root = found.run.root
    epoch = [] if found.epoch is None else [str(found.epoch)]
    by = ["--by", folder.uri, "-o", "states.png"]
    return [
        shlex.join(["raydrgn", "plot", root, *epoch, *by]),
        *selection_commands(found.run, folder.at("states", f"{name}.ind.pkl"), name=name),
    ]


def _summary(found: Landscape) -> str:
    sketch, particles = found.sketch, found.particles
    share = 100 * sketch.components.explained
    mask = "given" if sketch.threshold is None else f"density from {sketch.threshold:.4g}"
    text = (
        f"{len(sketch.labels):,} on-data volumes; the first two components explain "
        f"{share[:2].sum():.0f} % of their variance within the mask of "
        f"{len(sketch.components.mean):,} voxels ({mask}). {sketch.num_states} states. "
        f"{len(particles.coordinates):,} particles have coordinates, {len(particles.rows):,} of "
        "them from their own volumes"
    )
    if particles.regression is None:
        return text + "."
    return text + (
        ", the others by regression (R² of component 1 on held-out volumes: "
        f"{particles.regression.r_squared[0]:.2f})."
    )


def _states(found: Landscape, folder: ResultFolder) -> Section:
    table = _write_state_table(found.sketch, folder)
    return Section(
        title="States",
        text=f"Agglomerative clusters ({found.linkage} linkage, Euclidean distance of masked "
        "density) of the volumes of the sketch, numbered along their dendrogram. Particles follow "
        "the volume of their k-means cluster; states/state_NNN.ind.pkl lists them in the numbers "
        "of the original set, for `raydrgn train --ind` and `raydrgn export`.",
        figures=[_state_slices(found.sketch, folder), *_sketch_components(found, folder)],
        tables=[
            ReportTable(
                head=("state", "volumes", "particles", "share"),
                rows=[(str(k), f"{v:,}", f"{p:,}", f"{100 * s:.2f} %") for k, v, p, s in table],
            )
        ],
    )


def _write_state_table(sketch: Sketch, folder: ResultFolder) -> list[tuple[int, int, int, float]]:
    """Write volumes, particles and the share of these of each state; return the rows."""
    count = sketch.num_states
    particles = np.bincount(sketch.particle_states(), minlength=count)
    volumes = np.bincount(sketch.labels, minlength=count)
    table = [
        (k, int(volumes[k]), int(particles[k]), float(particles[k] / particles.sum()))
        for k in range(count)
    ]
    folder.write_table("states/states.csv", ("state", "volumes", "particles", "share"), table)
    return table


def _state_slices(sketch: Sketch, folder: ResultFolder) -> tuple[Figure, str]:
    """Draw slices of the mean and of the SD of each state."""
    volume_set, count = state_set(sketch, folder), sketch.num_states
    rows = slice_rows(volume_set.titles, central_slices(previews_of(volume_set)))
    sd_maps = [read_volume(sd_map(state, folder))[0] for state in range(count)]
    for start in range(0, count, 10):
        part = sd_maps[start : start + 10]
        rows.append(("SD ⊥ z", [Tile(image=volume[len(volume) // 2]) for volume in part]))
    figure = sheet(rows)
    folder.write_figure("states/slices.png", figure)
    return (
        figure,
        "Mean volume of each state with its share of the particles, and the SD within it, each "
        "on its own grey scale; states/open.cxc shows them in ChimeraX.",
    )


def _sketch_components(found: Landscape, folder: ResultFolder) -> Shown:
    """Draw the volumes of the sketch by pairs of their components, coloured by state."""
    sketch, shown = found.sketch, []
    coordinates = sketch.components.coordinates
    for first in range(0, min(4, coordinates.shape[1] - 1), 2):
        xy = coordinates[:, first : first + 2]
        centres = np.array(
            [np.median(xy[sketch.labels == k], axis=0) for k in range(sketch.num_states)]
        )
        names = _axes(found, first)
        drawn = latent_figures.clusters(names, xy, sketch.labels, centres)
        folder.write_figure(f"sketch_components_{first + 1}_{first + 2}.png", drawn)
        shown.append((drawn, "Each dot is a volume of the sketch, coloured by state."))
    return shown


def _particles(found: Landscape, folder: ResultFolder) -> Section:
    """Show where the states are in latent space."""
    shown = latent_plane(found.run, found.epoch, found.z)
    if shown is None:
        return Section(title="States in latent space")
    names, xy = shown
    state = found.sketch.particle_states()
    centres = np.array([np.median(xy[state == k], axis=0) for k in range(int(state.max()) + 1)])
    figure = latent_figures.clusters(names, xy, state, centres)
    folder.write_figure("states_in_latent_space.png", figure)
    return Section(
        title="States in latent space",
        figures=[(figure, "Particles coloured by state; numbers stand at the medians.")],
    )


def _components(found: Landscape, folder: ResultFolder) -> Section:
    share = found.sketch.components.explained
    folder.write_table(
        "components.csv",
        ("component", "explained_variance_share"),
        [(k, float(value)) for k, value in enumerate(share, start=1)],
    )
    figure = explained_variance(share, what="volume component")
    folder.write_figure("components.png", figure)
    shown: Shown = [(figure, "Variance within the mask that each component explains.")]
    for component in range(min(SHOWN_COMPONENTS, len(share))):
        volume_set = component_set(found.sketch, component, folder)
        drawn = sheet(slice_rows(volume_set.titles, central_slices(previews_of(volume_set))))
        folder.write_figure(f"component{component + 1}/slices.png", drawn)
        shown.append((drawn, f"Mean volume plus a multiple (title) of component {component + 1}."))
    return Section(title="Volume components", figures=shown)


def _energy(found: Landscape, folder: ResultFolder) -> Section:
    shown: Shown = []
    coordinates = found.particles.coordinates
    for first in range(0, min(4, coordinates.shape[1] - 1), 2):
        energy = free_energy(coordinates[:, first : first + 2])
        pair = f"{first + 1}_{first + 2}"
        figure = _draw_energy(energy, found, first)
        folder.write_figure(f"free_energy_{pair}.png", figure)
        shown.append((figure, "Dots are the volumes of the sketch, coloured by state."))
        x, y = ((edges[:-1] + edges[1:]) / 2 for edges in energy.edges)
        folder.write_table(
            f"free_energy_{pair}.csv",
            (f"component{first + 1}", f"component{first + 2}", "particles", "energy_kt"),
            [
                (float(x[i]), float(y[j]), int(energy.counts[i, j]), float(energy.energy[i, j]))
                for i, j in np.argwhere(np.isfinite(energy.energy))
            ],
        )
    return Section(title="Landscape of all particles", text=ENERGY_NOTE, figures=shown)


def _draw_energy(energy: FreeEnergy, found: Landscape, first: int) -> Figure:
    figure = Figure(figsize=(6.4, 4.9), layout="constrained")
    axis = figure.subplots()
    drawn = axis.pcolormesh(
        *energy.edges, energy.energy.T, cmap="viridis_r", vmin=0, vmax=DEEPEST_KT, rasterized=True
    )
    figure.colorbar(drawn, ax=axis, label="pseudo free energy, kT", extend="max")
    own = found.sketch.components.coordinates[:, first : first + 2]
    labels = found.sketch.labels
    colours = np.array(latent_figures.series_colours(int(labels.max()) + 1))
    axis.scatter(
        own[:, 0], own[:, 1], s=7, c=colours[labels], edgecolors="black", linewidths=0.3, zorder=3
    )
    for state in range(int(labels.max()) + 1):
        x, y = np.median(own[labels == state], axis=0)
        axis.annotate(str(state), (x, y), fontsize=9, zorder=4, path_effects=latent_figures.HALO)
    x_name, y_name = _axes(found, first)
    axis.set(xlabel=x_name, ylabel=y_name)
    for dimension, side in enumerate("xy"):
        low, high = energy.edges[dimension][[0, -1]]
        margin = 0.03 * (high - low)
        shown = own[:, dimension]
        low, high = min(low, shown.min() - margin), max(high, shown.max() + margin)
        getattr(axis, f"set_{side}lim")(low, high)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _regression(regression: Regression | None, num_volumes: int, folder: ResultFolder) -> Section:
    if regression is None:
        return Section(title="Regression")
    r_squared = regression.r_squared
    folder.write_table(
        "regression.csv",
        ("component", "held_out_r_squared"),
        [(k, float(value)) for k, value in enumerate(r_squared, start=1)],
    )
    count = min(4, len(r_squared))
    figure = Figure(figsize=(2.6 * count, 2.7), layout="constrained")
    for k, axis in enumerate(figure.subplots(1, count, squeeze=False)[0]):
        true, predicted = regression.held_out[:, k], regression.predicted[:, k]
        axis.scatter(true, predicted, s=3, color=PALETTE[0], linewidths=0, alpha=0.6)
        ends = [float(true.min()), float(true.max())]
        axis.plot(ends, ends, color="0.3", linewidth=0.8)
        axis.set_title(f"component {k + 1}, R² {r_squared[k]:.3f}", fontsize=8)
        axis.set_xlabel("of the volume", fontsize=8)
        axis.tick_params(labelsize=6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("from the latent", fontsize=8)
    folder.write_figure("regression.png", figure)
    return Section(
        title="Regression from latents to volumes",
        text=f"Fitted to three quarters of {num_volumes:,} volumes, and drawn for the held-out "
        "quarter. Along a component with a low R², the coordinates of the other particles are "
        "unreliable.",
        figures=[(figure, "Coordinates of decoded volumes, and those predicted from latents.")],
    )


def _axes(found: Landscape, first: int) -> tuple[str, str]:
    share = 100 * found.sketch.components.explained
    return (
        f"volume component {first + 1} ({share[first]:.0f} %)",
        f"volume component {first + 2} ({share[first + 1]:.0f} %)",
    )
