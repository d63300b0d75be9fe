from raydrgn import workflows as workflows
from raydrgn.decoding.options import VolumeOptions as VolumeOptions
from raydrgn.io.particle_source import ParticleSource as ParticleSource
from raydrgn.notebook import Run as Run
from raydrgn.notebook import open_particles as open_particles
from raydrgn.notebook import open_run as open_run
from raydrgn.remote.executor import Executor as Executor
from raydrgn.workflows.landscape import LandscapeSettings as LandscapeSettings
from raydrgn.workflows.volumes import VolumesSettings as VolumesSettings

__version__: str
__all__: list[str]
