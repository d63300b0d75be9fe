"""The table of occupancies: volumes × subunits, with the particle, latent and cluster of each.

``occupancies.csv`` has MAVEn's layout: two rows of head (PDB and Chain), then a row per volume.
``occupancies.parquet`` has a row per volume with the columns ``volume``, ``particle`` (its row in
the run), ``original`` (its number in the original set), ``cluster`` and ``z0``, ``z1``, …, where
they are known, and one for each subunit.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.io.tables import read_csv_rows, read_parquet
from raydrgn.shapes import Float, Int

CSV_NAME, PARQUET_NAME = "occupancies.csv", "occupancies.parquet"
LISTED_SUBUNITS = 12
"""Subunits that a message names at most."""

NO_MODEL = "-"
"""Cell of the CSV where a subunit is not a chain of a named model; readers expect no empty one."""

_KEY, _SOURCE_KEY = "raydrgn.subunits", "raydrgn.source"
_CHAIN = re.compile(r"(?P<model>.+)_chain(?P<chain>.+)")
_RESERVED = re.compile(r"volume|particle|original|cluster|z\d+")


@dataclass(frozen=True, kw_only=True, slots=True)
class OccupancyTable:
    """Occupancies of subunits in volumes.

    Raises:
        InputError: If lengths differ, a name occurs twice, or a subunit has the name of another
            column of the files.
    """

    volumes: tuple[str, ...]
    """Name of each volume: its number as text, where it has one."""

    subunits: tuple[str, ...]
    """Name of each subunit; ``MODEL_chainC`` is chain C of a model."""

    values: Float[np.ndarray, "volumes subunits"]
    """Occupancies, float64."""

    particles: Int[np.ndarray, " volumes"] | None = None
    """Particle whose latent a volume has, as a row of the run."""

    original: Int[np.ndarray, " volumes"] | None = None
    """Number of that particle in the original set."""

    latents: Float[np.ndarray, "volumes zdim"] | None = None
    """Latent of each volume."""

    clusters: Int[np.ndarray, " volumes"] | None = None
    """Cluster of latents that each volume stands for, or that its particle belongs to."""

    source: str = ""
    """Checksum of the list of volumes that was scored; empty if it is not known."""

    def __post_init__(self) -> None:
        _check_distinct("volume", self.volumes)
        check_subunit_names(self.subunits)
        lengths = [len(self.values), *(len(c) for c in self._columns() if c is not None)]
        if {*lengths} != {len(self.volumes)} or self.values.shape[1] != len(self.subunits):
            raise InputError(
                f"Occupancies of shape {self.values.shape} do not fit {len(self.volumes)} volumes "
                f"and {len(self.subunits)} subunits."
            )

    def _columns(self) -> tuple[np.ndarray | None, ...]:
        return self.particles, self.original, self.latents, self.clusters

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def labels(self) -> tuple[str, ...]:
        """Short names of the subunits."""
        return short_names(self.subunits)

    def checksum(self) -> str:
        """Return a checksum of the occupancies with the names of volumes and subunits."""
        names = json.dumps([self.volumes, self.subunits]).encode()
        return storage.checksum(names + self.values.astype(np.float64).tobytes())

    def select(self, rows: Int[np.ndarray, " k"]) -> "OccupancyTable":
        """Return some of the volumes, in this order."""
        particles, original, latents, clusters = (
            None if column is None else column[rows] for column in self._columns()
        )
        return OccupancyTable(
            volumes=tuple(self.volumes[row] for row in rows),
            subunits=self.subunits,
            values=self.values[rows],
            particles=particles,
            original=original,
            latents=latents,
            clusters=clusters,
            source=self.source,
        )

    def rows_of(self, numbers: Int[np.ndarray, " q"], uri: Uri) -> Int[np.ndarray, " k"]:
        """Return the volumes of particles with these numbers in the original set.

        Args:
            numbers: Numbers of particles.
            uri: Their file, for messages.

        Raises:
            InputError: If it is not known of which particles the volumes are, or there are fewer
                than two.
        """
        if self.original is None:
            raise InputError(
                f"{uri} chooses particles, but the table has no numbers of particles: its volumes "
                "are maps, or were scored by another program."
            )
        rows = np.flatnonzero(np.isin(self.original, numbers))
        if len(rows) < 2:
            raise InputError(
                f"{uri} has the particles of {len(rows)} volumes of the table; two or more are "
                "needed to cluster them. Numbers count from 0 in the original set."
            )
        return rows

    def without(self, omitted: Sequence[str]) -> "OccupancyTable":
        """Return the table without some subunits, given by whole or short name.

        Raises:
            ConfigError: If one is not in the table, or none is left.
        """
        columns = {
            name: i for names in (self.labels, self.subunits) for i, name in enumerate(names)
        }
        unknown = [name for name in omitted if name not in columns]
        if unknown:
            more = " …" if len(self.subunits) > LISTED_SUBUNITS else ""
            raise ConfigError(
                f"--omit {unknown[0]}: the table has no subunit of this name. It has "
                f"{', '.join(self.labels[:LISTED_SUBUNITS])}{more}."
            )
        left = sorted(set(range(len(self.subunits))) - {columns[name] for name in omitted})
        if not left:
            raise ConfigError("--omit leaves no subunit.")
        subunits = tuple(self.subunits[i] for i in left)
        return replace(self, subunits=subunits, values=self.values[:, left])

    def write(self, folder: Uri) -> None:
        """Write ``occupancies.csv`` and ``occupancies.parquet``."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        heads = [split_name(name) for name in self.subunits]
        writer.writerow(["PDB", *(model for model, _ in heads)])
        writer.writerow(["Chain", *(chain for _, chain in heads)])
        for name, row in zip(self.volumes, self.values.tolist(), strict=True):
            writer.writerow([name, *row])  # all digits, as Python writes them
        storage.write_bytes(storage.join(folder, CSV_NAME), text.getvalue().encode())
        columns: dict[str, Any] = {"volume": list(self.volumes)}
        if self.particles is not None:
            columns["particle"] = self.particles.astype(np.int64)
        if self.original is not None:
            columns["original"] = self.original.astype(np.int64)
        if self.clusters is not None:
            columns["cluster"] = self.clusters.astype(np.int32)
        if self.latents is not None:
            columns |= {f"z{i}": c.astype(np.float32) for i, c in enumerate(self.latents.T)}
        columns |= {
            name: self.values[:, i].astype(np.float64) for i, name in enumerate(self.subunits)
        }
        table = pa.table(columns).replace_schema_metadata(
            {_KEY: json.dumps(self.subunits), _SOURCE_KEY: self.source}
        )
        with storage.atomic_write(storage.join(folder, PARQUET_NAME)) as stream:
            pq.write_table(table, stream, write_page_checksum=True)

    @classmethod
    def read(cls, uri: Uri) -> "OccupancyTable":
        """Read the folder of ``occupancy score``, a file of it, or MAVEn's CSV.

        In place of ``occupancies.csv`` the Parquet file beside it is read if it has the same
        occupancies, since it has the latents and particles of the volumes too.

        Raises:
            InputError: If there is no such table; names the file.
        """
        if storage.is_folder(uri):
            names = storage.list_names(uri)
            found = next((name for name in (PARQUET_NAME, CSV_NAME) if name in names), None)
            if found is None:
                raise InputError(f"{uri} contains no {PARQUET_NAME}. {_remedy(uri, names)}")
            uri = storage.join(uri, found)
        if not uri.endswith(".csv"):
            return _read_parquet(uri)
        table, beside = _read_csv(uri), storage.join(storage.parent(uri), PARQUET_NAME)
        if uri.rsplit("/", 1)[-1] == CSV_NAME and storage.exists(beside):
            whole = _read_parquet(beside)
            return whole if whole.checksum() == table.checksum() else table
        return table


