"""ParticleTable: the one record of a data set, a row per particle image.

Every reader makes one, every command takes one, and exports write from it, so that a filtered
selection keeps its link to the original rows, optics groups and ids.

Columns: ``index`` (row in the original, unfiltered set), ``stack`` (absolute path or URL),
``slice`` (from 0), ``box`` (pixels); and, where known, ``rotation`` (9, row-major),
``shift_angstrom`` (x, y), ``pixel_size_angstrom`` (of the stored images), the seven columns of
``CTF_COLUMNS``, ``optics_group`` and cryoSPARC's ``uid``; and, where it is not as in a raw image,
``phase_flipped``, ``ctf_premultiplied``, ``beam_tilt_x_mrad`` and ``beam_tilt_y_mrad``; and
``half``, 1 or 2, where a refinement had halves. Particles that a mixture of factor analysers has
refined have ``contrast`` and ``null_probability`` as well.
"""

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.particle_checks import RowError, check_values, values_of
from raydrgn.io.row_numbers import chosen_rows
from raydrgn.io.storage import Uri
from raydrgn.io.tables import read_parquet
from raydrgn.shapes import Float, Int
from raydrgn.wording import counted

FORMAT_VERSION = 1

CTF_COLUMNS = (
    "defocus_u_angstrom",
    "defocus_v_angstrom",
    "defocus_angle_deg",
    "voltage_kv",
    "spherical_aberration_mm",
    "amplitude_contrast",
    "phase_shift_deg",
)

TILT_COLUMNS = ("beam_tilt_x_mrad", "beam_tilt_y_mrad")

_TYPES: dict[str, pa.DataType] = {
    "index": pa.int64(),
    "stack": pa.dictionary(pa.int32(), pa.string()),
    "slice": pa.int64(),
    "box": pa.int32(),
    "rotation": pa.list_(pa.float32(), 9),
    "shift_angstrom": pa.list_(pa.float32(), 2),
    "pixel_size_angstrom": pa.float32(),
    **dict.fromkeys(CTF_COLUMNS, pa.float32()),
    "phase_flipped": pa.bool_(),
    "ctf_premultiplied": pa.bool_(),
    "beam_tilt_x_mrad": pa.float32(),
    "beam_tilt_y_mrad": pa.float32(),
    "half": pa.int8(),
    "contrast": pa.float32(),
    "null_probability": pa.float32(),
    "optics_group": pa.string(),
    "uid": pa.uint64(),
}

POSES_FROM = "poses_from"
"""Of the metadata of a table: the run that has refined its poses."""


class NoParticlesError(InputError):
    """A particle file lists no particles."""

    def __init__(self, source: str) -> None:
        super().__init__(
            f"{source} lists no particles; the selection that it was made by may have been empty."
        )


