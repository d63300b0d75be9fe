"""Which volumes are scored: maps of a folder, or latents of a run with their particles."""

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from raydrgn.clustering.clusters import SEED, k_means
from raydrgn.decoding.latent_input import latents_of_file, read_latent_table
from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.mrc import read_header, read_volume
from raydrgn.io.storage import Uri
from raydrgn.io.tables import read_csv_rows
from raydrgn.occupancy.subunits import MASK_PREFIX, SubunitSet
from raydrgn.run.reader import RunReader
from raydrgn.settings import MAP_SUFFIXES
from raydrgn.shapes import Float, Int

CLUSTERS_OF_ALL = 20
"""Clusters of the particles where every particle is scored: those of `analyze`."""

SAMPLES = 8
"""Volumes that are compared with the model before scoring."""

THRESHOLD_COLUMNS = ("vol_id", "denormalized_predictions")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredVolumes:
    """Volumes to score: files, or latents to decode."""

    names: tuple[str, ...]
    uris: tuple[Uri, ...] = ()
    """Maps to read; none where volumes are decoded."""

    z: Float[np.ndarray, "n zdim"] | None = None
    particles: Int[np.ndarray, " n"] | None = None
    """Particle whose latent each volume has, as a row of the run."""

    original: Int[np.ndarray, " n"] | None = None
    """Number of that particle in the original set."""

    clusters: Int[np.ndarray, " n"] | None = None
    labels: Int[np.ndarray, " particles"] | None = None
    """Cluster of every particle of the run, where volumes stand for clusters."""

    def keys(self) -> list[str]:
        """Return what identifies the content of each volume.

        Maps by name, size and time of change; latents by name, since the result folder knows the
        epoch and the latents that they are.
        """
        return map_keys(self.uris) if self.uris else list(self.names)

    def latents(self) -> Float[np.ndarray, "n zdim"]:
        """Return the latents to decode."""
        assert self.z is not None, "maps are read, not decoded"
        return self.z


def map_keys(uris: Sequence[Uri]) -> list[str]:
    """Return name, size and time of change of maps."""
    return [f"{uri} {storage.stamp(uri)}" for uri in uris]


def maps_of_folder(folder: Uri) -> dict[str, Uri]:
    """Return the maps of a folder by number, or by name where not each has a number of its own.

    Raises:
        InputError: If there is no map.
    """
    if not storage.is_folder(folder):
        raise InputError(f"{folder} is not a folder of volumes.")
    folder = storage.absolute(folder)
    files = [
        name
        for name in storage.list_names(folder)
        if PurePosixPath(name).suffix in MAP_SUFFIXES and not name.startswith(MASK_PREFIX)
    ]
    if not files:
        raise InputError(f"{folder} contains no map (.mrc or .map).")
    names = _numbers([PurePosixPath(name).stem for name in files])
    width = max(map(len, names))
    order = sorted(
        range(len(files)), key=lambda i: names[i].rjust(width if names[i].isdigit() else 0)
    )
    return {names[i]: storage.join(folder, files[i]) for i in order}


def volumes_of_folder(folder: Uri, subunits: SubunitSet) -> ScoredVolumes:
    """Return the maps of a folder, by number; latents from ``z_values.txt`` where it is there.

    Raises:
        InputError: If there is no map, or one is not on the grid of the masks.
    """
    maps = maps_of_folder(folder)
    for uri in maps.values():
        header = read_header(uri)
        depth, height, width = header.shape
        if not depth == height == width:
            raise InputError(f"{uri} has shape {header.shape}; a map must be a cube.")
        subunits.check_grid(width, header.pixel_size_angstrom, what=uri)
    latents, z_values = None, storage.join(storage.absolute(folder), "z_values.txt")
    if storage.exists(z_values):
        table = read_latent_table(z_values)
        if len(table) == len(maps) and all(name.isdigit() for name in maps):
            numbers = np.array([int(name) for name in maps])
            latents = table[numbers].astype(np.float32) if numbers.max() < len(table) else None
    return ScoredVolumes(names=tuple(maps), uris=tuple(maps.values()), z=latents)


def _numbers(stems: Sequence[str]) -> list[str]:
    """Return the number in each name, as MAVEn does; the names where not each has its own number.

    The last number of a name counts, without leading zeros.
    """
    numbers = [_number(stem) for stem in stems]
    distinct = {number for number in numbers if number is not None}
    if len(distinct) < len(stems):
        return list(stems)
    return [number for number in numbers if number is not None]


def _number(text: str) -> str | None:
    found = re.findall(r"\d+", text)
    return str(int(found[-1])) if found else None


