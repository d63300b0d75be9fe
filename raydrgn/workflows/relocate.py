"""``relocate``: where the particle images of a run are, when they have moved."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.run.relocation import Relocation


@dataclass(frozen=True, kw_only=True)
class RelocateSettings:
    """Settings of ``relocate``."""

    run: Annotated[str, Setting("Run directory.", is_argument=True)]

    datadir: Annotated[str | None, Setting("Folder of the stacks now.")] = None

    particles: Annotated[
        str | None,
        Setting("The same particle file, where it is now, if it names the stacks anew."),
    ] = None

    passthrough: Annotated[
        tuple[str, ...],
        Setting(
            "Passthrough file of a .cs file given with --particles; repeatable.", metavar="FILE"
        ),
    ] = ()

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.datadir is None and self.particles is None:
            raise ConfigError(
                "Give the place of the stacks, with --datadir FOLDER or --particles FILE."
            )


def run(
    settings: RelocateSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> "Relocation":
    """Record where the stacks of a run are now, if they hold the same images.

    Raises:
        RaydrgnError: If a stack is not found, or the images are others.
    """
    from raydrgn.run.relocation import relocate

    return relocate(
        settings.run,
        datadir=settings.datadir,
        particles=settings.particles,
        passthrough=settings.passthrough,
    )
