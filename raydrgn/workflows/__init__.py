"""One module per command: its settings, and ``run(settings, executor, progress)``.

Settings modules load nothing heavy; ``run`` imports what it needs. Command line, explorer,
notebooks, jobs and sweeps call these, and nothing else composes a study.

epoch      settings that workflows on one epoch share
landscape  states and components in the space of volumes
volumes    maps at chosen latents
"""

from importlib import import_module
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Load a workflow when it is first named, as in ``raydrgn.workflows.volumes.run``."""
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"there is no workflow {name!r}") from error
