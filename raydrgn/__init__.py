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

from raydrgn.own_folder import give_cache_folder
from raydrgn.quiet_threads import limit_spinning

limit_spinning()
give_cache_folder()

__version__ = "0.1.0"

_MODULES = {
    "AnalyzeSettings": "raydrgn.workflows.analyze",
    "AnchoredPathSettings": "raydrgn.workflows.traverse",
    "BackprojectSettings": "raydrgn.workflows.backproject",
    "CleanSettings": "raydrgn.workflows.clean",
    "CompareSettings": "raydrgn.workflows.compare",
    "ConvergenceSettings": "raydrgn.workflows.convergence",
    "DemoSettings": "raydrgn.workflows.demo",
    "DownsampleSettings": "raydrgn.workflows.downsample",
    "EmbedSettings": "raydrgn.workflows.embed",
    "EvaluateSettings": "raydrgn.workflows.evaluate",
    "Executor": "raydrgn.remote.executor",
    "ExploreSettings": "raydrgn.workflows.explore",
    "ExportCryodrgnSettings": "raydrgn.workflows.export",
    "ExportCsSettings": "raydrgn.workflows.export",
    "ExportIndicesSettings": "raydrgn.workflows.export",
    "ExportStarSettings": "raydrgn.workflows.export",
    "FilterSettings": "raydrgn.workflows.filter",
    "FlipSettings": "raydrgn.workflows.maps",
    "FscSettings": "raydrgn.workflows.maps",
    "HalvesSettings": "raydrgn.workflows.halves",
    "InfoSettings": "raydrgn.workflows.info",
    "InvertSettings": "raydrgn.workflows.maps",
    "LandscapeSettings": "raydrgn.workflows.landscape",
    "MontageSettings": "raydrgn.workflows.montage",
    "OccupancyClassesSettings": "raydrgn.workflows.occupancy_classes",
    "OccupancyMasksSettings": "raydrgn.workflows.occupancy_masks",
    "OccupancyScoreSettings": "raydrgn.workflows.occupancy_score",
    "ParseSettings": "raydrgn.workflows.parse",
    "ParticleSource": "raydrgn.io.particle_source",
    "PcaSettings": "raydrgn.workflows.occupancy_pca",
    "PlotSettings": "raydrgn.workflows.plot",
    "ProtocolSettings": "raydrgn.protocol.settings",
    "RelocateSettings": "raydrgn.workflows.relocate",
    "Run": "raydrgn.notebook",
    "RunsSettings": "raydrgn.workflows.runs",
    "SelectRandomSettings": "raydrgn.workflows.select",
    "SimulateSettings": "raydrgn.workflows.simulate",
    "SweepSettings": "raydrgn.workflows.sweep",
    "TrainSettings": "raydrgn.workflows.train_settings",
    "TraverseDirectSettings": "raydrgn.workflows.traverse",
    "TraverseGraphSettings": "raydrgn.workflows.traverse",
    "TraversePcSettings": "raydrgn.workflows.traverse",
    "TraverseSettings": "raydrgn.workflows.traverse",
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
