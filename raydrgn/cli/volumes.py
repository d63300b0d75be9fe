"""``raydrgn volumes``."""

from typing import Annotated

import typer

from raydrgn.cli.console import console, messages, metering
from raydrgn.cli.options import (
    Address,
    Flip,
    Invert,
    LowPass,
    PixelSize,
    RunFolder,
    SmallBox,
    Workers,
)


def volumes(
    run: RunFolder,
    out: Annotated[str, typer.Option("-o", "--out", help="Folder for vol_000.mrc and so on.")],
    z_file: Annotated[
        str | None, typer.Option(help="Latents, one per line; also .npy or z.N.pkl.")
    ] = None,
    particles: Annotated[
        str | None,
        typer.Option(help="Particles whose latents to take, as 0,17,42: rows of z.N.pkl."),
    ] = None,
    z: Annotated[str | None, typer.Option("-z", help="One latent, as 0.1,0.2,…")] = None,
    epoch: Annotated[int | None, typer.Option(help="Epoch; the last one by default.")] = None,
    flip: Flip = False,
    invert: Invert = False,
    box: SmallBox = None,
    low_pass: LowPass = None,
    pixel_size: PixelSize = None,
    workers: Workers = 1,
    address: Address = None,
) -> None:
    """Decode density maps at chosen latents.

    Writes vol_000.mrc … and z_values.txt, the latents used, into the folder.
    """
    import os

    from raydrgn.analysis import requests
    from raydrgn.analysis.volumes import VolumeOptions, decode_to_files
    from raydrgn.remote.resources import Resources
    from raydrgn.remote.session import allotted
    from raydrgn.run.opened import open_run

    opened = open_run(run)
    options = VolumeOptions(box=box, flip=flip, invert=invert, low_pass_angstrom=low_pass)
    options.check(opened.box)
    chosen = opened.epoch(epoch)
    latents = requests.choose_latents(opened, chosen, z_file=z_file, particles=particles, z=z)
    state = opened.decoder(chosen, pixel_size_angstrom=pixel_size)
    wanted = requests.write_latents(out, latents)
    failed = 0
    in_process = workers == 1 and not (address or os.environ.get("RAY_ADDRESS"))
    with (
        allotted(Resources(num_workers=workers), address, in_process=in_process) as allotment,
        metering("volumes") as meter,
    ):
        done = 0
        for outcome in decode_to_files(wanted, state=state, options=options, allotment=allotment):
            done += len(outcome.item)
            meter.show("decoding", done, len(wanted))
            if outcome.error:
                failed += len(outcome.item)
                messages.print(f"{outcome.item[0].uri} and what follows: {outcome.error}")
    console.print(f"{len(wanted) - failed} of {len(wanted)} volumes → {out}", highlight=False)
    if failed:
        raise typer.Exit(1)
