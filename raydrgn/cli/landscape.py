"""``raydrgn landscape``."""

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
    Workers,
)

USUAL_BOX = 64


def landscape(
    run: RunFolder,
    epoch: EpochArgument = None,
    out: Out = None,
    ksample: Annotated[int, typer.Option(min=2, help="On-data volumes of the sketch.")] = 1000,
    states: Annotated[int, typer.Option("-M", "--states", help="States to find.")] = 10,
    sample: Annotated[
        int, typer.Option(min=2, help="Particles whose volumes are made to place all others.")
    ] = 10_000,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Density of the mask; by default the mean over the sketch of half of the 99.99th "
            "percentile."
        ),
    ] = None,
    flip: Flip = False,
    invert: Invert = False,
    box: Annotated[
        int | None, typer.Option(help="Box of volumes, pixels; 64, or the run's if smaller.")
    ] = None,
    low_pass: LowPass = None,
    pixel_size: PixelSize = None,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Look at the space of volumes: components, states, and the place of every particle.

    Writes RUN/landscape.N. A sketch of on-data volumes (k-means) gives a mask, the principal
    components of the density in it, and states with mean and deviation maps and the particles of
    each. The volumes of a sample of particles, and a regression from latents to components, place
    all particles; their density is drawn as a pseudo free energy. The sketch lies on the disk of
    temporary files while it is worked on (TMPDIR): 1 GB for 1000 volumes of 64 pixels.
    """
    from raydrgn.analysis import landscape_stages as stages
    from raydrgn.analysis.embedding import finite_latents
    from raydrgn.analysis.landscape_report import Landscape, write_landscape
    from raydrgn.analysis.results import ResultFolder
    from raydrgn.analysis.volumes import VolumeOptions
    from raydrgn.run.opened import open_run

    opened = open_run(run)
    options = VolumeOptions(
        box=box or min(USUAL_BOX, opened.box), flip=flip, invert=invert, low_pass_angstrom=low_pass
    )
    options.check(opened.box)
    settings = stages.LandscapeSettings(
        ksample=ksample,
        states=states,
        sample=sample,
        threshold=threshold,
        options=options,
        pixel_size_angstrom=pixel_size,
    )
    chosen = opened.epoch(epoch)
    z = finite_latents(opened, chosen)
    settings.check(len(z))
    numbers = opened.original_numbers(len(z))
    state = opened.decoder(chosen, pixel_size_angstrom=pixel_size)
    folder = ResultFolder(out or opened.files.results("landscape", chosen))
    folder.begin(settings.to_dict(), overwrite=overwrite)
    small = options.box or opened.box
    with (
        metering("pieces") as meter,
        decoding(state, options, workers=workers, address=address) as pool,
    ):
        sketch = stages.make_sketch(
            pool,
            z,
            settings,
            folder,
            box=small,
            pixel_size_angstrom=state.pixel_size_angstrom * opened.box / small,
            progress=meter.show,
        )
        places, failures = stages.place_particles(
            pool, z, sketch, settings, folder, progress=meter.show
        )
    stages.write_lists(sketch, places, numbers, folder)
    write_landscape(Landscape(opened, chosen, z, sketch, places), folder)
    console.print(
        f"{ksample:,} volumes, {int(sketch.labels.max()) + 1} states, {len(z):,} particles → "
        f"{folder.at('report.html')}",
        highlight=False,
        soft_wrap=True,
    )
    end_with(failures)