def volumes_of_run(
    run: RunReader,
    epoch: int | None,
    *,
    all_particles: bool = False,
    ksample: int | None = None,
    z_file: Uri | None = None,
) -> ScoredVolumes:
    """Return the volumes of all particles, of k-means clusters, or of the latents of a file.

    Raises:
        RaydrgnError: If the run or the file has no such latents.
    """
    if all_particles:
        return _volumes_of_particles(run, epoch)
    if ksample is not None:
        return _volumes_of_clusters(run, epoch, ksample)
    if z_file is None:
        raise ConfigError("Choose the volumes with one of --all, --ksample and --z-file.")
    z = latents_of_file(run, z_file)
    return ScoredVolumes(names=_counted(len(z)), z=z)


def _volumes_of_clusters(run: RunReader, epoch: int | None, count: int) -> ScoredVolumes:
    """Return the on-data centres of k-means clusters: the volumes that `analyze` makes."""
    z = run.finite_latents(epoch)
    clusters = k_means(z, count, seed=SEED)
    return ScoredVolumes(
        names=_counted(count),
        z=z[clusters.rows],
        particles=clusters.rows,
        original=run.original_numbers(len(z))[clusters.rows],
        clusters=np.arange(count),
        labels=clusters.labels,
    )


def _volumes_of_particles(run: RunReader, epoch: int | None) -> ScoredVolumes:
    """Return the latent of every particle of a run, with its cluster."""
    z = run.finite_latents(epoch)
    labels = k_means(z, min(CLUSTERS_OF_ALL, len(np.unique(z, axis=0))), seed=SEED).labels
    return ScoredVolumes(
        names=_counted(len(z)),
        z=z,
        particles=np.arange(len(z)),
        original=run.original_numbers(len(z)),
        clusters=labels,
    )


def _counted(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def sample_rows(count: int) -> Int[np.ndarray, " k"]:
    """Return a few volumes, evenly spaced in the list, to compare with the model."""
    return np.unique(np.linspace(0, count - 1, SAMPLES).astype(np.int64))


def read_samples(volumes: ScoredVolumes) -> Float[np.ndarray, "k d d d"]:
    """Return a few maps; those that cannot be read are reported when they are scored."""
    found = []
    for row in sample_rows(len(volumes.uris)):
        with contextlib.suppress(InputError):
            found.append(read_volume(volumes.uris[row])[0])
    return np.stack(found) if found else np.empty((0, 1, 1, 1), dtype=np.float32)


def read_thresholds(text: str | None, names: Sequence[str]) -> Float[np.ndarray, " n"] | None:
    """Return the density from which a voxel counts, for each volume; None if maps stay as they are.

    Args:
        text: One number for all, or SIREn's CSV file with the columns ``vol_id`` and
            ``denormalized_predictions``.
        names: Names of the volumes.

    Raises:
        ConfigError: If the text is neither a number nor a file.
        InputError: If the file lacks a column or a volume.
    """
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        number = float(text)
        if math.isfinite(number):
            return np.full(len(names), number)
    if not storage.exists(text):
        raise ConfigError(f"--binarize {text} is neither a finite number nor a file that exists.")
    head, *rows = read_csv_rows(text, wanted="a CSV file of thresholds") or [[]]
    key, value = THRESHOLD_COLUMNS
    if not any(rows) or not {key, value} <= set(head):
        raise InputError(f"{text} should be a CSV file with the columns {key} and {value}.")
    found = {}
    for line, cells in enumerate(rows, start=2):
        if not cells:
            continue
        row = dict(zip(head, cells, strict=False))
        if not row.get(key):
            raise InputError(f"{text}, line {line}: the column {key} is empty.")
        name, given = PurePosixPath(row[key]).stem, row.get(value, "")
        try:
            threshold = float(given)
        except ValueError:
            threshold = math.nan
        if not math.isfinite(threshold):
            raise InputError(f"{text}, line {line}: {given!r} is not a number.")
        found[name] = threshold
        found.setdefault(_number(name) or name, threshold)
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{text} has no threshold of volume {missing[0]}, and of {len(missing) - 1} others."
            if len(missing) > 1
            else f"{text} has no threshold of volume {missing[0]}."
        )
    return np.array([found[name] for name in names])


def thresholds_in_box(
    thresholds: Float[np.ndarray, " n"], *, old: int, box: int
) -> Float[np.ndarray, " n"]:
    """Return the densities in another box that correspond to those in the old one.

    A volume in another box keeps the sum of its voxels (``raydrgn.fourier.resample``): its mean is
    multiplied by (old / box)³.
    """
    return thresholds * (old / box) ** 3
