"""``downsample``: particle images, or a map, in a smaller box."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raydrgn.inputs.options import DownsamplingOptions
from raydrgn.io.particle_source import DropBad, ParticleSource
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent

if TYPE_CHECKING:
    from raydrgn.io.particles import ParticleTable


@dataclass(frozen=True, kw_only=True)
class DownsampleSettings(DownsamplingOptions):
    """Settings of ``downsample``."""

    source: ParticleSource

    drop_bad: DropBad = False


@dataclass(frozen=True, kw_only=True)
class DownsampleResult:
    """What ``downsample`` wrote."""

    out: str
    box: int
    particles: "ParticleTable | None"
    """Particles with their new images; None for a map."""

    pixel_size_angstrom: float | None
    """Of the first particle, or of the map; None if it is not known."""


def run(
    settings: DownsampleSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> DownsampleResult:
    """Write particles, or a map, in a smaller box by Fourier cropping.

    What an earlier run of the same settings has finished is kept.

    Raises:
        RaydrgnError: If the input or the output does not allow it.
    """
    from raydrgn.data.image_statistics import leave_out_bad
    from raydrgn.inputs.common_field import taken_boxes
    from raydrgn.inputs.downsampling import downsample, downsample_volume, plan_stacks
    from raydrgn.io import storage
    from raydrgn.io.sources import open_particles
    from raydrgn.reporting.result_folder import ResultFolder

    if settings.is_volume:
        pixel_size = downsample_volume(settings.source.particles, settings.out, box=settings.box)
        return DownsampleResult(
            out=settings.out,
            box=settings.box,
            particles=None,
            pixel_size_angstrom=pixel_size or None,
        )
    table = open_particles(settings.source)
    if settings.drop_bad:
        plan_stacks(table, taken_boxes(table), settings)  # refuses what it would after the images
        ResultFolder(storage.parent(storage.absolute(settings.out))).require_writable()
        table, _ = leave_out_bad(table)
    small = downsample(table, settings, executor=executor, progress=progress)
    has_pixel_size = "pixel_size_angstrom" in small.table.column_names
    return DownsampleResult(
        out=settings.out,
        box=settings.box,
        particles=small,
        pixel_size_angstrom=(
            float(small.column("pixel_size_angstrom")[0]) if has_pixel_size else None
        ),
    )
