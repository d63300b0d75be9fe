"""raydrgn: heterogeneous cryo-EM reconstruction on Ray.

What notebooks and programs use, loaded when it is first named (types are in ``__init__.pyi``):

open_run        a run: its latents, weights, losses, particles and volumes
open_particles  particles of any format as one table
workflows       one module per command: ``workflows.NAME.run(NameSettings(...))``
...Settings     the settings of every workflow
Executor        several workers, on this machine or a cluster
VolumeOptions   what is done to volumes after decoding
ParticleSource  a particle file and what goes with it
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = {
    "Executor": "raydrgn.remote.executor",
    "LandscapeSettings": "raydrgn.workflows.landscape",
    "ParticleSource": "raydrgn.io.particle_source",
    "Run": "raydrgn.notebook",
    "VolumeOptions": "raydrgn.decoding.options",
    "VolumesSettings": "raydrgn.workflows.volumes",
    "open_particles": "raydrgn.notebook",
    "open_run": "raydrgn.notebook",
}
"""Where each public name is defined."""

__all__ = ["__version__", "workflows", *_MODULES]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    if name == "workflows":
        return import_module("raydrgn.workflows")
    if name not in _MODULES:
        raise AttributeError(f"module 'raydrgn' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """List the public names, also those not loaded yet."""
    return sorted(__all__)
