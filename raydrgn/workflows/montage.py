"""``montage``: particle images of a file, a stack or a run, as one picture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.io.particle_source import FileSettings, ParticleSource
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds, check_figure_name

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.io.particles import ParticleTable


@dataclass(frozen=True, kw_only=True)
class MontageSettings(FileSettings):
    """Settings of ``montage``."""

    particles: Annotated[
        str,
        Setting(
            "Particles (.star, .cs, .parquet, .mrcs, .txt), or a run directory.", is_argument=True
        ),
    ]

    out: Annotated[str, Setting("Picture to write: .png, .svg or .pdf.", flags=("-o", "--out"))]

    number: Annotated[
        int, Setting("Particles shown; drawn at random where there are more.", min=1, max=500)
    ] = 50

    ind: Annotated[
        str | None,
        Setting(
            "Particles to show, in this order, or to draw from: .pkl, .npy or text. Rows of the "
            "particle file, from 0; of a run, numbers in the original set.",
            project="ind",
        ),
    ] = None

    ctf: Annotated[
        str | None,
        Setting("cryoDRGN's ctf.pkl, for a stack without CTF parameters.", project="ctf"),
    ] = None

    low_pass_angstrom: Annotated[
        float | None,
        Setting(
            "Low-pass filter of the images, Å (default: 20, and at least 4 pixels).",
            flags=("--low-pass",),
            above=0,
        ),
    ] = None

    raw: Annotated[
        bool, Setting("Show images as they were recorded: not filtered, phases not flipped.")
    ] = False

    uninvert_data: Annotated[
        bool,
        Setting(
            "Particles are dark on a bright background (default: bright on a dark one).",
            project="uninvert_data",
        ),
    ] = False

    def __post_init__(self) -> None:
        check_bounds(self)
        check_figure_name(self.out)
        if self.raw and self.low_pass_angstrom is not None:
            raise ConfigError("--raw shows images as they are; leave out --low-pass, or --raw.")


@dataclass(frozen=True, kw_only=True)
class MontageResult:
    """Which particles a montage shows."""

    out: str
    numbers: "np.ndarray"
    """Numbers of the particles in the original set, in the order of the montage."""

    num_particles: int
    """Particles that they were drawn from."""

    flips_phases: bool
    """Whether a CTF was known, and its phases were flipped."""


def run(
    settings: MontageSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> MontageResult:
    """Draw particle images in rows, on one grey scale, and write the picture.

    Raises:
        RaydrgnError: If the images cannot be read, or the picture would replace what is read.
    """
    import numpy as np

    from raydrgn.inputs.montage import draw_montage
    from raydrgn.io import storage
    from raydrgn.reporting.figures import write_figure

    inputs = (settings.particles, settings.ind, settings.ctf, *settings.passthrough)
    storage.refuse_to_replace(settings.out, [uri for uri in inputs if uri])
    table, bright = _open(settings)
    shown = table
    if settings.number < len(table):
        rows = np.random.default_rng(0).choice(len(table), settings.number, replace=False)
        shown = table.select(np.sort(rows))
    figure = draw_montage(
        shown,
        as_recorded=settings.raw,
        bright=bright,
        resolution_angstrom=settings.low_pass_angstrom,
    )
    write_figure(settings.out, figure)
    return MontageResult(
        out=settings.out,
        numbers=shown.column("index"),
        num_particles=len(table),
        flips_phases=table.has_ctf and not settings.raw,
    )


def _open(settings: MontageSettings) -> "tuple[ParticleTable, bool]":
    """Return the particles, and whether they are bright on disk."""
    from raydrgn.io import storage
    from raydrgn.io.selection import select_by_file
    from raydrgn.io.sources import open_particles
    from raydrgn.run.reader import open_run

    if storage.is_folder(settings.particles):
        if settings.ctf:
            raise ConfigError(f"{settings.particles} is a run and has its own CTF.")
        run = open_run(settings.particles)
        table = run.particles(need_images=True)
        if settings.ind:
            table = select_by_file(table, settings.ind, settings.particles)
        return table, run.inverts
    source = ParticleSource(
        particles=settings.particles,
        ind=settings.ind,
        ctf=settings.ctf,
        datadir=settings.datadir,
        passthrough=settings.passthrough,
    )
    return open_particles(source), not settings.uninvert_data
