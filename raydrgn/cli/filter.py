"""``raydrgn filter``."""

from typing import Annotated

import typer

from raydrgn.cli.console import console, messages
from raydrgn.cli.decoding import decoding, end_with
from raydrgn.cli.options import Address, EpochArgument, Out, Overwrite, RunFolder, Workers


def filter_(
    run: RunFolder,
    epoch: EpochArgument = None,
    out: Out = None,
    keep_clusters: Annotated[
        str | None, typer.Option(help="Clusters of analyze to keep, as 0,3,5.")
    ] = None,
    drop_clusters: Annotated[
        str | None, typer.Option(help="Clusters of analyze to drop, as 0,3,5.")
    ] = None,
    ksample: Annotated[int, typer.Option(help="Which k-means of analyze these are of.")] = 20,
    labels: Annotated[
        str | None,
        typer.Option(help="File of one label per particle (−1: none), instead of k-means."),
    ] = None,
    gmm: Annotated[
        int | None, typer.Option(min=1, help="Components of a Gaussian mixture; see --drop.")
    ] = None,
    drop: Annotated[
        str | None, typer.Option(help="Components of it to drop; without, they are listed.")
    ] = None,
    zscore: Annotated[
        float | None,
        typer.Option(help="Drop particles whose |z| is so many deviations above the mean."),
    ] = None,
    umap_polygon: Annotated[
        str | None, typer.Option(help="File of corners in the UMAP, x y per line; inside is kept.")
    ] = None,
    ind: Annotated[
        str | None, typer.Option(help="Earlier selection; only its particles are kept.")
    ] = None,
    skip_volumes: Annotated[bool, typer.Option("--skip-volumes", help="No mean volumes.")] = False,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Select particles: those that every method given keeps.

    Writes into RUN/filter the numbers of both sides in the original, unfiltered set, kept.ind.pkl
    and dropped.ind.pkl, which train --ind and export take; where they lie, twenty images of
    either side, the mean of a hundred volumes of either side, and how far the methods agree.
    """
    from dataclasses import asdict

    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.latent import filter_report
    from raydrgn.latent.filters import FilterSettings, decide
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import open_run

    opened = open_run(run)
    chosen = opened.epoch(epoch)
    z = opened.finite_latents(chosen)
    numbers = opened.original_numbers(len(z))
    settings = FilterSettings(
        keep_clusters=_numbers(keep_clusters, "--keep-clusters"),
        drop_clusters=_numbers(drop_clusters, "--drop-clusters"),
        ksample=ksample,
        labels=labels,
        gmm=gmm,
        drop=_numbers(drop, "--drop"),
        zscore=zscore,
        umap_polygon=umap_polygon,
        ind=ind,
    )
    methods = decide(opened, chosen, z, numbers, settings)
    folder = ResultFolder(out or opened.files.results("filter"))
    folder.begin({"epoch": chosen, **asdict(settings)}, overwrite=overwrite)
    both = filter_report.write_selection(opened, chosen, z, numbers, methods, folder)
    reason = filter_report.write_images(opened, numbers, both, folder)
    if reason:
        messages.print(reason, highlight=False)
    failures: list[str] = []
    if not skip_volumes:
        state = opened.decoder(chosen)
        with decoding(state, VolumeOptions(), workers=workers, address=address) as pool:
            failures = filter_report.write_mean_volumes(
                pool, z, both, folder, pixel_size_angstrom=state.pixel_size_angstrom
            )
    for method in methods:
        console.print(f"{method.name}: drops {int((~method.kept).sum()):,}", highlight=False)
    kept, dropped = (len(side.rows) for side in both)
    console.print(
        f"{kept:,} kept, {dropped:,} dropped → {folder.at('kept.ind.pkl')}",
        highlight=False,
        soft_wrap=True,
    )
    end_with(failures)


def _numbers(text: str | None, option: str) -> tuple[int, ...]:
    from raydrgn.errors import ConfigError

    try:
        return tuple(int(part) for part in (text or "").replace(",", " ").split())
    except ValueError as error:
        raise ConfigError(f"{option} takes numbers as 0,3,5; got {text!r}.") from error
