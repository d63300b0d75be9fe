"""Values of every particle by name: what particles are coloured and selected by.

``z0``, ``z1``, …; ``z_norm``, which is |z|, and ``z_score``, how many SD it is above the mean; of
latents of one dimension ``jitter``, a random height below their histogram; ``pc1``, …; ``umap1``
and ``umap2``, and ``kmeansK`` of `analyze`; ``original`` and ``particle``, the number in the
original set and the row; the columns of the particle table, with angles as ``rot_deg``,
``tilt_deg``, ``psi_deg`` and shifts as ``shift_x_angstrom``, ``shift_y_angstrom``; what a mixture
of factor analysers estimates; and ``COMMAND.COLUMN`` of tables with a row for each particle that
`landscape` and `occupancy` have made of the same epoch, in the run or beside it in its project;
``occupancy.class``, the class of `occupancy classes`. ``label`` is a file of the user's own.
"""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa

from raydrgn.clustering.embedding import PrincipalComponents, principal_components
from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.geometry.rotations import to_euler
from raydrgn.io import storage
from raydrgn.io.indices import read_labels
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.io.tables import read_parquet
from raydrgn.latent.command_results import CLASS_LABELS, CommandResults
from raydrgn.latent.own_labels import own_labels
from raydrgn.reporting.analysis_results import AnalysisResults, kmeans_folder
from raydrgn.reporting.latent_plane import random_heights
from raydrgn.run.latents_file import LatentSource
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

ANGLES = ("rot_deg", "tilt_deg", "psi_deg")
SHIFTS = ("shift_x_angstrom", "shift_y_angstrom")
LABEL = "label"
JITTER = "jitter"
UMAP = ("umap1", "umap2")
TRUTH = ("no", "yes")
"""Names of the values of a column of truth values."""

NO_NAME = "none"
"""Name of what a table leaves empty among texts and truth values."""

OCCUPANCY_CLASS = "occupancy.class"
"""Class of each particle by `occupancy classes`."""

NO_VALUES = {"particle", "original", "uid", "index", "volume"}
"""Columns that identify the particle of a row."""


@dataclass(frozen=True, slots=True)
class Values:
    """One value of each particle."""

    array: np.ndarray
    """Numbers; of names, the position of each in ``names``."""

    names: tuple[str, ...] = ()
    is_category: bool = False
    """Whether equal numbers mean the same cluster, class or name, and others are not near."""

    @property
    def is_truth(self) -> bool:
        """Whether the values are yes, 1, or no, 0."""
        return self.names == TRUTH

    def numbers(self) -> Float[np.ndarray, " n"]:
        """Return the values as float64."""
        return self.array.astype(np.float64)

    def code(self, value: int | str) -> int:
        """Return the number that stands for a value.

        Raises:
            ConfigError: If no particle has it.
        """
        if (self.names and not self.is_truth) or isinstance(value, str):
            if str(value) not in self.names:
                raise ConfigError(f"No particle has the value {value!r}.")
            return self.names.index(str(value))
        if not (self.array == value).any():
            raise ConfigError(f"No particle has the value {value}.")
        return value


