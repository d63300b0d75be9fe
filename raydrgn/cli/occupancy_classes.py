"""``raydrgn occupancy classes``."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from raydrgn.cli.console import console, messages, metering
from raydrgn.cli.decoding import decoding, end_with
from raydrgn.cli.options import Address, Overwrite, Workers

if TYPE_CHECKING:
    from raydrgn.occupancy.block_model import ColouredModel
    from raydrgn.occupancy.class_report import Centroids
    from raydrgn.occupancy.class_results import ClassParticles, Source
    from raydrgn.occupancy.classes import ClassSettings, TwoWay
    from raydrgn.occupancy.table import OccupancyTable
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import RunReader


def classes(
    table: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="What `occupancy score` wrote; or occupancies.csv of MAVEn."
        ),
    ],
    row_threshold: Annotated[
        float | None, typer.Option(help="Linkage distance at which volumes fall into classes.")
    ] = None,
    number: Annotated[
        int | None, typer.Option("--classes", min=1, help="Number of classes, instead.")
    ] = None,
    column_threshold: Annotated[
        float | None, typer.Option(help="Linkage distance at which subunits fall into blocks.")
    ] = None,
    blocks: Annotated[int | None, typer.Option(min=1, help="Number of blocks, instead.")] = None,
    percentiles: Annotated[
        tuple[float, float], typer.Option(help="Occupancies at these become 0 and 1.")
    ] = (10.0, 90.0),
    scale: Annotated[
        Literal["matrix", "column"] | None,
        typer.Option(
            help="Percentiles of the whole matrix, or of each subunit: the latter by default "
            "where occupancies are not normalised."
        ),
    ] = None,
    omit: Annotated[str | None, typer.Option(help="Subunits to leave out, as bL28,H68.")] = None,
    where: Annotated[
        str | None,
        typer.Option(help='Limits, as "bL28>0.5 and H68<0.2"; the particles go to ind.pkl.'),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Atomic model (PDB or mmCIF) to colour by block; that of the masks by default. "
            "May be repeated."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="YAML file of selections, where the subunits are not chains or files."),
    ] = None,
    skip_volumes: Annotated[
        bool, typer.Option("--skip-volumes", help="No centroid volumes.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="Folder to write; OUT/classes by default."),
    ] = None,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Find volume classes and structural blocks in a table of occupancies.

    Writes OUT/classes: the clustered heat map, tables, the particles of each class, its centroid
    volume, correlations between subunits, and one report. Unless you say where, the tree of
    volumes is cut in the widest gap between 3 and 30 % of its height (at 18 % where there is none),
    that of subunits at 30 %; look at the heat map and choose. Beyond
    5,000 volumes the tree is that of 1,000 k-means groups (131,889 volumes x 50 subunits: about
    half a minute on one core).
    """
    from raydrgn.io import storage
    from raydrgn.occupancy.class_report import write_class_report
    from raydrgn.occupancy.class_results import (
        Source,
        by_class,
        class_labels,
        write_particles,
        write_tables,
    )
    from raydrgn.occupancy.classes import find_classes
    from raydrgn.occupancy.membership import membership
    from raydrgn.occupancy.subunits import refuse_inputs
    from raydrgn.occupancy.table import OccupancyTable
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import open_run

    source = Source.of(table)
    read = OccupancyTable.read(table)
    settings = _settings(
        source, row_threshold, number, column_threshold, blocks, percentiles, scale, omit, where
    )
    found = find_classes(read, settings)
    opened = open_run(source.run) if source.run else None
    epoch = source.settings.get("epoch")
    particles = None
    if opened is not None:
        members = membership(found.table, opened, epoch, labels=source.labels())
        particles = by_class(found, members)
    models, selection = (model, by) if model else source.models()
    coloured = _colour(found, models, selection)
    inputs = [source.run, source.volumes, selection, *models]
    folder = ResultFolder(out or storage.join(source.folder, "classes"))
    refuse_inputs(folder.uri, [storage.absolute(table), *filter(None, inputs)])
    folder.begin(
        _said(settings, read, models=models, by=selection, volumes=not skip_volumes),
        overwrite=overwrite,
    )
    write_tables(found, particles, folder)
    chosen = write_particles(found, particles, folder) if particles else None
    labels = class_labels(found, particles)
    centroids = None
    if not skip_volumes:
        centroids = _centroids(
            found, source, opened, particles, labels, folder, workers=workers, address=address
        )
    write_class_report(
        found,
        folder,
        title=f"{opened.files.root}, epoch {epoch}" if opened else source.folder,
        particles=particles,
        run=opened,
        epoch=epoch,
        centroids=centroids,
        coloured=coloured,
        selected_particles=chosen,
        where=where,
    )
    _say(found, particles, chosen, folder)
    end_with(centroids.made.failures if centroids else [])


