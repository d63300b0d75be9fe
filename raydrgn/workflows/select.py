"""``select random``: particles drawn at random."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.io.particle_source import FileSettings, ParticleSource
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class SelectRandomSettings(FileSettings):
    """Settings of ``select random``."""

    particles: Annotated[
        str,
        Setting(
            "Particles (.star, .cs, .parquet, .mrcs, .txt), or a run directory.", is_argument=True
        ),
    ]

    number: Annotated[int, Setting("Particles to draw.", is_argument=True, metavar="N", min=1)]

    out: Annotated[str, Setting(".pkl, .npy or .txt to write.", flags=("-o", "--out"))]

    ind: Annotated[
        str | None,
        Setting(
            "Selection to draw from: .pkl, .npy or text. Rows of the particle file, from 0; of a "
            "run, numbers in the original set.",
            project="ind",
        ),
    ] = None

    seed: Annotated[int, Setting("Seed of the draw.", min=0, project="seed")] = 0

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class SelectResult:
    """What ``select`` wrote."""

    out: str
    numbers: "np.ndarray"
    """Of the chosen particles, ascending: rows of the file, of a run numbers in the original set.

    They are for --ind of the same file or run.
    """

    num_particles: int
    """Particles that were drawn from."""


def run_random(
    settings: SelectRandomSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> SelectResult:
    """Draw particles without replacement, and write their numbers.

    Like the selection that they are drawn from, these are rows of a particle file, which differ
    from the numbers in the original set where it is a table (.parquet) of a selection.

    Raises:
        RaydrgnError: If there are fewer particles, or the output would replace what is read.
    """
    import numpy as np

    from raydrgn.io import cryodrgn, storage

    read = (settings.particles, settings.ind, *settings.passthrough)
    storage.refuse_to_replace(settings.out, [uri for uri in read if uri])
    source = ParticleSource(
        particles=settings.particles,
        ind=settings.ind,
        datadir=settings.datadir,
        passthrough=settings.passthrough,
    )
    numbers = np.unique(_numbers(source))
    if settings.number > len(numbers):
        raise ConfigError(f"N is {settings.number}, but there are {len(numbers):,} particles.")
    chosen = np.random.default_rng(settings.seed).choice(numbers, settings.number, replace=False)
    chosen.sort()
    cryodrgn.write_indices(settings.out, chosen)
    return SelectResult(out=settings.out, numbers=chosen, num_particles=len(numbers))


def _numbers(source: ParticleSource) -> "np.ndarray":
    """Return what --ind calls the chosen particles of a file or a run: its rows, or numbers."""
    import numpy as np

    from raydrgn.io import cryodrgn, storage
    from raydrgn.io.sources import open_particles
    from raydrgn.workflows.export import particle_numbers

    if storage.is_folder(source.particles):
        return particle_numbers(source)
    count = len(open_particles(replace(source, ind=None), need_images=False))
    if source.ind is None:
        return np.arange(count)
    return cryodrgn.read_indices(source.ind, count=count, particles=source.particles)
