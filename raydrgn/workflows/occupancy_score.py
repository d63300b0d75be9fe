"""``occupancy score``: the occupancy of each subunit in each volume of a run, or of a folder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.errors import ConfigError
from raydrgn.occupancy.options import Normalisation
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting
from raydrgn.workflows.run_or_maps import RunOrMapsSettings

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.occupancy.alignment import Alignment
    from raydrgn.occupancy.scored_volumes import ScoredVolumes
    from raydrgn.occupancy.subunits import SubunitSet
    from raydrgn.occupancy.table import OccupancyTable
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import RunReader


@dataclass(frozen=True, kw_only=True)
class OccupancyScoreSettings(RunOrMapsSettings):
    """Settings of ``occupancy score``; volumes are those of a run, or the maps of a folder."""

    masks: Annotated[
        str, Setting("Folder of masks: from `occupancy masks`, or any .mrc files with masks.")
    ]

    all_particles: Annotated[
        bool, Setting("A volume for every particle of the run.", flags=("--all",))
    ] = False

    references: Annotated[
        str | None, Setting("Folder of reference densities, if it is not beside the masks.")
    ] = None

    normalize: Annotated[
        Normalisation,
        Setting("Divide by the sum of the reference density, or give masked sums."),
    ] = "reference"

    binarize: Annotated[
        str | None,
        Setting(
            "Count voxels from this density on, instead of adding up density; or a CSV file with "
            "vol_id and denormalized_predictions. Of a run, densities are those of volumes in its "
            "own box.",
            metavar="T|FILE",
        ),
    ] = None

    def _ways_to_choose(self) -> dict[str, bool]:
        return super()._ways_to_choose() | {"--all": self.all_particles}

    @property
    def inputs(self) -> list[str]:
        """Files and folders that are read, which results must not replace."""
        from raydrgn.io import storage

        given = [self.run, self.volumes, self.masks, self.references, self.z_file]
        if self.binarize is not None and storage.exists(self.binarize):
            given.append(self.binarize)
        return [uri for uri in given if uri is not None]

    def volumes_of(self, run: "RunReader", epoch: int | None) -> "ScoredVolumes":
        """Return the volumes of a run that are scored.

        Raises:
            RaydrgnError: If the run or the file has no such latents.
        """
        from raydrgn.occupancy.scored_volumes import volumes_of_run

        return volumes_of_run(
            run,
            epoch,
            all_particles=self.all_particles,
            ksample=self.ksample,
            z_file=self.z_file,
        )

    def recorded(
        self, subunits: "SubunitSet", volumes: "ScoredVolumes", *, box: int
    ) -> dict[str, Any]:
        """Return the settings that change the occupancies, for the folder's ``settings.json``.

        Args:
            subunits: The masks.
            volumes: The volumes.
            box: Box of the volumes that thresholds are of, px; recorded where it is not the masks'.
        """
        from raydrgn.io import storage

        thresholds = self.binarize
        if thresholds is not None and storage.exists(thresholds):
            thresholds = storage.checksum(storage.read_bytes(thresholds))
        record: dict[str, Any] = {
            "masks": storage.absolute(self.masks),
            **subunits.checksums(),
            "normalize": self.normalize,
            "binarize": thresholds,
        }
        if thresholds is not None and box != subunits.box:
            record["binarize_box"] = box
        if self.volumes is not None:
            return record | {
                "volumes": storage.absolute(self.volumes),
                "count": len(volumes.names),
            }
        return record | {
            "ksample": self.ksample,
            "all": self.all_particles,
            "latents_checksum": storage.checksum(volumes.latents().tobytes()),
            "flip": self.flip,
            "invert": self.invert,
            "pixel_size": self.pixel_size_angstrom,
        }


@dataclass(frozen=True, kw_only=True)
class OccupancyScoreResult:
    """What ``occupancy score`` found."""

    folder: "ResultFolder"
    table: "OccupancyTable"
    alignment: "Alignment | None"
    """How well volumes and model fit; None if there are no reference densities."""

    failures: list[str]
    """Volumes that could not be scored, and why."""


def run(
    settings: OccupancyScoreSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> OccupancyScoreResult:
    """Score volumes, and write the table of occupancies.

    Raises:
        RaydrgnError: If masks, volumes, settings or the folder do not allow it.
    """
    from raydrgn.io import storage
    from raydrgn.occupancy.subunits import read_subunits

    subunits = read_subunits(
        storage.absolute(settings.masks),
        references=settings.references,
        normalize=settings.normalize,
    )
    if settings.volumes is not None:
        return _score_maps(settings, subunits, executor, progress)
    return _score_run(settings, subunits, executor, progress)


def _score_maps(
    settings: OccupancyScoreSettings,
    subunits: "SubunitSet",
    executor: Executor,
    progress: Progress,
) -> OccupancyScoreResult:
    from raydrgn.occupancy.masked_sums import ScoreFiles
    from raydrgn.occupancy.scored_volumes import read_samples, read_thresholds, volumes_of_folder
    from raydrgn.occupancy.scoring import score_volumes, scored_files
    from raydrgn.occupancy.subunits import refuse_inputs
    from raydrgn.reporting.result_folder import ResultFolder

    assert settings.volumes is not None
    assert settings.out is not None
    refuse_inputs(settings.out, settings.inputs)
    volumes = volumes_of_folder(settings.volumes, subunits)
    thresholds = read_thresholds(settings.binarize, volumes.names)
    work = ScoreFiles(subunits, volumes.uris, thresholds)
    folder = ResultFolder(settings.out)
    recorded = settings.recorded(subunits, volumes, box=subunits.box)
    folder.begin(recorded, made_from=None, overwrite=settings.overwrite)
    fit = _check_alignment(read_samples(volumes), subunits)
    table, failures = score_volumes(
        volumes, subunits, scored_files(work, executor), folder, progress=progress
    )
    folder.finish()
    return OccupancyScoreResult(folder=folder, table=table, alignment=fit, failures=failures)


def _score_run(
    settings: OccupancyScoreSettings,
    subunits: "SubunitSet",
    executor: Executor,
    progress: Progress,
) -> OccupancyScoreResult:
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.model.device import gpu_problem
    from raydrgn.occupancy.masked_sums import ScoreLatents
    from raydrgn.occupancy.scored_volumes import read_thresholds, sample_rows, thresholds_in_box
    from raydrgn.occupancy.scoring import score_volumes, scored_latents
    from raydrgn.occupancy.subunits import refuse_inputs
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import open_run

    opened = open_run(settings.run or "")
    epoch = opened.epoch(settings.epoch)
    executor.check_pool(gpu_problem)
    folder = ResultFolder(settings.out or opened.files.results("occupancy", epoch))
    refuse_inputs(folder.uri, settings.inputs)
    folder.require_writable()
    options = VolumeOptions(box=subunits.box, flip=settings.flip, invert=settings.invert)
    _check_grid(opened, subunits, settings.pixel_size_angstrom)
    state = opened.decoder(epoch, pixel_size_angstrom=settings.pixel_size_angstrom)
    volumes = settings.volumes_of(opened, epoch)
    z = volumes.latents()
    thresholds = read_thresholds(settings.binarize, volumes.names)
    if thresholds is not None:
        thresholds = thresholds_in_box(thresholds, old=opened.box, box=subunits.box)
    work = ScoreLatents(subunits, z, thresholds)
    folder.begin(
        settings.recorded(subunits, volumes, box=opened.box),
        made_from=opened.identity(epoch),
        overwrite=settings.overwrite,
    )
    with DecoderPool(state, options, executor, num_volumes=len(z)) as pool:
        fit = _check_alignment(pool.volumes(z[sample_rows(len(z))]), subunits)
        table, failures = score_volumes(
            volumes, subunits, scored_latents(work, pool), folder, progress=progress
        )
    folder.finish()
    return OccupancyScoreResult(folder=folder, table=table, alignment=fit, failures=failures)


def _check_alignment(samples: "np.ndarray", subunits: "SubunitSet") -> "Alignment | None":
    """Log how well some of the volumes fit the density of the model; None if there is none."""
    from raydrgn.occupancy.alignment import check_alignment

    return check_alignment(
        samples, subunits.density, pixel_size_angstrom=subunits.pixel_size_angstrom
    )


def _check_grid(
    opened: "RunReader", subunits: "SubunitSet", pixel_size_angstrom: float | None
) -> None:
    """Refuse masks that the volumes of a run cannot be decoded for."""
    if subunits.box > opened.box:
        raise ConfigError(
            f"The masks have a box of {subunits.box} px, but the volumes of {opened.files.root} "
            f"have one of {opened.box} px. Make masks on a map of that box or a smaller one."
        )
    size = pixel_size_angstrom or opened.pixel_size_angstrom
    subunits.check_grid(
        subunits.box, size * opened.box / subunits.box, what=f"{opened.files.root} in that box"
    )
