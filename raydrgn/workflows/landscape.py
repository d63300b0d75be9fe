"""``landscape``: states and components in the space of volumes, and every particle along them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.errors import ConfigError
from raydrgn.landscape.options import Linkage
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting
from raydrgn.workflows.epoch import CHECKSUM_LENGTH, DecodingSettings

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.clustering.clusters import Clusters
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.landscape.particles import ParticleCoordinates
    from raydrgn.landscape.sketch import Sketch, SketchSettings
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import RunReader

DEFAULT_BOX = 64

SKETCHED = 1000
"""Volumes of the sketch where there are as many particles."""


@dataclass(frozen=True, kw_only=True)
class LandscapeSettings(DecodingSettings):
    """Settings of ``landscape``; volumes are decoded at 64 px unless a box is given."""

    ksample: Annotated[
        int | None,
        Setting(
            "On-data volumes of the sketch; by default 1,000, or a tenth of the particles where "
            "there are fewer than that.",
            min=2,
        ),
    ] = None

    states: Annotated[int, Setting("States to find.", flags=("-M", "--states"), min=2)] = 10

    linkage: Annotated[
        Linkage,
        Setting(
            "How states are joined: by mean distance, by least increase of variance (states of "
            "like size), or by largest distance."
        ),
    ] = "average"

    sample: Annotated[
        int, Setting("Particles whose volumes are decoded, to predict all others from.", min=2)
    ] = 10_000

    threshold: Annotated[
        float | None,
        Setting(
            "Density from which a voxel is in the mask; by default half of the 99.99th percentile, "
            "averaged over the volumes of the sketch."
        ),
    ] = None

    mask: Annotated[
        str | None,
        Setting(
            "Map on the grid of the volumes (.mrc), instead of --threshold: voxels above half of "
            "its maximum are compared."
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask is not None and self.threshold is not None:
            raise ConfigError("--mask and --threshold exclude each other; give one of them.")
        if self.ksample is not None and self.states > self.ksample:
            raise ConfigError(
                f"--states {self.states} must not be larger than --ksample {self.ksample}."
            )

    def for_size(self, num_particles: int) -> "tuple[LandscapeSettings, int]":
        """Return the settings for a number of particles, and the volumes of their sketch.

        Raises:
            ConfigError: Naming the option.
        """
        from raydrgn.landscape.regression import MIN_VOLUMES

        fewer = min(num_particles, max(self.states, num_particles // 10))
        ksample = self.ksample or (SKETCHED if num_particles >= SKETCHED else fewer)
        if ksample > num_particles:
            raise ConfigError(
                f"--ksample {ksample} is larger than the number of particles, "
                f"{num_particles}. Use --ksample {max(2, num_particles // 10)}, for example."
            )
        decoded, needed = ksample + self.sample, min(MIN_VOLUMES, num_particles)
        if self.sample < needed and decoded < needed:
            raise ConfigError(
                f"--ksample {ksample} and --sample {self.sample} give at most {decoded} "
                f"volumes, and at least {MIN_VOLUMES} are needed to predict the coordinates of "
                f"the other particles. Use --sample {needed} or more."
            )
        return replace(self, ksample=ksample), ksample

    def sketch_settings(
        self, mask: "np.ndarray | None", box: int, pixel_size_angstrom: float
    ) -> "SketchSettings":
        """Return how the sketch is made, of volumes of a box and pixel size.

        Args:
            mask: Voxels of ``self.mask``.
            box: Edge of the volumes.
            pixel_size_angstrom: Of the volumes.
        """
        from raydrgn.landscape.sketch import SketchSettings

        return SketchSettings(
            states=self.states,
            linkage=self.linkage,
            threshold=self.threshold,
            mask=mask,
            box=box,
            pixel_size_angstrom=pixel_size_angstrom,
        )

    def recorded(self) -> dict[str, Any]:
        """Return the settings that change the results; a mask by its content too.

        Results of earlier versions are those of average linkage, and do not record it.
        """
        from raydrgn.io import storage

        found = super().recorded()
        if self.linkage == "average":
            del found["linkage"]
        if self.mask is None:
            return found
        checksum = storage.checksum(storage.read_bytes(self.mask))
        return {
            **found,
            "mask": storage.absolute(self.mask),
            "mask_checksum": checksum[:CHECKSUM_LENGTH],
        }


@dataclass(frozen=True, kw_only=True)
class LandscapeResult:
    """States, components and particles; the folder has them as files, with a report."""

    folder: "ResultFolder"
    sketch: "Sketch"
    particles: "ParticleCoordinates"
    failures: list[str]
    """Volumes that could not be decoded, and why."""


def run(
    settings: LandscapeSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> LandscapeResult:
    """Find states in the space of volumes, the coordinates of all particles; write the folder.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it.
    """
    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.landscape import results
    from raydrgn.landscape.particles import particle_coordinates
    from raydrgn.landscape.report import Landscape, write_landscape
    from raydrgn.model.device import gpu_problem
    from raydrgn.run.reader import open_run

    opened = open_run(settings.run)
    epoch = opened.epoch(settings.epoch)
    options = replace(settings.volumes, box=settings.volumes.box or min(DEFAULT_BOX, opened.box))
    options.check(opened.box)
    z = opened.finite_latents(epoch)
    settings, ksample = settings.for_size(len(z))
    executor.check_pool(gpu_problem)
    original = opened.original_numbers(len(z))
    mask = _read_mask(settings, opened, options)
    state = opened.decoder(epoch, pixel_size_angstrom=settings.pixel_size_angstrom)
    folder = settings.begin(opened, epoch, "landscape")
    clusters = _clusters(z, ksample, progress)
    number = ksample + min(settings.sample, len(z))
    with DecoderPool(state, options, executor, num_volumes=number) as pool:
        how = settings.sketch_settings(mask, options.box or opened.box, pool.pixel_size_angstrom)
        sketch = _sketch(pool, z, clusters, how, folder, progress)
        particles, failures = particle_coordinates(
            pool, z, sketch, folder, sample=settings.sample, progress=progress
        )
    results.write_sketch_table(sketch, original, folder)
    results.write_particles(sketch, particles, original, folder)
    found = Landscape(opened, epoch, z, sketch, particles, settings.linkage)
    write_landscape(found, folder)
    folder.finish()
    return LandscapeResult(folder=folder, sketch=sketch, particles=particles, failures=failures)


def _clusters(z: "np.ndarray", count: int, progress: Progress) -> "Clusters":
    """Return the clusters of the latents whose centres are the volumes of the sketch."""
    from raydrgn.clustering.clusters import SEED, k_means

    progress("k-means", 0, 1)
    clusters = k_means(z, count, seed=SEED)
    progress("k-means", 1, 1)
    return clusters


def _sketch(
    pool: "DecoderPool",
    z: "np.ndarray",
    clusters: "Clusters",
    how: "SketchSettings",
    folder: "ResultFolder",
    progress: Progress,
) -> "Sketch":
    """Return the sketch of an earlier command; without one, make it and write its maps."""
    from raydrgn.landscape import results
    from raydrgn.landscape.sketch import load_sketch, make_sketch, save_sketch

    found = load_sketch(clusters, how.box, folder)
    if found is not None:
        return found
    sketch, maps = make_sketch(pool, z, clusters, how, progress=progress)
    results.write_sketch_maps(sketch, maps, folder, pixel_size_angstrom=how.pixel_size_angstrom)
    save_sketch(sketch, folder)
    return sketch


def _read_mask(
    settings: LandscapeSettings, opened: "RunReader", options: "VolumeOptions"
) -> "np.ndarray | None":
    """Return the voxels of a mask in a file, if it is on the grid of the volumes."""
    from raydrgn.io.masks import read_region

    if settings.mask is None:
        return None
    region = read_region(settings.mask)
    box = options.box or opened.box
    known = settings.pixel_size_angstrom or opened.pixel_size_angstrom
    fits = region.box != box and region.box <= opened.box
    region.check_grid(
        box,
        options.pixel_size(known, opened.box),
        what="The landscape",
        remedy=f"Use --box {region.box}, the box of the mask. " if fits else "",
    )
    return region.inside
