"""``simulate``: a particle stack with known truth."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds
from raydrgn.simulation.options import Simulation

if TYPE_CHECKING:
    from raydrgn.io.particles import ParticleTable


@dataclass(frozen=True, kw_only=True)
class SimulateSettings:
    """Settings of ``simulate``."""

    out: Annotated[str, Setting("Folder to write; created if it is absent.", is_argument=True)]

    simulation: Simulation = field(default_factory=Simulation)

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class SimulateResult:
    """What ``simulate`` wrote."""

    out: str
    particles: "ParticleTable"


def run(
    settings: SimulateSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> SimulateResult:
    """Simulate particles, and write them with their truth.

    Raises:
        RaydrgnError: If the maps or the folder do not allow it.
    """
    from raydrgn.simulation.dataset import simulate

    def simulated(done: int, total: int) -> None:
        progress("simulating", done, total, unit="particles")

    table = simulate(settings.out, settings.simulation, progress=simulated)
    return SimulateResult(out=settings.out, particles=table)