class ParticleValues:
    """All that is known of the particles of an epoch, or of a file of latents, by column.

    Args:
        source: The run or file.
        epoch: Its epoch.
        z: Its latents.
        labels: File of a label of each particle, which become the column ``label``.
    """

    def __init__(
        self,
        source: LatentSource,
        epoch: int | None,
        z: Float[np.ndarray, "n zdim"],
        *,
        labels: Uri | None = None,
    ) -> None:
        self._source, self._epoch, self.z = source, epoch, z
        self._analysis = AnalysisResults(source, epoch)
        self._labels = labels
        self._made: dict[str, Values] = {}

    def __call__(self, name: str) -> Values:
        """Return a column.

        Raises:
            ConfigError: If there is none of this name; lists those there are.
            RaydrgnError: If it cannot be read.
        """
        if name not in self._made:
            make = self.columns.get(name)
            if name in UMAP and make is None:
                self._analysis.require_umap(len(self.z))
            if make is None:
                near = ", ".join(self.columns)
                raise ConfigError(f"There is no column {name!r} of particles; there are: {near}.")
            self._made[name] = make()
        return self._made[name]

    @cached_property
    def columns(self) -> dict[str, Callable[[], Values]]:
        """Each column by its name, as a function that returns it."""
        found: dict[str, Callable[[], Values]] = {}
        count, zdim = self.z.shape
        if zdim > 1 and self._analysis.umap(count) is not None:
            found |= {name: partial(self._umap, k) for k, name in enumerate(UMAP)}
        found |= {f"pc{k + 1}": partial(self._component, k) for k in range(min(count, zdim))}
        found |= {f"z{k}": partial(self._latent, k) for k in range(zdim)}
        if zdim == 1:
            found[JITTER] = lambda: Values(random_heights(self.z[:, 0]))
        found["z_norm"] = lambda: Values(self._norm)
        found["z_score"] = lambda: Values(_standardised(self._norm))
        for ksample in self._ksamples():
            found[kmeans_folder(ksample)] = partial(self._clusters, ksample)
        if self._labels is not None:
            found[LABEL] = partial(self._own_labels, self._labels)
        found |= {f"{name}": partial(_plain, v) for name, v in self._estimates().items()}
        found["original"] = lambda: Values(self.numbers)
        found["particle"] = lambda: Values(np.arange(count))
        found |= dict(self._particle_columns())
        found |= dict(self._result_columns())
        return found

    @cached_property
    def numbers(self) -> Int[np.ndarray, " n"]:
        """Number of each particle in the set before any selection."""
        return self._source.original_numbers(len(self.z))

    @cached_property
    def components(self) -> PrincipalComponents:
        """The latents along their principal components."""
        return principal_components(self.z)

    @cached_property
    def _embedding(self) -> Float[np.ndarray, "n 2"]:
        return self._analysis.require_umap(len(self.z))

    def _umap(self, axis: int) -> Values:
        return Values(self._embedding[:, axis])

    def _component(self, axis: int) -> Values:
        return Values(self.components.coordinates[:, axis].astype(np.float32))

    def _own_labels(self, uri: Uri) -> Values:
        particles = particles_of(self._source)
        found = own_labels(uri, len(self.z), self.numbers, particles=particles)
        return Values(found, is_category=True)

    def _latent(self, axis: int) -> Values:
        return Values(self.z[:, axis])

    @cached_property
    def _norm(self) -> Float[np.ndarray, " n"]:
        return np.asarray(np.linalg.norm(self.z.astype(np.float64), axis=1))

    def _clusters(self, ksample: int) -> Values:
        return Values(self._analysis.labels(ksample, len(self.z)), is_category=True)

    def _ksamples(self) -> list[int]:
        """Return the numbers of clusters of `analyze`, that of its latest results first."""
        if not self._analysis.is_current:
            return []
        latest = self._analysis.ksample()
        names = storage.list_names(self._analysis.folder.uri)
        found = {int(match[1]) for name in names if (match := re.fullmatch(r"kmeans(\d+)", name))}
        return sorted(found, key=lambda ksample: (ksample != latest, ksample))

    def _estimates(self) -> dict[str, np.ndarray]:
        if not isinstance(self._source, RunReader) or not self._source.is_mixture:
            return {}
        return self._source.estimates(self._epoch)

    def _particle_columns(self) -> Iterator[tuple[str, Callable[[], Values]]]:
        """Yield the columns of the particle table; none where it cannot be read."""
        if not isinstance(self._source, RunReader):
            return
        try:
            table = self._source.particles()
        except RaydrgnError as error:
            log.warning("The columns of the particles are not known: %s", error)
            return
        if len(table) != len(self.z):
            counts = f"{len(table):,} particles, not {len(self.z):,}"
            log.warning("%s has %s", self._source.root, counts)
            return
        if "rotation" in table.table.column_names:
            angles = partial(_euler, table)
            yield from ((name, partial(angles, axis)) for axis, name in enumerate(ANGLES))
        for name in table.table.column_names:
            column = table.table.column(name)
            if name == "shift_angstrom":
                shifts = table.column(name)
                yield from ((n, partial(_plain, shifts[:, k])) for k, n in enumerate(SHIFTS))
            elif name not in NO_VALUES and not pa.types.is_fixed_size_list(column.type):
                yield name, partial(_of_arrow, column)

    def _result_columns(self) -> Iterator[tuple[str, Callable[[], Values]]]:
        """Yield the columns of other commands' tables on the same epoch."""
        if not isinstance(self._source, RunReader):
            return
        results = CommandResults(self._source, self._epoch)
        for command, uri in results.tables():
            yield from self._table(command, uri)
        classes = results.classes()
        if classes is not None:
            yield OCCUPANCY_CLASS, partial(_occupancy_classes, classes.at(CLASS_LABELS))

    def _table(self, command: str, uri: Uri) -> Iterator[tuple[str, Callable[[], Values]]]:
        """Yield the columns of a table, if it has a row for each particle."""
        table = read_parquet(storage.read_bytes(uri), uri)
        count = len(self.z)
        if table.num_rows != count or "particle" not in table.column_names:
            return
        rows = table.column("particle").to_numpy()
        order = np.argsort(rows, kind="stable")
        if not np.array_equal(rows[order], np.arange(count)):
            return
        for name in table.column_names:
            column = table.column(name)
            is_latent = re.fullmatch(r"z\d+", name)
            if name not in NO_VALUES and not is_latent and not pa.types.is_nested(column.type):
                yield f"{command}.{name}", partial(_of_arrow, column, order)