@dataclass(frozen=True, eq=False)
class ParticleTable:
    """One row per particle image, checked once here and trusted everywhere above."""

    table: pa.Table
    """The columns named above, in their types."""

    def __post_init__(self) -> None:
        for name in ("index", "stack", "slice", "box"):
            if name not in self.column_names:
                raise InputError(f"A particle table needs the column {name!r}.")
        check_values(self.table)

    def __repr__(self) -> str:
        boxes = ", ".join(map(str, np.unique(self.column("box"))))
        box = f", {'boxes' if ',' in boxes else 'box'} {boxes} px" if boxes else ""
        columns = ", ".join(self.column_names)
        return f"ParticleTable({counted(len(self), 'particle')}{box};\n  columns: {columns})"

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None
    ) -> "ParticleTable":
        """Build from NumPy arrays or lists.

        Raises:
            InputError: If a column has another number of rows than the rest, is unknown or
                contains what it must not.
        """
        if "index" not in columns:
            raise InputError("A particle table needs the column 'index'.")
        count = len(columns["index"])
        arrays: dict[str, pa.Array] = {}
        for name, values in columns.items():
            if name not in _TYPES:
                raise InputError(f"Unknown particle column {name!r}; known: {', '.join(_TYPES)}.")
            if len(values) != count:
                raise InputError(
                    f"Column {name} has {len(values):,} rows, but there are {count:,} particles."
                )
            try:
                arrays[name] = _to_arrow(values, _TYPES[name])
            except UnicodeEncodeError as error:
                raise _not_utf8(error) from error
            except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                raise InputError(
                    f"Column {name} does not hold {_TYPES[name]}: {str(error).rstrip('.')}."
                ) from error
        table = pa.table(arrays)
        try:
            table = table.replace_schema_metadata(dict(metadata) if metadata else None)
        except UnicodeEncodeError as error:
            raise _not_utf8(error) from error
        return cls(table)

    @property
    def column_names(self) -> list[str]:
        """Names of the columns; which there can be is listed at the head of this module."""
        return list(self.table.column_names)

    @property
    def has_poses(self) -> bool:
        """Whether every particle has a rotation and a shift."""
        return {"rotation", "shift_angstrom"} <= set(self.column_names)

    @property
    def has_ctf(self) -> bool:
        """Whether every particle has contrast transfer parameters and a pixel size."""
        return {*CTF_COLUMNS, "pixel_size_angstrom"} <= set(self.column_names)

    def column(self, name: str) -> np.ndarray:
        """Return a column of numbers; one row per particle.

        Raises:
            InputError: If the table has no such column.
        """
        if name not in self.column_names:
            raise InputError(f"The particles have no column {name!r}.")
        return values_of(self.table.column(name))

    @cached_property
    def rotations(self) -> Float[np.ndarray, "n 3 3"]:
        """Rotation of each particle, volume frame to image frame."""
        return self.column("rotation").reshape(-1, 3, 3)

    @cached_property
    def stacks(self) -> list[Uri]:
        """Stacks of these particles, in the order in which those of the original set appear."""
        return [str(uri) for uri in self._stack_column.dictionary.to_pylist()]

    @cached_property
    def stack_codes(self) -> Int[np.ndarray, " n"]:
        """Position in ``stacks`` of each particle's stack."""
        return self._stack_column.indices.to_numpy(zero_copy_only=False)

    @cached_property
    def _stack_column(self) -> pa.DictionaryArray:
        column = self.table.column("stack").unify_dictionaries().combine_chunks()
        used, codes = np.unique(column.indices.to_numpy(zero_copy_only=False), return_inverse=True)
        if len(used) == len(column.dictionary):
            return column
        return pa.DictionaryArray.from_arrays(
            pa.array(codes, type=pa.int32()), column.dictionary.take(pa.array(used))
        )

    @property
    def metadata(self) -> dict[str, str]:
        """Where the table comes from: ``source``, the file it was read from, if it was."""
        found = self.table.schema.metadata or {}
        return {key.decode(): value.decode() for key, value in found.items()}

    def single_box(self) -> int:
        """Return the box of all images in pixels.

        Raises:
            InputError: If the images differ in size, or their box is odd.
        """
        boxes = np.unique(self.column("box"))
        if len(boxes) != 1:
            raise InputError(
                f"The images differ in size: {self.listed_boxes()}. `raydrgn downsample` brings "
                "them to one box and field of view."
            )
        if boxes[0] % 2:
            raise InputError(
                f"The images have an odd box of {boxes[0]} px; `raydrgn downsample` makes it even."
            )
        return int(boxes[0])

    def listed_boxes(self) -> str:
        """Return how many particles have which box, by optics group where these are known."""
        has_groups = "optics_group" in self.column_names
        boxes = self.column("box").tolist()
        found = sorted(Counter(zip(self.optics_groups(), boxes, strict=True)).items())
        return ", ".join(
            (f"optics group {group}: " if has_groups else "") + f"{count:,} of {box} px"
            for (group, box), count in found
        )

    def optics_groups(self) -> list[str]:
        """Return the optics group of each particle; one without a name where none are known."""
        if "optics_group" not in self.column_names:
            return [""] * len(self)
        return [name or "" for name in self.table.column("optics_group").to_pylist()]

    def select(self, rows: ArrayLike) -> "ParticleTable":
        """Return some rows in the order given; ``index`` keeps pointing at the original set."""
        return ParticleTable(self.table.take(pa.array(chosen_rows(rows, len(self)))))

    def slice_rows(self, start: int, stop: int) -> "ParticleTable":
        """Return consecutive rows."""
        return ParticleTable(self.table.slice(start, stop - start))

    def with_columns(self, columns: Mapping[str, Any]) -> "ParticleTable":
        """Return the table with columns added or replaced."""
        old = {name: self.table.column(name) for name in self.column_names}
        return ParticleTable.from_columns({**old, **columns}, metadata=self.metadata)

    def with_metadata(self, name: str, value: str | None) -> "ParticleTable":
        """Return the table with a value of its metadata set, or without it; selections keep it."""
        metadata = {key: kept for key, kept in self.metadata.items() if key != name}
        if value is not None:
            metadata[name] = value
        return ParticleTable(self.table.replace_schema_metadata(metadata or None))

    def to_bytes(self) -> bytes:
        """Return the table as a Parquet file, with the version of the layout."""
        metadata = {**self.metadata, "raydrgn.particles": str(FORMAT_VERSION)}
        stream = io.BytesIO()
        pq.write_table(
            self.table.replace_schema_metadata(metadata), stream, write_page_checksum=True
        )
        return stream.getvalue()

    def write(self, uri: Uri) -> None:
        """Write as Parquet."""
        storage.write_bytes(uri, self.to_bytes())

    @classmethod
    def read(cls, uri: Uri) -> "ParticleTable":
        """Read what ``write`` wrote.

        Raises:
            InputError: If the file is not a particle table, or of a later version.
        """
        table = read_parquet(storage.read_bytes(uri), uri)
        raw = table.schema.metadata or {}
        metadata = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in raw.items()}
        version = metadata.pop("raydrgn.particles", None)
        if version != str(FORMAT_VERSION):
            raise InputError(
                f"{uri} is not a particle table of this version of raydrgn (layout {version}, "
                f"expected {FORMAT_VERSION}). Make one with `raydrgn parse --table`."
            )
        columns = {name: table.column(name) for name in table.column_names if name in _TYPES}
        kept = {k: v for k, v in metadata.items() if not k.startswith("pandas")}
        try:
            return cls.from_columns(columns, metadata=kept)
        except RowError as error:
            raise RowError(error.row, error.problem, source=uri) from error
        except InputError as error:
            raise InputError(f"{uri}: {error}") from error


def _not_utf8(error: UnicodeEncodeError) -> InputError:
    return InputError(
        f"The name {error.object} is not UTF-8, which a particle table needs. Rename the file or "
        "folder, or make a link to it by another name."
    )


def _to_arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values.cast(kind)
    if pa.types.is_fixed_size_list(kind):
        with np.errstate(over="ignore"):  # infinite values are refused by their row
            flat = np.asarray(values).astype(np.float32).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), kind.list_size)
    if pa.types.is_dictionary(kind):
        return pa.array(values, type=pa.string()).dictionary_encode()
    return pa.array(np.asarray(values) if kind != pa.string() else list(values)).cast(kind)