def _settings(
    source: "Source",
    row_threshold: float | None,
    number: int | None,
    column_threshold: float | None,
    blocks: int | None,
    percentiles: tuple[float, float],
    scale: Literal["matrix", "column"] | None,
    omit: str | None,
    where: str | None,
) -> "ClassSettings":
    from raydrgn.occupancy.classes import ClassSettings

    by_itself: Literal["matrix", "column"] = (
        "column" if source.settings.get("normalize") == "none" else "matrix"
    )
    return ClassSettings(
        percentiles=percentiles,
        scale=scale or by_itself,
        row_threshold=row_threshold,
        classes=number,
        column_threshold=column_threshold,
        blocks=blocks,
        omit=tuple(name.strip() for name in (omit or "").split(",") if name.strip()),
        where=where,
    )


def _said(
    settings: "ClassSettings",
    table: "OccupancyTable",
    *,
    models: list[str],
    by: str | None,
    volumes: bool,
) -> dict[str, object]:
    """Return what is kept beside the results: what they were made of."""
    from dataclasses import asdict

    from raydrgn.io import storage

    content = "\n".join((*table.volumes, *table.subunits)).encode() + table.values.tobytes()
    return {
        "table": storage.checksum(content),
        **asdict(settings),
        "models": [storage.absolute(model) for model in models],
        "by": storage.absolute(by) if by else None,
        "volumes": volumes,
    }


def _centroids(
    found: "TwoWay",
    source: "Source",
    opened: "RunReader | None",
    particles: "ClassParticles | None",
    labels: list[str],
    folder: "ResultFolder",
    *,
    workers: int,
    address: str | None,
) -> "Centroids | None":
    """Make the centroid volume of each class; None where there is nothing to make it of."""
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.occupancy.class_report import Centroids
    from raydrgn.occupancy.class_results import centroid_set, copy_centroids, decode_centroids
    from raydrgn.occupancy.scored_volumes import named_maps

    if opened is not None and particles is not None:
        one, numbers = centroid_set(particles, labels, folder)
        said = source.settings.get("options", {})
        options = VolumeOptions(flip=said.get("flip", False), invert=said.get("invert", False))
        state = opened.decoder(
            source.settings.get("epoch"),
            pixel_size_angstrom=source.settings.get("pixel_size"),
        )
        with (
            decoding(state, options, workers=workers, address=address) as pool,
            metering("volumes") as meter,
        ):
            made = decode_centroids(pool, one, progress=meter.show)
        return Centroids(volumes=one, made=made, classes=numbers)
    if source.volumes is not None:
        one, made = copy_centroids(found, named_maps(source.volumes), labels, folder)
        return Centroids(volumes=one, made=made, classes=range(1, found.classes.count + 1))
    messages.print(
        f"{source.folder} does not say of which volumes the table is, so there are no centroid "
        "volumes and no particles of classes.",
        highlight=False,
        soft_wrap=True,
    )
    return None


def _colour(found: "TwoWay", models: list[str], by: str | None) -> "list[ColouredModel]":
    """Read the models, and say which subunits they lack."""
    from raydrgn.occupancy.block_model import colour_models

    if not models:
        return []
    coloured, missing = colour_models(found, models, selection=by)
    if missing:
        messages.print(
            f"{len(missing)} subunits have no atoms in the model: {', '.join(missing[:10])}",
            highlight=False,
            soft_wrap=True,
        )
    return coloured


def _say(
    found: "TwoWay",
    particles: "ClassParticles | None",
    chosen: int | None,
    folder: "ResultFolder",
) -> None:
    from raydrgn.occupancy.class_results import IND, class_labels

    for label in class_labels(found, particles):
        console.print(label, highlight=False)
    if found.selected is not None:
        count = int(found.selected.sum())
        said = f"{count:,} of {len(found.selected):,} volumes are within the limits"
        if chosen is not None:
            said += f": {chosen:,} particles → {folder.at(IND)}"
        console.print(said, highlight=False, soft_wrap=True)
    console.print(
        f"{found.classes.count} classes, {found.blocks.count} blocks → {folder.at('report.html')}",
        highlight=False,
        soft_wrap=True,
    )