def particles_of(source: LatentSource) -> ParticleTable | None:
    """Return the particles of a run, if they are known."""
    if not isinstance(source, RunReader):
        return None
    try:
        return source.particles()
    except RaydrgnError:
        return None


def _occupancy_classes(uri: Uri) -> Values:
    """Return the classes C1, C2, …; particles whose volume was not scored have none."""
    labels = read_labels(uri)
    names = (NO_NAME, *(f"C{number}" for number in range(1, int(labels.max()) + 1)))
    return Values(labels, names, is_category=True)


def _standardised(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return how many standard deviations each value is above the mean."""
    spread = max(float(values.std()), 1e-30)
    return np.asarray((values - values.mean()) / spread, dtype=np.float32)


def _plain(array: np.ndarray) -> Values:
    return Values(array)


def _euler(table: ParticleTable, axis: int) -> Values:
    return Values(to_euler(table.rotations)[:, axis].astype(np.float32))


def _of_arrow(column: pa.ChunkedArray, order: Int[np.ndarray, " n"] | None = None) -> Values:
    """Return a column of a table; texts and truth values are categories, and so are integers.

    What is empty is NaN among numbers, and a category of its own among texts and truth values.
    """
    kind = column.type
    if order is not None:
        column = column.take(pa.array(order))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        texts = column.cast(pa.string()).fill_null(NO_NAME)
        encoded = texts.combine_chunks().dictionary_encode()
        names = tuple(str(name) for name in encoded.dictionary.to_pylist())
        return Values(encoded.indices.to_numpy(zero_copy_only=False), names, is_category=True)
    if pa.types.is_boolean(kind):
        names = (*TRUTH, NO_NAME) if column.null_count else TRUTH
        codes = column.cast(pa.int64()).fill_null(len(TRUTH))
        return Values(codes.to_numpy(), names, is_category=True)
    array = column.combine_chunks().to_numpy(zero_copy_only=False)
    is_whole = pa.types.is_integer(kind) and not column.null_count
    is_class = is_whole and len(np.unique(array)) <= len(array) // 2
    return Values(array, is_category=is_class)
