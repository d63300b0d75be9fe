"""``plot``: the latent space coloured by any values or labels of the particles."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError, InputError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds, check_figure_name, whole_numbers
from raydrgn.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from raydrgn.comparison.labelings import Labeling
    from raydrgn.reporting.latent_plane import Plane
    from raydrgn.run.latents_file import LatentSource


@dataclass(frozen=True, kw_only=True)
class PlotSettings:
    """Settings of ``plot``."""

    run: Annotated[
        str,
        Setting("Run directory, of raydrgn or cryoDRGN, or a file of latents.", is_argument=True),
    ]

    epoch: Annotated[
        int | None,
        Setting("Epoch; the last finished one by default.", is_argument=True, project="epoch"),
    ] = None

    by: Annotated[
        str,
        Setting(
            "What colours the particles: a value, such as cluster, z_norm or defocus_u_angstrom; "
            "FILE or FILE:COLUMN of values or labels; clusters of another RUN or RUN:EPOCH; a "
            "folder of filter or occupancy classes."
        ),
    ]

    out: Annotated[str, Setting("Figure to write: .png, .svg or .pdf.", flags=("-o", "--out"))]

    density: Annotated[
        bool,
        Setting("Draw means of values over hexagons, or a density for each label, not dots."),
    ] = False

    pcs: Annotated[
        str | None,
        Setting(
            "Two principal components to draw on, such as 1,2; by default the UMAP, if there is. "
            "Latents of one dimension are drawn in their histogram.",
            is_list=True,
        ),
    ] = None

    ksample: Annotated[
        int | None, Setting("K of the k-means of analyze to use; the latest by default.", min=1)
    ] = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_figure_name(self.out)
        pcs = whole_numbers(self.pcs, "--pcs")
        if self.pcs is not None and (len(pcs) != 2 or min(pcs) < 1 or pcs[0] == pcs[1]):
            raise ConfigError(f"--pcs takes two different components from 1; got {self.pcs!r}.")


@dataclass(frozen=True, kw_only=True)
class PlotResult:
    """A figure, and what it shows."""

    figure: "Figure"
    xy: "np.ndarray"
    """Where the particles are drawn, (n, 2)."""

    out: str
    num_particles: int
    num_coloured: int
    """Particles that have a value or a label."""


def run(
    settings: PlotSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> PlotResult:
    """Draw the particles of an epoch, coloured by values or labels.

    Raises:
        RaydrgnError: If the run, the values or the components do not allow it.
    """
    import numpy as np

    from raydrgn.reporting import latent_figures
    from raydrgn.reporting.figures import write_figure
    from raydrgn.run.latents_file import open_latents

    source = open_latents(settings.run)
    epoch = source.epoch(settings.epoch, latents_only=True)
    z = source.finite_latents(epoch)
    axes, xy = _plane(settings, source, epoch, z)
    values, names, title = _colours(settings, source, epoch, z)
    if names is None:
        draw = latent_figures.mean_values if settings.density else latent_figures.by_values
        figure = draw(axes, xy, values, title)
        coloured = int(np.isfinite(values).sum())
    else:
        paint = latent_figures.label_densities if settings.density else latent_figures.by_labels
        figure = paint(axes, xy, values, names, title)
        coloured = int((values >= 0).sum())
    write_figure(settings.out, figure)
    return PlotResult(
        figure=figure, xy=xy, out=settings.out, num_particles=len(z), num_coloured=coloured
    )


def _plane(
    settings: PlotSettings, source: "LatentSource", epoch: int | None, z: "np.ndarray"
) -> "Plane":
    """Return the axes that particles are drawn on, and where they are."""
    from raydrgn.clustering.embedding import principal_components
    from raydrgn.reporting.latent_plane import latent_plane, line_as_plane

    if settings.pcs is None:
        return latent_plane(source, epoch, z) or line_as_plane(z[:, :1])
    first, second = whole_numbers(settings.pcs, "--pcs")
    if max(first, second) > min(z.shape):
        raise ConfigError(
            f"--pcs {settings.pcs}: the latents of {counted(len(z), 'particle')} have "
            f"{counted(min(z.shape), 'component')}."
        )
    coordinates = principal_components(z).coordinates
    return (f"PC {first}", f"PC {second}"), coordinates[:, [first - 1, second - 1]]


def _colours(
    settings: PlotSettings, source: "LatentSource", epoch: int | None, z: "np.ndarray"
) -> "tuple[np.ndarray, tuple[str, ...] | None, str]":
    """Return values and None, or the label of each particle (−1: none) and names of the labels.

    The third is what they are, in words.
    """
    from raydrgn.comparison.sources import LABELS, open_labeling, open_values
    from raydrgn.latent.column_words import column_in_words
    from raydrgn.latent.numeric_values import NumericValues
    from raydrgn.latent.values import ParticleValues
    from raydrgn.reporting.analysis_results import AnalysisResults

    numbers = source.original_numbers(len(z))
    if settings.by == "cluster":
        analysis = AnalysisResults(source, epoch)
        count = settings.ksample or analysis.ksample()
        return analysis.labels(count, len(z)), tuple(map(str, range(count))), f"k-means of {count}"
    values_of = ParticleValues(source, epoch, z)
    known = NumericValues(values_of)
    if settings.by in known and (named := values_of(settings.by)).names and not named.is_truth:
        return named.array, named.names, column_in_words(settings.by)
    if settings.by in known:
        values = known[settings.by]
        _require_known(values, settings.by)
        return values, None, column_in_words(settings.by)
    own = _own(settings, source, numbers)
    try:
        other = open_labeling(settings.by, ksample=settings.ksample)
    except InputError as error:
        found = open_values(settings.by, own)
        if found is None:
            listed = ", ".join(["cluster", *known])
            raise InputError(f"--by {settings.by}: {error} Values there are: {listed}.") from error
        _require_known(found.values, settings.by)
        return found.values, None, _title(settings.by, found.column)
    title = _title(settings.by, other.column)
    if other.kind != LABELS:
        title += f" ({other.kind})"
    return _matched(own, other), other.names, title


def _title(by: str, column: str | None) -> str:
    """Return what a file's values are in words: the column, if it has several, and the file."""
    from raydrgn.latent.column_words import column_in_words

    if column is None:
        return PurePath(by).name
    file = PurePath(by.removesuffix(f":{column}")).name
    return f"{column_in_words(column)}, {file}"


def _require_known(values: "np.ndarray", by: str) -> None:
    """Refuse values of which no particle has one.

    Raises:
        InputError: If none has.
    """
    import numpy as np

    if not np.isfinite(values).any():
        raise InputError(f"{by} is not known of any particle.")


def _own(settings: PlotSettings, source: "LatentSource", numbers: "np.ndarray") -> "Labeling":
    """Return the particles of the run as a labeling, to match others with."""
    import numpy as np

    from raydrgn.comparison.labelings import Labeling
    from raydrgn.run.reader import RunReader

    codes = np.zeros(len(numbers), dtype=np.int64)
    run = source.root if isinstance(source, RunReader) else None
    return Labeling(
        name=settings.run, kind="run", names=("",), codes=codes, numbers=numbers, run=run
    )


def _matched(own: "Labeling", other: "Labeling") -> "np.ndarray":
    """Return the label of each of the run's particles; −1 where the other does not have it."""
    import numpy as np

    from raydrgn.comparison.labelings import matching_rows
    from raydrgn.comparison.sources import matched

    _, found = matched([own, other])
    rows = matching_rows(own, found)
    return np.where(rows >= 0, found.codes[rows], -1)
