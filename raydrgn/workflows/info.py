"""``info``: what a file or a run contains, and what about it looks wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import InputError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.inputs.inspection import Inspection


@dataclass(frozen=True, kw_only=True)
class InfoSettings:
    """Settings of ``info``."""

    path: Annotated[
        str,
        Setting(
            "Stack, map, .star, .cs, .txt, .parquet, .pkl, .npy or run.",
            is_argument=True,
            metavar="FILE|RUN",
        ),
    ]

    datadir: Annotated[
        str | None,
        Setting(
            "Folder of the stacks that a .star, .cs or .parquet file names.", project="datadir"
        ),
    ] = None

    passthrough: Annotated[
        tuple[str, ...],
        Setting(
            "Passthrough file of the same cryoSPARC job as a .cs file.",
            metavar="FILE",
            project="passthrough",
        ),
    ] = ()

    def __post_init__(self) -> None:
        check_bounds(self)


def run(
    settings: InfoSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> "Inspection":
    """Describe a stack, map, particle file, pickle, array or run.

    Raises:
        StorageError: If there is no such file.
        InputError: If it is of no known type.
    """
    from functools import partial

    from raydrgn.inputs.array_inspection import inspect_array, inspect_pickle
    from raydrgn.inputs.particle_inspection import inspect_particles
    from raydrgn.inputs.stack_inspection import inspect_stack
    from raydrgn.io import storage
    from raydrgn.io.sources import OTHER_PROGRAMS, STACK_SUFFIXES

    uri = settings.path
    if storage.is_folder(uri):
        from raydrgn.inputs.run_inspection import inspect_run

        return inspect_run(uri)
    storage.file_size(uri)  # raises where there is nothing
    particles = partial(
        inspect_particles, datadir=settings.datadir, passthrough=settings.passthrough
    )
    inspectors: dict[str, Callable[[str], Inspection]] = {
        ".pkl": inspect_pickle,
        ".npy": inspect_array,
        **dict.fromkeys(STACK_SUFFIXES, inspect_stack),
        **dict.fromkeys((".star", ".cs", ".parquet", ".txt"), particles),
    }
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix not in inspectors:
        raise InputError(
            f"{uri} is of an unknown type; known are {', '.join(sorted(inspectors))} and run "
            "directories." + (f" {OTHER_PROGRAMS[suffix]}" if suffix in OTHER_PROGRAMS else "")
        )
    return inspectors[suffix](uri)
