"""``occupancy pca``: components of volumes within one mask, of a run or of a folder of maps."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.errors import ConfigError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting
from raydrgn.workflows.epoch import CHECKSUM_LENGTH
from raydrgn.workflows.run_or_maps import RunOrMapsSettings

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.io.masks import Mask
    from raydrgn.landscape.components import VolumeComponents
    from raydrgn.landscape.masked_report import EmbeddedParticles
    from raydrgn.landscape.masked_volumes import VolumeList
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import RunReader


@dataclass(frozen=True, kw_only=True)
class PcaSettings(RunOrMapsSettings):
    """Settings of ``occupancy pca``; the volumes are given in one of three ways."""

    mask: Annotated[str, Setting("Mask (.mrc), in the box of the volumes.")]

    components: Annotated[int, Setting("Principal components, at most.", min=1)] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ksample == 1:
            raise ConfigError("--ksample must be at least 2: components need several volumes.")

    def recorded(self, mask: "Mask", content: str) -> dict[str, Any]:
        """Return what changes the results.

        Args:
            mask: Voxels that are compared.
            content: Checksum of what the volumes are made from.
        """
        from raydrgn.io import storage

        names = ("ksample", "components", "flip", "invert", "pixel_size_angstrom")
        return {
            **{name: getattr(self, name) for name in names},
            "mask": storage.absolute(self.mask),
            "mask_checksum": storage.checksum(mask.inside.tobytes())[:CHECKSUM_LENGTH],
            "volumes": None if self.volumes is None else storage.absolute(self.volumes),
            "volumes_checksum": content[:CHECKSUM_LENGTH],
        }


@dataclass(frozen=True, kw_only=True)
class PcaResult:
    """Components of the volumes; the folder has them as files, with a report."""

    folder: "ResultFolder"
    mask: "Mask"
    names: tuple[str, ...]
    """Names of the volumes, in the order of the coordinates."""

    components: "VolumeComponents"
    particles: "np.ndarray | None"
    """Coordinates of every particle of the run; None for a folder of maps."""

    failures: list[str]
    """Volumes that could not be decoded, and why."""


def run(
    settings: PcaSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> PcaResult:
    """Find the components of volumes within a mask, and write the result folder.

    Raises:
        RaydrgnError: If the run, the maps, the mask or the folder do not allow it.
    """
    from raydrgn.io.masks import read_mask
    from raydrgn.occupancy.subunits import refuse_inputs

    mask = read_mask(settings.mask)
    if settings.out is not None:
        inputs = (settings.run, settings.volumes, settings.mask, settings.z_file)
        refuse_inputs(settings.out, [uri for uri in inputs if uri is not None])
    if settings.volumes is not None:
        return _of_maps(settings, settings.volumes, mask, progress)
    return _of_run(settings, mask, executor, progress)


def _of_maps(settings: PcaSettings, source: str, mask: "Mask", progress: Progress) -> PcaResult:
    from raydrgn.decoding.volume_sets import copy_maps
    from raydrgn.io import storage
    from raydrgn.landscape import masked_report, masked_results
    from raydrgn.landscape import masked_volumes as masked
    from raydrgn.occupancy.scored_volumes import maps_of_folder
    from raydrgn.reporting.result_folder import ResultFolder

    volumes = masked.volumes_of_maps(maps_of_folder(source), mask)
    masked.check_memory(volumes, mask)
    folder = ResultFolder(settings.out or "")
    folder.require_writable()
    rows = masked.read_voxels(volumes, mask, progress=progress)
    found = masked.components_within(rows, mask, settings.components)
    versions = "\n".join(f"{uri} {storage.stamp(uri)}" for uri in volumes.uris)
    recorded = settings.recorded(mask, storage.checksum(versions.encode()))
    folder.begin(recorded, made_from=None, overwrite=settings.overwrite)
    pixel_size = masked.pixel_size_of_maps(volumes, mask)
    masked_results.write_components(found, volumes, mask, folder, pixel_size_angstrom=pixel_size)
    series = masked_results.component_series(found, volumes, rows, folder)
    for along in series:
        copy_maps(along.volumes, [volumes.uris[row] for row in along.chosen])
    masked_report.write_masked_report(found, mask, folder, title=source, series=series)
    folder.finish()
    return PcaResult(
        folder=folder,
        mask=mask,
        names=volumes.names,
        components=found,
        particles=None,
        failures=[],
    )


@dataclass(frozen=True, kw_only=True)
class _ComparedLatents:
    """Latents of a run, and the volumes of some of them, which are compared."""

    run: "RunReader"
    epoch: int | None
    z: "np.ndarray"
    """Of all particles, (p, zdim)."""

    original: "np.ndarray"
    """Number of each particle in the original set."""

    volumes: "VolumeList"

    @classmethod
    def open(cls, settings: PcaSettings, mask: "Mask", executor: Executor) -> "_ComparedLatents":
        """Open the run, and choose the volumes.

        Raises:
            RaydrgnError: If the mask does not fit the run, or the voxels the memory.
        """
        from raydrgn.landscape.masked_volumes import check_memory
        from raydrgn.model.device import gpu_problem
        from raydrgn.run.reader import open_run

        opened = open_run(settings.run or "")
        _check_box(opened, mask, settings.pixel_size_angstrom)
        epoch = opened.epoch(settings.epoch)
        executor.check_pool(gpu_problem)
        _folder_of_run(settings, opened, epoch).require_writable()
        z = opened.finite_latents(epoch)
        original = opened.original_numbers(len(z))
        volumes = _volumes_to_decode(settings, opened, z)
        check_memory(volumes, mask)
        return cls(run=opened, epoch=epoch, z=z, original=original, volumes=volumes)

    def begin(self, settings: PcaSettings, mask: "Mask") -> "ResultFolder":
        """Return the folder of results, begun or continued."""
        from raydrgn.io import storage

        assert self.volumes.z is not None, "volumes of a run have latents"
        folder = _folder_of_run(settings, self.run, self.epoch)
        recorded = settings.recorded(mask, storage.checksum(self.volumes.z.tobytes()))
        made_from = self.run.identity(self.epoch)
        folder.begin(recorded, made_from=made_from, overwrite=settings.overwrite)
        return folder

    def pool(self, settings: PcaSettings, mask: "Mask", executor: Executor) -> "DecoderPool":
        """Return the decoders of the epoch, in the box of the mask."""
        from raydrgn.decoding.options import VolumeOptions
        from raydrgn.decoding.pool import DecoderPool

        options = VolumeOptions(box=mask.box, flip=settings.flip, invert=settings.invert)
        pixel_size = settings.pixel_size_angstrom
        state = self.run.decoder(self.epoch, pixel_size_angstrom=pixel_size)
        return DecoderPool(state, options, executor, num_volumes=len(self.volumes.names))

    def embedded(self, coordinates: "np.ndarray") -> "EmbeddedParticles | None":
        """Return the particles to draw by their coordinates; None without a plane to draw in."""
        from raydrgn.landscape.masked_report import EmbeddedParticles
        from raydrgn.reporting.latent_plane import latent_plane

        plane = latent_plane(self.run, self.epoch, self.z)
        if plane is None:
            return None
        names, xy = plane
        return EmbeddedParticles(names=names, xy=xy, coordinates=coordinates)


def _folder_of_run(settings: PcaSettings, opened: "RunReader", epoch: int | None) -> "ResultFolder":
    from raydrgn.reporting.result_folder import ResultFolder

    return ResultFolder(settings.out or opened.files.results("occupancy_pca", epoch))


def _of_run(
    settings: PcaSettings, mask: "Mask", executor: Executor, progress: Progress
) -> PcaResult:
    from raydrgn.decoding.volume_sets import make_sets
    from raydrgn.landscape import masked_report, masked_results
    from raydrgn.landscape import masked_volumes as masked

    latents = _ComparedLatents.open(settings, mask, executor)
    volumes, original = latents.volumes, latents.original
    folder = latents.begin(settings, mask)
    with latents.pool(settings, mask, executor) as pool:
        rows = masked.decode_voxels(volumes, mask, pool, progress=progress)
        found = masked.components_within(rows, mask, settings.components)
        size = pool.pixel_size_angstrom
        masked_results.write_components(
            found, volumes, mask, folder, pixel_size_angstrom=size, original=original
        )
        series = masked_results.component_series(found, volumes, rows, folder)
        made = make_sets(pool, [along.volumes for along in series], progress=progress)
    coordinates = masked.coordinates_of_particles(volumes, found, latents.z)
    masked_results.write_particles(original, coordinates, folder)
    masked_report.write_masked_report(
        found,
        mask,
        folder,
        title=f"{latents.run.files.root}, epoch {latents.epoch}",
        series=series,
        particles=latents.embedded(coordinates),
    )
    folder.finish()
    return PcaResult(
        folder=folder,
        mask=mask,
        names=volumes.names,
        components=found,
        particles=coordinates,
        failures=made.failures,
    )


def _volumes_to_decode(settings: PcaSettings, opened: "RunReader", z: "np.ndarray") -> "VolumeList":
    """Return the volumes of clusters of all latents, or of the latents of a file."""
    from raydrgn.decoding import latent_input
    from raydrgn.landscape import masked_volumes as masked

    if settings.ksample is not None:
        return masked.volumes_of_clusters(z, settings.ksample)
    return masked.volumes_of_latents(latent_input.latents_of_file(opened, settings.z_file or ""))


def _check_box(opened: "RunReader", mask: "Mask", pixel_size_angstrom: float | None) -> None:
    """Refuse a mask in a box in which volumes of the run cannot be decoded."""
    if mask.box > opened.box:
        raise ConfigError(
            f"The mask has a box of {mask.box} px, but {opened.files.root} has one of "
            f"{opened.box} px; make a mask on a map of that box or a smaller one."
        )
    known = pixel_size_angstrom or opened.pixel_size_angstrom
    mask.check_grid(
        mask.box, known * opened.box / mask.box, what=f"{opened.files.root}, in that box,"
    )
