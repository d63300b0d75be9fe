"""``raydrgn traverse``: paths through the latent space."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from raydrgn.cli.console import console, metering
from raydrgn.cli.decoding import decoding, end_with
from raydrgn.cli.options import (
    Address,
    Flip,
    Invert,
    LowPass,
    Out,
    Overwrite,
    PixelSize,
    RunFolder,
    SmallBox,
    Workers,
)

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.latent.path_report import Route
    from raydrgn.run.reader import RunReader

traverse = typer.Typer(help="Volumes along a path through the latent space.", no_args_is_help=True)

Epoch = Annotated[int | None, typer.Option(help="Epoch; the last whole one by default.")]
Points = Annotated[int, typer.Option("-n", "--points", min=2, help="Points along the path.")]
Anchors = Annotated[
    str | None, typer.Option(help="Particles to visit, as 0,17,42 (rows of z.N.pkl), or a file.")
]
Centres = Annotated[
    str | None,
    typer.Option(help="Clusters of analyze to visit, as 0,7; 20:0,7 where K was not the last."),
]
SkipVolumes = Annotated[bool, typer.Option("--skip-volumes", help="No volumes.")]


@traverse.command("pc")
def traverse_pc(
    run: RunFolder,
    component: Annotated[int, typer.Option("--pc", min=1, help="Component, from 1.")] = 1,
    points: Points = 10,
    percentiles: Annotated[
        tuple[float, float], typer.Option("--range", help="Percentiles of the ends.")
    ] = (1.0, 99.0),
    spaced: Annotated[
        Literal["even", "percentile"],
        typer.Option(help="Even steps, or equally many particles in each."),
    ] = "even",
    epoch: Epoch = None,
    out: Out = None,
    flip: Flip = False,
    invert: Invert = False,
    box: SmallBox = None,
    low_pass: LowPass = None,
    pixel_size: PixelSize = None,
    skip_volumes: SkipVolumes = False,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Go along a principal component, all others at the mean.

    Writes RUN/traverse.N/pcK: latents, volumes, a figure on the UMAP, and how many particles there
    are around each point.
    """
    from raydrgn.clustering.embedding import principal_components
    from raydrgn.latent.path_report import Route
    from raydrgn.latent.paths import along_component
    from raydrgn.run.reader import open_run

    opened = open_run(run)
    chosen = opened.epoch(epoch)
    z = opened.finite_latents(chosen)
    line = along_component(
        principal_components(z),
        component - 1,
        points=points,
        percentiles=percentiles,
        spaced=spaced,
    )
    route = Route(name=f"pc{component}", z=line)
    options = _options(box, flip, invert, low_pass)
    _finish(
        opened, chosen, z, route, options, out=out, pixel_size=pixel_size,
        skip_volumes=skip_volumes, overwrite=overwrite, workers=workers, address=address,
    )  # fmt: skip


