"""``select random``: particles drawn at random."""

from dataclasses import dataclass
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
            "Selection to draw from: .pkl, .npy or text; numbers in the original set.",
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
    """Numbers of the chosen particles in the original set, ascending."""

    num_particles: int
    """Particles that were drawn from."""


def run_random(
    settings: SelectRandomSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> SelectResult:
    """Draw particles without replacement, and write their numbers in the original set.

    Raises:
        RaydrgnError: If there are fewer particles, or the output would replace what is read.
    """
    import numpy as np

    from raydrgn.io import cryodrgn, storage
    from raydrgn.workflows.export import particle_numbers

    read = (settings.particles, settings.ind, *settings.passthrough)
    storage.refuse_to_replace(settings.out, [uri for uri in read if uri])
    source = ParticleSource(
        particles=settings.particles,
        ind=settings.ind,
        datadir=settings.datadir,
        passthrough=settings.passthrough,
    )
    numbers = np.unique(particle_numbers(source))
    if settings.number > len(numbers):
        raise ConfigError(f"N is {settings.number}, but there are {len(numbers):,} particles.")
    chosen = np.random.default_rng(settings.seed).choice(numbers, settings.number, replace=False)
    chosen.sort()
    cryodrgn.write_indices(settings.out, chosen)
    return SelectResult(out=settings.out, numbers=chosen, num_particles=len(numbers))