def _remedy(folder: Uri, names: Sequence[str]) -> str:
    """Return which folder to give instead: a run has its occupancies in folders of their own."""
    inner = [storage.join(folder, name) for name in names if name.startswith("occupancy")]
    scored = [uri for uri in inner if storage.exists(storage.join(uri, PARQUET_NAME))]
    if scored:
        return f"Give a folder that does: {', '.join(scored)}."
    return "Make it with `raydrgn occupancy score`."


def check_subunit_names(names: Sequence[str]) -> None:
    """Refuse names that occur twice, or that columns of a table cannot have.

    Raises:
        InputError: Naming the subunit.
    """
    _check_distinct("subunit", names)
    for name in names:
        if _RESERVED.fullmatch(name):
            raise InputError(
                f"A subunit cannot be named {name!r}: the table has another column of that name."
            )


def _check_distinct(kind: str, names: Sequence[str]) -> None:
    [(name, count)] = Counter(names).most_common(1) or [("", 0)]
    if count > 1:
        raise InputError(f"There are two {kind}s named {name!r}. Rename one of them.")


def short_names(subunits: tuple[str, ...]) -> tuple[str, ...]:
    """Return names for figures: only the chain where all are chains of one model."""
    parts = [split_name(name) for name in subunits]
    return tuple(c for _, c in parts) if len({m for m, _ in parts}) == 1 else subunits


