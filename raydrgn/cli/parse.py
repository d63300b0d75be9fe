"""``raydrgn parse``."""

from typing import Annotated

import typer

from raydrgn.cli.console import console
from raydrgn.cli.options import Datadir, HalfSizeShifts


def parse(
    particles: Annotated[str, typer.Argument(help="RELION .star or cryoSPARC .cs file.")],
    poses: Annotated[str | None, typer.Option(help="Write cryoDRGN's poses.pkl here.")] = None,
    ctf: Annotated[str | None, typer.Option(help="Write cryoDRGN's ctf.pkl here.")] = None,
    table: Annotated[str | None, typer.Option(help="Write particles.parquet here.")] = None,
    box: Annotated[int | None, typer.Option(help="Edge of the images in pixels.")] = None,
    pixel_size: Annotated[float | None, typer.Option(help="Pixel size of the images, Å.")] = None,
    kv: Annotated[float | None, typer.Option(help="Acceleration voltage, kV.")] = None,
    cs: Annotated[float | None, typer.Option(help="Spherical aberration, mm.")] = None,
    amplitude_contrast: Annotated[
        float | None, typer.Option(help="Amplitude contrast, a fraction.")
    ] = None,
    phase_shift: Annotated[float | None, typer.Option(help="Phase shift, degrees.")] = None,
    datadir: Datadir = None,
    half_size_shifts: HalfSizeShifts = False,
) -> None:
    """Read poses and CTF of a refinement, and write them for training.

    An option fills what the file lacks, or overrides what it says. The parquet table holds all of
    it, the places of the images included, and needs no pickles beside it.
    """
    from raydrgn.errors import ConfigError
    from raydrgn.io import cryodrgn, sources
    from raydrgn.io.imaging import Imaging

    outputs = [uri for uri in (poses, ctf, table) if uri]
    if not outputs:
        raise ConfigError("Say what to write: --poses, --ctf, --table, or several of them.")
    imaging = Imaging(
        box=box,
        pixel_size_angstrom=pixel_size,
        voltage_kv=kv,
        spherical_aberration_mm=cs,
        amplitude_contrast=amplitude_contrast,
        phase_shift_deg=phase_shift,
        half_size_shifts=half_size_shifts,
    )
    found = sources.read_metadata(
        particles, datadir=datadir, imaging=imaging, need_images=table is not None
    )
    # Everything is made before anything is written.
    made_poses = sources.to_poses(found) if poses else None
    made_ctf = sources.to_ctf(found) if ctf else None
    if poses and made_poses is not None:
        cryodrgn.write_poses(poses, made_poses)
    if ctf and made_ctf is not None:
        cryodrgn.write_ctf(ctf, made_ctf)
    if table:
        found.write(table)
    console.print(f"{len(found)} particles → {', '.join(outputs)}", highlight=False)
