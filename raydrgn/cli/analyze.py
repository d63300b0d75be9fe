"""``raydrgn analyze``."""

from typing import Annotated

import typer

from raydrgn.cli.console import console, metering
from raydrgn.cli.decoding import decoding, end_with
from raydrgn.cli.options import (
    Address,
    EpochArgument,
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


def analyze(
    run: RunFolder,
    epoch: EpochArgument = None,
    out: Out = None,
    ksample: Annotated[int, typer.Option(min=1, help="Clusters of k-means.")] = 20,
    pc: Annotated[
        int | None,
        typer.Option(min=0, help="Components along which to make volumes; 2, or 1 if zdim is 1."),
    ] = None,
    pc_points: Annotated[int, typer.Option(min=2, help="Volumes along each.")] = 10,
    pc_range: Annotated[
        tuple[float, float], typer.Option(help="Percentiles between which they lie.")
    ] = (1.0, 99.0),
    flip: Flip = False,
    invert: Invert = False,
    box: SmallBox = None,
    low_pass: LowPass = None,
    pixel_size: PixelSize = None,
    skip_volumes: Annotated[bool, typer.Option("--skip-volumes", help="No volumes.")] = False,
    skip_umap: Annotated[bool, typer.Option("--skip-umap", help="No UMAP.")] = False,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Look at the latent space: components, UMAP, clusters, volumes, figures, one report.

    Writes RUN/analyze.N. UMAP is seeded; beyond 100,000 particles it is fitted on a sample of so
    many, and every other particle is placed among its five nearest of them (a million particles in
    8 dimensions: about 3 minutes and 2 GB on two cores). A run in training can be analysed: its
    last whole epoch is taken. Run again with another --ksample, its clusters are added beside the
    first; report and tables of particles are those of the last.
    """
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.decoding.volume_sets import make_sets
    from raydrgn.latent import analysis
    from raydrgn.latent.report import write_analysis
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import open_run

    opened = open_run(run)
    options = VolumeOptions(box=box, flip=flip, invert=invert, low_pass_angstrom=low_pass)
    options.check(opened.box)
    settings = analysis.AnalysisSettings(
        ksample=ksample,
        pc=min(2, opened.model.zdim) if pc is None else pc,
        pc_points=pc_points,
        pc_range=pc_range,
        umap=not skip_umap,
        volumes=not skip_volumes,
        options=options,
        pixel_size_angstrom=pixel_size,
    )
    settings.check(opened.model.zdim)
    chosen = opened.epoch(epoch)
    folder = ResultFolder(out or opened.files.results("analyze", chosen))
    folder.begin(settings.identity(), overwrite=overwrite, free=("ksample",))
    with metering("pieces") as meter:
        space = analysis.describe(opened, chosen, settings, folder, progress=meter.show)
        sets, made = analysis.volume_sets(space, settings, folder), None
        if settings.volumes:
            state = opened.decoder(chosen, pixel_size_angstrom=pixel_size)
            with decoding(state, options, workers=workers, address=address) as pool:
                made = make_sets(pool, sets, progress=meter.show)
        write_analysis(opened, space, settings, folder, sets=sets, made=made, progress=meter.show)
    count = sum(len(one.z) for one in sets) if made else 0
    console.print(
        f"{len(space.z):,} particles, {settings.ksample} clusters, {count} volumes → "
        f"{folder.at('report.html')}",
        highlight=False,
        soft_wrap=True,
    )
    end_with(made.failures if made else [])