def split_name(subunit: str) -> tuple[str, str]:
    """Return model and chain of a subunit's name, as MAVEn's head has them."""
    match = _CHAIN.fullmatch(subunit)
    return (match["model"], match["chain"]) if match else (NO_MODEL, subunit)


def _join_name(model: str, chain: str) -> str:
    return chain if model in (NO_MODEL, "") else f"{model}_chain{chain}"


def _read_parquet(uri: Uri) -> OccupancyTable:
    table = read_parquet(storage.read_bytes(uri), uri)
    metadata = table.schema.metadata or {}
    if _KEY.encode() not in metadata:
        raise InputError(f"{uri} is not a table of occupancies that raydrgn wrote.")
    subunits = tuple(json.loads(metadata[_KEY.encode()]))
    missing = sorted({"volume", *subunits}.difference(table.column_names))
    if missing:
        raise InputError(f"{uri} has no column {missing[0]!r}; write it again.")
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "volume"}
    if "particle" in columns and "original" not in columns:  # earlier versions had no rows
        columns["original"] = columns.pop("particle")
    axes = [name for name in table.column_names if re.fullmatch(r"z\d+", name)]
    return OccupancyTable(
        volumes=tuple(table["volume"].to_pylist()),
        subunits=subunits,
        values=np.stack([columns[name] for name in subunits], axis=1),
        particles=columns.get("particle"),
        original=columns.get("original"),
        latents=np.stack([columns[name] for name in axes], axis=1) if axes else None,
        clusters=columns.get("cluster"),
        source=metadata.get(_SOURCE_KEY.encode(), b"").decode(),
    )


def _read_csv(uri: Uri) -> OccupancyTable:
    lines = read_csv_rows(uri, wanted="a table of occupancies")
    rows = [(number, line) for number, line in enumerate(lines, 1) if any(line)]
    if len(rows) < 3 or rows[0][1][0] != "PDB" or rows[1][1][0] != "Chain":
        raise InputError(
            f"{uri} is not a table of occupancies: it should have a row PDB, a row Chain, and then "
            "a row for each volume."
        )
    width = len(rows[0][1])
    values = []
    for number, line in rows:
        if len(line) != width:
            raise InputError(
                f"{uri}, line {number}: it has {len(line):,} cells, but the first row has {width}."
            )
    for number, line in rows[2:]:
        try:
            values.append([float(cell) for cell in line[1:]])
        except ValueError as error:
            raise InputError(f"{uri}, line {number}: {error}.") from error
    return OccupancyTable(
        volumes=tuple(line[0] for _, line in rows[2:]),
        subunits=tuple(
            _join_name(m, c) for m, c in zip(rows[0][1][1:], rows[1][1][1:], strict=True)
        ),
        values=np.array(values),
    )
