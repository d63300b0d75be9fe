from raydrgn import workflows as workflows
from raydrgn.decoding.options import VolumeOptions as VolumeOptions
from raydrgn.io.particle_source import ParticleSource as ParticleSource
from raydrgn.notebook import Run as Run
from raydrgn.notebook import open_particles as open_particles
from raydrgn.notebook import open_run as open_run
from raydrgn.remote.executor import Executor as Executor
from raydrgn.workflows.analyze import AnalyzeSettings as AnalyzeSettings
from raydrgn.workflows.backproject import BackprojectSettings as BackprojectSettings
from raydrgn.workflows.convergence import ConvergenceSettings as ConvergenceSettings
from raydrgn.workflows.demo import DemoSettings as DemoSettings
from raydrgn.workflows.downsample import DownsampleSettings as DownsampleSettings
from raydrgn.workflows.evaluate import EvaluateSettings as EvaluateSettings
from raydrgn.workflows.export import ExportCryodrgnSettings as ExportCryodrgnSettings
from raydrgn.workflows.export import ExportCsSettings as ExportCsSettings
from raydrgn.workflows.export import ExportIndicesSettings as ExportIndicesSettings
from raydrgn.workflows.export import ExportStarSettings as ExportStarSettings
from raydrgn.workflows.filter import FilterSettings as FilterSettings
from raydrgn.workflows.info import InfoSettings as InfoSettings
from raydrgn.workflows.landscape import LandscapeSettings as LandscapeSettings
from raydrgn.workflows.occupancy_classes import OccupancyClassesSettings as OccupancyClassesSettings
from raydrgn.workflows.occupancy_masks import OccupancyMasksSettings as OccupancyMasksSettings
from raydrgn.workflows.occupancy_pca import PcaSettings as PcaSettings
from raydrgn.workflows.occupancy_score import OccupancyScoreSettings as OccupancyScoreSettings
from raydrgn.workflows.parse import ParseSettings as ParseSettings
from raydrgn.workflows.relocate import RelocateSettings as RelocateSettings
from raydrgn.workflows.simulate import SimulateSettings as SimulateSettings
from raydrgn.workflows.sweep import SweepSettings as SweepSettings
from raydrgn.workflows.train import TrainSettings as TrainSettings
from raydrgn.workflows.traverse import AnchoredPathSettings as AnchoredPathSettings
from raydrgn.workflows.traverse import TraverseDirectSettings as TraverseDirectSettings
from raydrgn.workflows.traverse import TraverseGraphSettings as TraverseGraphSettings
from raydrgn.workflows.traverse import TraversePcSettings as TraversePcSettings
from raydrgn.workflows.traverse import TraverseSettings as TraverseSettings
from raydrgn.workflows.volumes import VolumesSettings as VolumesSettings

__version__: str
__all__: list[str]
