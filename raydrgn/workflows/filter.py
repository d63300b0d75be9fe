"""``filter``: a selection of particles, by one or several methods together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, whole_numbers
from raydrgn.workflows.epoch import LatentSettings

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.latent.filters import Method
    from raydrgn.reporting.analysis_results import AnalysisResults
    from raydrgn.reporting.result_folder import ResultFolder


@dataclass(frozen=True, kw_only=True)
class FilterSettings(LatentSettings):
    """Settings of ``filter``: the methods, of which at least one is given."""

    keep_clusters: Annotated[
        str | None, Setting("Clusters of analyze, or of --labels, to keep, as 0,3,5.")
    ] = None

    drop_clusters: Annotated[
        str | None, Setting("Clusters of analyze, or of --labels, to drop, as 0,3,5.")
    ] = None

    ksample: Annotated[int, Setting("K of the k-means of analyze to use.", min=1)] = 20

    labels: Annotated[
        str | None,
        Setting(
            "File of the cluster of each particle (−1: none), in their order or by their original "
            "numbers, instead of k-means; with --conditions their column 'label'."
        ),
    ] = None

    gmm: Annotated[int | None, Setting("Components of a Gaussian mixture; see --drop.", min=1)] = (
        None
    )

    drop: Annotated[
        str | None,
        Setting("Components of the mixture to drop, as 0,3; without, they are listed."),
    ] = None

    zscore: Annotated[
        float | None,
        Setting("Drop particles with |z| more than this number of SD above the mean."),
    ] = None

    umap_polygon: Annotated[
        str | None,
        Setting("File of the corners of a polygon in the UMAP, x y per line; inside is kept."),
    ] = None

    conditions: Annotated[
        str | None,
        Setting(
            "File of conditions on columns and of polygons in any plane, as `explore` saves it."
        ),
    ] = None

    null: Annotated[
        float | None,
        Setting(
            "Drop images that show nothing with more than this probability; of a run of --method "
            "mfa.",
            min=0,
            max=1,
        ),
    ] = None

    ind: Annotated[str | None, Setting("Earlier selection; only its particles are kept.")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        keep = whole_numbers(self.keep_clusters, "--keep-clusters")
        drop = whole_numbers(self.drop_clusters, "--drop-clusters")
        components = whole_numbers(self.drop, "--drop")
        if keep and drop:
            raise ConfigError("Give --keep-clusters or --drop-clusters, not both.")
        if self.labels is not None and not (keep or drop or self.conditions):
            raise ConfigError("--labels needs --keep-clusters, --drop-clusters or --conditions.")
        if components and self.gmm is None:
            raise ConfigError("--drop takes components of a mixture: give their number with --gmm.")
        others = (self.gmm, self.zscore, self.umap_polygon, self.conditions, self.null, self.ind)
        if not keep and not drop and all(value is None for value in others):
            raise ConfigError(
                "Choose a method: --keep-clusters or --drop-clusters (of analyze, or of --labels), "
                "--gmm with --drop, --zscore, --umap-polygon, --conditions, --null or --ind; "
                "several can be combined."
            )


@dataclass(frozen=True, kw_only=True)
class FilterResult:
    """A selection of particles; the folder has it as files."""

    folder: "ResultFolder"
    epoch: int | None
    numbers: "np.ndarray"
    """Number of each particle in the original set."""

    kept: "np.ndarray"
    """Whether each particle is kept by all methods."""

    methods: "list[Method]"
    """Each method, and the particles that it keeps."""

    images_error: str
    """Why there are no images of particles; empty if there are."""

    failures: list[str]
    """Volumes that could not be decoded, and why."""


def run(
    settings: FilterSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> FilterResult:
    """Select particles, and write what is kept and dropped into the result folder.

    Raises:
        RaydrgnError: If the run, the settings or the folder do not allow it.
    """
    from raydrgn.io.storage import checksum
    from raydrgn.latent import filter_report
    from raydrgn.latent.conditions import by_conditions, read_conditions
    from raydrgn.latent.filters import by_null, kept_by_all
    from raydrgn.latent.values import ParticleValues
    from raydrgn.reporting.analysis_results import AnalysisResults
    from raydrgn.reporting.latent_plane import latent_plane

    opened = settings.open()
    source, epoch, z, makes_volumes = opened
    numbers = source.original_numbers(len(z))
    analysis = AnalysisResults(source, epoch)
    methods = _apply_methods(settings, z, numbers, analysis)
    if settings.conditions is not None:
        values = ParticleValues(source, epoch, z, labels=settings.labels)
        methods.append(by_conditions(read_conditions(settings.conditions), values))
    if settings.null is not None:
        methods.append(by_null(source.estimates(epoch)["null_probability"], settings.null))
    kept = kept_by_all(methods)
    selection = f"{kept.sum()} of {len(kept)} particles ({checksum(kept.tobytes())[:12]})"
    folder = settings.begin(
        source,
        epoch,
        "filter",
        found={"selection": selection},
        folder=source.results("filter"),
    )
    filter_report.write_selection(kept, numbers, folder, uids=source.uids())
    filter_report.write_overlaps(methods, kept, z, folder)
    filter_report.write_embedding_figure(kept, latent_plane(source, epoch, z), folder)
    images_error = filter_report.write_images(source, kept, numbers, folder)
    failures: list[str] = []
    if makes_volumes:
        from raydrgn.latent.mean_volumes import mean_volume

        means = {}
        with settings.pool(opened, executor) as pool:
            for name, members in (("kept", kept), ("dropped", ~kept)):
                mean, errors = mean_volume(pool, z[members], name=name, progress=progress)
                failures += errors
                if mean is not None:
                    means[name] = mean
        filter_report.write_mean_volumes(
            means, folder, pixel_size_angstrom=pool.pixel_size_angstrom
        )
    folder.finish()
    return FilterResult(
        folder=folder,
        epoch=epoch,
        numbers=numbers,
        kept=kept,
        methods=methods,
        images_error=images_error,
        failures=failures,
    )


def _apply_methods(
    settings: FilterSettings, z: "np.ndarray", numbers: "np.ndarray", analysis: "AnalysisResults"
) -> "list[Method]":
    """Return each of the chosen methods, with the particles that it keeps."""
    from raydrgn.clustering.clusters import mixture
    from raydrgn.io import cryodrgn
    from raydrgn.latent import filters

    found = []
    keep = whole_numbers(settings.keep_clusters, "--keep-clusters")
    drop = whole_numbers(settings.drop_clusters, "--drop-clusters")
    if keep or drop:
        labels = _labels(settings, numbers, analysis)
        found.append(filters.by_clusters(labels, keep=keep, drop=drop))
    if settings.gmm is not None:
        components = whole_numbers(settings.drop, "--drop")
        found.append(filters.by_mixture(mixture(z, settings.gmm), components, z))
    if settings.zscore is not None:
        found.append(filters.by_magnitude(z, settings.zscore))
    if settings.umap_polygon is not None:
        corners = filters.read_polygon(settings.umap_polygon)
        found.append(filters.by_region(analysis.require_umap(len(z)), corners))
    if settings.ind is not None:
        found.append(filters.by_selection(numbers, cryodrgn.read_indices(settings.ind)))
    return found


def _labels(
    settings: FilterSettings, numbers: "np.ndarray", analysis: "AnalysisResults"
) -> "np.ndarray":
    """Return the cluster of each particle: of k-means, or of the file given."""
    from raydrgn.latent.values import own_labels

    if settings.labels is None:
        return analysis.labels(settings.ksample, len(numbers))
    return own_labels(settings.labels, len(numbers), numbers)
