"""``export``: selections and runs in the files of RELION, cryoSPARC and cryoDRGN."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.io.particle_source import FileSettings, ParticleSource
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.io.particles import ParticleTable


@dataclass(frozen=True, kw_only=True)
class ExportStarSettings:
    """Settings of ``export star``; ``source.particles`` may be a run directory too."""

    source: ParticleSource

    out: Annotated[str, Setting("STAR file to write.", flags=("-o", "--out"))]

    refined: Annotated[
        bool,
        Setting(
            "Of a run of --method mfa: with the poses that it has refined, and columns "
            "raydrgnContrast and raydrgnNullProbability."
        ),
    ] = False

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class ExportCsSettings:
    """Settings of ``export cs``; ``source.particles`` may be a run directory too."""

    source: ParticleSource

    out: Annotated[str, Setting(".cs file to write, with its .csg.", flags=("-o", "--out"))]

    refined: Annotated[
        bool,
        Setting(
            "Of a run of --method mfa: with the poses that it has refined, and its contrasts as "
            "alignments3D/alpha."
        ),
    ] = False

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class ExportIndicesSettings(FileSettings):
    """Settings of ``export indices``."""

    particles: Annotated[
        str,
        Setting(
            "Particles (.star, .cs, .parquet, .mrcs, .txt), or a run directory.", is_argument=True
        ),
    ]

    out: Annotated[str, Setting(".pkl, .npy or .txt to write.", flags=("-o", "--out"))]

    ind: Annotated[
        str | None,
        Setting(
            "Particles to take: .pkl, .npy or text. Rows of the particle file, from 0; of a run, "
            "numbers in the original set. They come in this order, repeated ones again.",
            project="ind",
        ),
    ] = None

    of: Annotated[
        str | None,
        Setting(
            "Original .star or .cs file, of which PARTICLES is a selection that another program "
            "made; matched by image name or uid."
        ),
    ] = None

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class ExportCryodrgnSettings:
    """Settings of ``export cryodrgn``."""

    run: Annotated[str, Setting("Run directory.", is_argument=True)]

    out: Annotated[str, Setting("Folder to make.", flags=("-o", "--out"))]

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export of particles wrote."""

    out: str
    num_particles: int


@dataclass(frozen=True, kw_only=True)
class ExportIndicesResult:
    """What ``export indices`` wrote."""

    out: str
    numbers: "np.ndarray"
    """Rows of the original file, from 0."""


@dataclass(frozen=True, kw_only=True)
class ExportCryodrgnResult:
    """What ``export cryodrgn`` wrote."""

    out: str
    epochs: list[int]


def run_star(
    settings: ExportStarSettings, *, executor: Executor = IN_PROCESS, progress: Progress = silent
) -> ExportResult:
    """Write a selection for RELION.

    Raises:
        RaydrgnError: If the particles or the output do not allow it.
    """
    from raydrgn.io import selection

    table = _open(settings.source, refined=settings.refined)
    count = selection.export_star(settings.source, settings.out, table=table)
    return ExportResult(out=settings.out, num_particles=count)


def run_cs(
    settings: ExportCsSettings, *, executor: Executor = IN_PROCESS, progress: Progress = silent
) -> ExportResult:
    """Write a selection for cryoSPARC.

    Raises:
        RaydrgnError: If the particles do not come from a .cs file, or the output is in the way.
    """
    from raydrgn.io import selection

    table = _open(settings.source, refined=settings.refined)
    count = selection.export_cs(settings.source, settings.out, table=table)
    return ExportResult(out=settings.out, num_particles=count)


def run_indices(
    settings: ExportIndicesSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> ExportIndicesResult:
    """Write the numbers of particles in the original set.

    Raises:
        RaydrgnError: If particles are not in the original, or the output is of another type.
    """
    from raydrgn.io import cryodrgn, storage
    from raydrgn.io.matching import find_numbers

    read = (settings.particles, settings.ind, settings.of, *settings.passthrough)
    storage.refuse_to_replace(settings.out, [uri for uri in read if uri])
    if settings.of:
        numbers = find_numbers(settings.particles, settings.of)
        if settings.ind:
            rows = cryodrgn.read_indices(
                settings.ind, count=len(numbers), particles=settings.particles
            )
            numbers = numbers[rows]
    else:
        source = ParticleSource(
            particles=settings.particles,
            ind=settings.ind,
            datadir=settings.datadir,
            passthrough=settings.passthrough,
        )
        numbers = particle_numbers(source)
    cryodrgn.write_indices(settings.out, numbers)
    return ExportIndicesResult(out=settings.out, numbers=numbers)


def particle_numbers(source: ParticleSource) -> "np.ndarray":
    """Return the numbers in the original set of the particles of a file or a run, in order.

    Raises:
        RaydrgnError: If they cannot be read.
    """
    from raydrgn.io.sources import open_particles

    table = _open(source)
    if table is None:
        table = open_particles(source, need_images=False)
    return table.column("index")


def run_cryodrgn(
    settings: ExportCryodrgnSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> ExportCryodrgnResult:
    """Make a directory that cryoDRGN opens.

    Raises:
        RaydrgnError: If the run cannot be exported, or the folder holds something else.
    """
    from raydrgn.run.cryodrgn_export import export_run

    return ExportCryodrgnResult(out=settings.out, epochs=export_run(settings.run, settings.out))


def _open(source: ParticleSource, *, refined: bool = False) -> "ParticleTable | None":
    """Return the particles of a run, chosen and in order; None of what is not a run.

    Raises:
        ConfigError: If poses or CTF are given for a run, which has its own.
    """
    from raydrgn.io import storage
    from raydrgn.io.selection import select_by_file
    from raydrgn.run.reader import open_run
    from raydrgn.run.refined_poses import refined_particles

    if not storage.is_folder(source.particles):
        if refined:
            raise ConfigError(
                f"{source.particles} is not a run directory, and only runs have refined poses."
            )
        return None
    if source.poses or source.ctf:
        raise ConfigError(f"{source.particles} is a run and has its own poses and CTF.")
    run = open_run(source.particles)
    table = refined_particles(run) if refined else run.particles()
    if not source.ind:
        return table
    return select_by_file(table, source.ind, source.particles)
