"""``raydrgn occupancy pca``."""

from typing import TYPE_CHECKING, Annotated

import typer

from raydrgn.cli.console import console, metering
from raydrgn.cli.decoding import decoding, end_with
from raydrgn.cli.options import Address, Flip, Invert, Overwrite, PixelSize, Workers

if TYPE_CHECKING:
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.landscape.masked_components import Mask


def pca(
    mask: Annotated[str, typer.Option(help="Mask (.mrc), in the box of the volumes.")],
    run: Annotated[
        str | None, typer.Argument(help="Run directory, of raydrgn or cryoDRGN.")
    ] = None,
    volumes: Annotated[str | None, typer.Option(help="Folder of maps, instead of a run.")] = None,
    ksample: Annotated[
        int | None, typer.Option(min=2, help="Volumes at the centres of so many k-means clusters.")
    ] = None,
    z_file: Annotated[
        str | None, typer.Option(help="Latents, one per line; also .npy or z.N.pkl.")
    ] = None,
    epoch: Annotated[int | None, typer.Option(help="Epoch; the last whole one by default.")] = None,
    components: Annotated[int, typer.Option(min=1, help="Principal components.")] = 10,
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="Folder to write; RUN/occupancy_pca.N by default."),
    ] = None,
    flip: Flip = False,
    invert: Invert = False,
    pixel_size: PixelSize = None,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Find how density varies within one mask: principal components, voxel by voxel.

    Needs no model. Writes what components explain, their maps, the coordinates of volumes and
    particles, the latent space coloured by them, and volumes along the first three. Volumes of a
    run are decoded in the mask's box.
    """
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.errors import ConfigError
    from raydrgn.io import storage
    from raydrgn.landscape.masked_components import read_mask
    from raydrgn.occupancy.subunits import refuse_inputs

    asked = [ksample is not None, z_file is not None, volumes is not None]
    if sum(asked) != 1 or (run is None) != (volumes is not None):
        raise ConfigError(
            "Say which volumes: RUN with one of --ksample and --z-file, or --volumes."
        )
    region = read_mask(mask)
    settings: dict[str, object] = {
        "mask": storage.absolute(mask),
        "voxels": storage.checksum(region.inside.tobytes()),
        "components": components,
    }
    if volumes is not None:
        if out is None:
            raise ConfigError("Say where to write with -o.")
        refuse_inputs(out, [volumes, mask])
        _of_folder(volumes, region, settings, out=out, components=components, overwrite=overwrite)
        return
    if out is not None:
        refuse_inputs(out, [run or "", mask, *([z_file] if z_file else [])])
    options = VolumeOptions(box=region.grid.box, flip=flip, invert=invert)
    _of_run(
        run or "", region, options, settings,
        ksample=ksample, z_file=z_file, epoch=epoch, components=components, out=out,
        pixel_size=pixel_size, overwrite=overwrite, workers=workers, address=address,
    )  # fmt: skip


def _of_folder(
    volumes: str,
    region: "Mask",
    settings: dict[str, object],
    *,
    out: str,
    components: int,
    overwrite: bool,
) -> None:
    from raydrgn.decoding.volume_sets import copy_maps
    from raydrgn.io import storage
    from raydrgn.landscape.masked_components import check_size, voxel_components, voxels_of_maps
    from raydrgn.landscape.masked_report import (
        component_paths,
        write_components,
        write_pca_report,
    )
    from raydrgn.occupancy.scored_volumes import of_folder
    from raydrgn.reporting.result_folder import ResultFolder

    wanted = of_folder(volumes, region.grid)
    check_size(len(wanted.names), region)
    with metering("volumes") as meter:
        rows = voxels_of_maps(wanted, region, progress=meter.callback("reading"))
    found = voxel_components(rows, min(components, len(rows) - 1))
    folder = ResultFolder(out)
    folder.begin(settings | {"volumes": storage.absolute(volumes)}, overwrite=overwrite)
    write_components(found, wanted, region, folder)
    paths = component_paths(found, wanted, rows, folder)
    for path in paths:
        copy_maps(path.volumes, [wanted.uris[row] for row in path.chosen])
    write_pca_report(found, region, folder, title=volumes, paths=paths)
    _say(found.explained[0], len(rows), folder.at("report.html"))


def _of_run(
    root: str,
    region: "Mask",
    options: "VolumeOptions",
    settings: dict[str, object],
    *,
    ksample: int | None,
    z_file: str | None,
    epoch: int | None,
    components: int,
    out: str | None,
    pixel_size: float | None,
    overwrite: bool,
    workers: int,
    address: str | None,
) -> None:
    from dataclasses import asdict

    from raydrgn.decoding.volume_sets import make_sets
    from raydrgn.errors import ConfigError
    from raydrgn.io import storage
    from raydrgn.landscape.masked_components import (
        check_size,
        of_particles,
        voxel_components,
        voxels_of_latents,
    )
    from raydrgn.landscape.masked_report import (
        Particles,
        component_paths,
        write_components,
        write_particles,
        write_pca_report,
    )
    from raydrgn.occupancy.class_report import embedding
    from raydrgn.occupancy.scored_volumes import of_clusters, of_latents
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import open_run

    opened = open_run(root)
    if region.grid.box > opened.box:
        raise ConfigError(
            f"The mask has a box of {region.grid.box} px, but {opened.files.root} has one of "
            f"{opened.box} px; make a mask on a map of that box or a smaller one."
        )
    chosen = opened.epoch(epoch)
    known = pixel_size or opened.pixel_size_angstrom
    region.grid.check_grid(
        region.grid.box,
        known * opened.box / region.grid.box,
        what=f"{opened.files.root}, in that box,",
    )
    wanted = (
        of_clusters(opened, chosen, ksample)
        if ksample is not None
        else of_latents(opened, chosen, z_file or "")
    )
    z = wanted.latents()
    check_size(len(z), region)
    folder = ResultFolder(out or opened.files.results("occupancy_pca", chosen))
    folder.begin(
        settings
        | {
            "run": opened.files.root,
            "epoch": chosen,
            "latents": storage.checksum(z.tobytes()),
            "options": asdict(options),
            "pixel_size": pixel_size,
        },
        overwrite=overwrite,
    )
    state = opened.decoder(chosen, pixel_size_angstrom=pixel_size)
    with (
        decoding(state, options, workers=workers, address=address) as pool,
        metering("volumes") as meter,
    ):
        rows = voxels_of_latents(wanted, region, pool, progress=meter.callback("decoding"))
        found = voxel_components(rows, min(components, len(rows) - 1))
        write_components(found, wanted, region, folder)
        paths = component_paths(found, wanted, rows, folder)
        made = make_sets(pool, [path.volumes for path in paths], progress=meter.show)
    every = opened.finite_latents(chosen)
    particles = None
    coordinates = of_particles(wanted, every, found.coordinates)
    write_particles(opened.original_numbers(len(every)), coordinates, folder)
    if every.shape[1] > 1:
        names, xy = embedding(opened, chosen, every)
        particles = Particles(names=names, xy=xy, coordinates=coordinates)
    title = f"{opened.files.root}, epoch {chosen}"
    write_pca_report(found, region, folder, title=title, paths=paths, particles=particles)
    _say(found.explained[0], len(rows), folder.at("report.html"))
    end_with(made.failures)


def _say(share: float, count: int, report: str) -> None:
    console.print(
        f"{count:,} volumes; the first component explains {100 * share:.0f} % within the mask → "
        f"{report}",
        highlight=False,
        soft_wrap=True,
    )
