"""Settings of the benchmarks. Loads nothing heavy."""

from dataclasses import dataclass
from typing import Annotated

from raydrgn.settings import Setting, check_bounds

Address = Annotated[
    str | None, Setting("Ray cluster to join, or RAY_ADDRESS; this machine if unset.")
]

Assignments = Annotated[
    tuple[str, ...],
    Setting("A setting of model or train.", flags=("--set",), metavar="SECTION.FIELD=VALUE"),
]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What the settings of all benchmarks do: check their bounds."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Benchmark):
    """Size of the network and of its images."""

    box: Annotated[int, Setting("Edge of the images, pixels.", min=4)] = 64

    width: Annotated[int, Setting("Width of encoder and decoder.", flags=("--dim",), min=1)] = 256

    layers: Annotated[int, Setting("Residual layers of each.", min=1)] = 3


@dataclass(frozen=True, kw_only=True)
class StepSettings(NetworkSettings):
    """Settings of ``bench step``."""

    batch_size: Annotated[int, Setting("Particles per step.", min=1)] = 32

    amp: Annotated[
        bool,
        Setting(
            "Matrix products in bfloat16, on GPUs and on CPUs that have units for them.",
            flags=("--amp/--no-amp",),
        ),
    ] = True

    device: Annotated[str | None, Setting("cpu or cuda; a GPU by default where there is one.")] = (
        None
    )

    threads: Annotated[int | None, Setting("CPU threads; all cores by default.", min=1)] = None

    compile: Annotated[
        bool,
        Setting(
            "Time the compiled step too: a captured CUDA graph, or torch.compile on a CPU, which "
            "takes a minute and needs a C++ compiler.",
            flags=("--compile/--no-compile",),
        ),
    ] = True

    assignments: Assignments = ()


@dataclass(frozen=True, kw_only=True)
class GpuSettings(Benchmark):
    """Settings of ``bench gpu``."""

    boxes: Annotated[
        tuple[int, ...], Setting("Edge of the images, pixels; repeatable.", flags=("--box",))
    ] = (64, 128, 256)

    widths: Annotated[
        tuple[int, ...],
        Setting("Width of encoder and decoder, of three layers; repeatable.", flags=("--dim",)),
    ] = (256, 1024)

    batch_size: Annotated[int, Setting("Particles per step.", min=1)] = 32

    num_particles: Annotated[
        int,
        Setting(
            "Simulated images of the whole path, of which each is taken several times where epochs "
            "would be shorter than 20 s.",
            flags=("--particles",),
            min=100,
        ),
    ] = 10_000


@dataclass(frozen=True, kw_only=True)
class EmSettings(Benchmark):
    """Settings of ``bench em``."""

    box: Annotated[int, Setting("Edge of the images, pixels.", min=4)] = 64

    components: Annotated[int, Setting("Components beside the mean.", min=1)] = 10

    batch_size: Annotated[int, Setting("Images at a time.", min=1)] = 64

    device: Annotated[str | None, Setting("cpu or cuda; a GPU by default where there is one.")] = (
        None
    )

    threads: Annotated[int | None, Setting("CPU threads; all cores by default.", min=1)] = None


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(NetworkSettings):
    """Settings of ``bench train``."""

    batch_size: Annotated[int, Setting("Particles per step.", min=1)] = 32

    num_particles: Annotated[
        int, Setting("Particles per epoch.", flags=("--particles",), min=1)
    ] = 1500

    workers: Annotated[int, Setting("Training processes.", min=1)] = 1

    address: Address = None

    assignments: Assignments = ()


@dataclass(frozen=True, kw_only=True)
class ScalingSettings(NetworkSettings):
    """Settings of ``bench scaling``."""

    batch_size: Annotated[int, Setting("Particles per step of each worker.", min=1)] = 32

    num_particles: Annotated[
        int, Setting("Particles to prepare.", flags=("--particles",), min=1)
    ] = 2000

    workers: Annotated[int, Setting("Most workers, of one core or GPU each.", min=1)] = 2

    address: Address = None

    assignments: Assignments = ()


@dataclass(frozen=True, kw_only=True)
class ExchangeSettings(NetworkSettings):
    """Settings of ``bench exchange``."""

    batch_size: Annotated[int, Setting("Particles per step of each worker.", min=1)] = 4

    workers: Annotated[
        int, Setting("Most workers: processes of one thread, whatever the cores.", min=1, max=64)
    ] = 4

    assignments: Assignments = ()


@dataclass(frozen=True, kw_only=True)
class PreparationSettings(Benchmark):
    """Settings of ``bench prepare``."""

    box: Annotated[int, Setting("Edge of the images, pixels.", min=4)] = 320

    small: Annotated[
        int, Setting("Edge after downsampling, pixels.", flags=("-D", "--small"), min=4)
    ] = 128

    num_particles: Annotated[
        int, Setting("Images of the stack.", flags=("--particles",), min=8)
    ] = 4000

    folder: Annotated[
        str | None,
        Setting("Where to write: a folder of the disk to time, or an s3:// URL to time reading."),
    ] = None

    threads: Annotated[int | None, Setting("CPU threads; all cores by default.", min=1)] = None


@dataclass(frozen=True, kw_only=True)
class ParticlesSettings(Benchmark):
    """Settings of ``bench particles``."""

    num_particles: Annotated[
        int, Setting("Particles of table, plan and latents.", flags=("--particles",), min=1000)
    ] = 1_000_000

    num_images: Annotated[int, Setting("Images to prepare.", flags=("--images",), min=4)] = 100_000

    box: Annotated[int, Setting("Edge of these images, pixels.", min=4)] = 32

    folder: Annotated[str | None, Setting("Where to write; the disk it is on is timed.")] = None


@dataclass(frozen=True, kw_only=True)
class DecodingBenchSettings(NetworkSettings):
    """Settings of ``bench volumes``."""

    num_volumes: Annotated[
        int,
        Setting("Volumes of the comparison of workers; 0: none.", flags=("--volumes",), min=0),
    ] = 1000

    workers: Annotated[int, Setting("Workers, of one core each.", min=1)] = 2

    address: Address = None


@dataclass(frozen=True, kw_only=True)
class OccupancyBenchSettings(Benchmark):
    """Settings of ``bench occupancy``."""

    run: Annotated[str, Setting("Trained run, of raydrgn or cryoDRGN.", is_argument=True)]

    num_volumes: Annotated[int, Setting("Volumes to score.", flags=("--volumes",), min=100)] = (
        10_000
    )

    num_masks: Annotated[int, Setting("Made-up masks.", flags=("--masks",), min=1)] = 100

    box: Annotated[int, Setting("Edge of the volumes, pixels.", min=4)] = 64

    workers: Annotated[int, Setting("Workers, of one core each.", min=1)] = 2

    address: Address = None


@dataclass(frozen=True, kw_only=True)
class ExploreBenchSettings(Benchmark):
    """Settings of ``bench explore``."""

    num_particles: Annotated[
        int, Setting("Particles to show.", flags=("--particles",), min=1000)
    ] = 1_000_000