@traverse.command("direct")
def traverse_direct(
    run: RunFolder,
    anchors: Anchors = None,
    centres: Centres = None,
    points: Annotated[
        int, typer.Option("-n", "--points", min=2, help="Points of each line, ends included.")
    ] = 6,
    epoch: Epoch = None,
    out: Out = None,
    flip: Flip = False,
    invert: Invert = False,
    box: SmallBox = None,
    low_pass: LowPass = None,
    pixel_size: PixelSize = None,
    skip_volumes: SkipVolumes = False,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Go along straight lines from anchor to anchor.

    Writes RUN/traverse.N/direct. A line may lead through places where there are no particles;
    points.csv and the figure say how many there are around each point.
    """
    from raydrgn.latent.path_report import Route, read_anchors
    from raydrgn.latent.paths import straight
    from raydrgn.run.reader import open_run

    opened = open_run(run)
    chosen = opened.epoch(epoch)
    z = opened.finite_latents(chosen)
    rows = read_anchors(opened, chosen, len(z), anchors=anchors, centres=centres)
    route = Route(name="direct", z=straight(z[rows], points=points))
    options = _options(box, flip, invert, low_pass)
    _finish(
        opened, chosen, z, route, options, out=out, pixel_size=pixel_size,
        skip_volumes=skip_volumes, overwrite=overwrite, workers=workers, address=address,
    )  # fmt: skip


@traverse.command("graph")
def traverse_graph(
    run: RunFolder,
    anchors: Anchors = None,
    centres: Centres = None,
    max_neighbors: Annotated[
        int, typer.Option(min=2, help="Nearest neighbours that a particle may step to.")
    ] = 10,
    avg_neighbors: Annotated[
        float, typer.Option(help="How many of them are kept on average: the shortest of all.")
    ] = 5.0,
    epoch: Epoch = None,
    out: Out = None,
    flip: Flip = False,
    invert: Invert = False,
    box: SmallBox = None,
    low_pass: LowPass = None,
    pixel_size: PixelSize = None,
    skip_volumes: SkipVolumes = False,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Go from particle to particle by the shortest path through near neighbours.

    Writes RUN/traverse.N/graph, with the particles in path_ind.txt. Neighbours are exact up to
    200,000 particles; beyond, those that pynndescent finds (a million particles in 8 dimensions:
    about 2 minutes and 1.4 GB on two cores).
    """
    from raydrgn.latent.path_report import Route, read_anchors
    from raydrgn.latent.paths import NeighbourGraph
    from raydrgn.run.reader import open_run

    opened = open_run(run)
    chosen = opened.epoch(epoch)
    z = opened.finite_latents(chosen)
    rows = read_anchors(opened, chosen, len(z), anchors=anchors, centres=centres)
    graph = NeighbourGraph(z, max_neighbors=max_neighbors, avg_neighbors=avg_neighbors)
    path = graph.through(rows.tolist())
    console.print(
        f"path of {len(path.rows)} particles, length {path.length:.3f}; straight "
        f"{path.distance:.3f}",
        highlight=False,
    )
    route = Route(name="graph", z=z[path.rows], rows=path.rows)
    options = _options(box, flip, invert, low_pass)
    _finish(
        opened, chosen, z, route, options, out=out, pixel_size=pixel_size,
        skip_volumes=skip_volumes, overwrite=overwrite, workers=workers, address=address,
    )  # fmt: skip


def _options(box: int | None, flip: bool, invert: bool, low_pass: float | None) -> "VolumeOptions":
    from raydrgn.decoding.options import VolumeOptions

    return VolumeOptions(box=box, flip=flip, invert=invert, low_pass_angstrom=low_pass)


def _finish(
    opened: "RunReader",
    epoch: int | None,
    z: "np.ndarray",
    route: "Route",
    options: "VolumeOptions",
    *,
    out: str | None,
    pixel_size: float | None,
    skip_volumes: bool,
    overwrite: bool,
    workers: int,
    address: str | None,
) -> None:
    """Write a route and its volumes."""
    from dataclasses import asdict

    from raydrgn.decoding.volume_sets import make_sets
    from raydrgn.io import storage
    from raydrgn.io.storage import checksum
    from raydrgn.latent.path_report import write_route, write_slices
    from raydrgn.reporting.result_folder import ResultFolder

    options.check(opened.box)
    place = out or storage.join(opened.files.results("traverse", epoch), route.name)
    folder = ResultFolder(place)
    settings = {
        "points": f"{len(route.z)} from z = {_numbers(route.z[0])} to {_numbers(route.z[-1])} "
        f"({checksum(route.z.tobytes())[:12]})",
        "options": asdict(options),
        "pixel_size": pixel_size,
    }
    folder.begin(settings, overwrite=overwrite)
    one = write_route(opened, epoch, z, route, folder)
    failures: list[str] = []
    if not skip_volumes:
        state = opened.decoder(epoch, pixel_size_angstrom=pixel_size)
        with (
            decoding(state, options, workers=workers, address=address) as pool,
            metering("volumes") as meter,
        ):
            made = make_sets(pool, [one], progress=meter.show)
        write_slices(folder, one, made)
        failures = made.failures
    console.print(f"{len(route.z)} points → {folder.uri}", highlight=False, soft_wrap=True)
    end_with(failures)


def _numbers(z: "np.ndarray") -> str:
    """Return a latent as the options take it."""
    return ",".join(f"{value:.4g}" for value in z)
