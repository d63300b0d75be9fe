"""``landscape``: states and components in the space of volumes, and where every particle lies."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting
from raydrgn.workflows.epoch import DecodingSettings

if TYPE_CHECKING:
    from raydrgn.landscape.sketch import Places, Sketch
    from raydrgn.reporting.result_folder import ResultFolder

DEFAULT_BOX = 64


@dataclass(frozen=True, kw_only=True)
class LandscapeSettings(DecodingSettings):
    """Settings of ``landscape``; volumes are decoded at 64 px unless a box is given."""

    ksample: Annotated[int, Setting("On-data volumes of the sketch.", min=2)] = 1000

    states: Annotated[int, Setting("States to find.", flags=("-M", "--states"), min=2)] = 10

    sample: Annotated[
        int, Setting("Particles whose volumes are decoded, to predict all others from.", min=2)
    ] = 10_000

    threshold: Annotated[
        float | None,
        Setting(
            "Density from which a voxel is in the mask; by default the mean over the sketch of "
            "half of the 99.99th percentile."
        ),
    ] = None

    def check(self, num_particles: int) -> None:
        """Check the settings against the number of particles.

        Raises:
            ConfigError: Naming the option.
        """
        if self.states > self.ksample:
            raise ConfigError(
                f"--states {self.states} must not be larger than --ksample {self.ksample}."
            )
        if self.ksample > num_particles:
            raise ConfigError(
                f"--ksample {self.ksample} is larger than the number of particles, "
                f"{num_particles}. Use --ksample {max(2, num_particles // 10)}, for example."
            )


@dataclass(frozen=True, kw_only=True)
class LandscapeResult:
    """What ``landscape`` found; the folder has it as files, with a report."""

    folder: "ResultFolder"
    sketch: "Sketch"
    particles: "Places"
    failures: list[str]
    """Volumes that could not be decoded, and why."""


def run(
    settings: LandscapeSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> LandscapeResult:
    """Find states in the space of volumes, place every particle, and write the result folder.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it.
    """
    from dataclasses import replace

    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.landscape import sketch as stages
    from raydrgn.landscape.report import Landscape, write_landscape
    from raydrgn.run.reader import open_run

    opened = open_run(settings.run)
    epoch = opened.epoch(settings.epoch)
    options = replace(settings.volumes, box=settings.volumes.box or min(DEFAULT_BOX, opened.box))
    options.check(opened.box)
    z = opened.finite_latents(epoch)
    settings.check(len(z))
    numbers = opened.original_numbers(len(z))
    state = opened.decoder(epoch, pixel_size_angstrom=settings.pixel_size_angstrom)
    folder = settings.begin(opened, epoch, "landscape")
    how = stages.Sketching(
        ksample=settings.ksample,
        states=settings.states,
        threshold=settings.threshold,
        box=options.box or opened.box,
        pixel_size_angstrom=options.pixel_size(state.pixel_size_angstrom, state.box),
    )
    with DecoderPool(state, options, executor) as pool:
        sketch = stages.make_sketch(pool, z, how, folder, progress=progress)
        particles, failures = stages.place_particles(
            pool, z, sketch, folder, sample=settings.sample, progress=progress
        )
    stages.write_lists(sketch, particles, numbers, folder)
    write_landscape(Landscape(opened, epoch, z, sketch, particles), folder)
    return LandscapeResult(folder=folder, sketch=sketch, particles=particles, failures=failures)
