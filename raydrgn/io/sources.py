"""Any particle source to one checked ParticleTable.

``.star``, ``.cs`` and ``.parquet`` carry their metadata; ``.mrcs`` and ``.txt`` (a list of stacks)
take theirs from cryoDRGN's pickles.
"""

import logging
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.cryosparc import read_cryosparc
from raydrgn.io.imaging import Imaging
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.relion import read_relion
from raydrgn.io.stacks import check_slices, read_headers
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

STACK_SUFFIXES = (".mrcs", ".mrc", ".st")
PIXEL_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class ParticleSource:
    """Where a data set is: images, and what is known about them."""

    particles: Uri
    """``.mrcs``, ``.txt``, ``.star``, ``.cs`` or ``.parquet``."""

    poses: Uri | None = None
    """cryoDRGN's poses; they replace those of the particle file."""

    ctf: Uri | None = None
    """cryoDRGN's CTF parameters; they replace those of the particle file."""

    ind: Uri | None = None
    """Rows to take, in this order; numbers of the full data set."""

    datadir: Uri | None = None
    """Folder of the stacks that a STAR or .cs file names."""

    half_size_shifts: bool = False
    """Whether the shifts of a .cs file that does not say so are those of a half-size box."""

    def absolute(self) -> "ParticleSource":
        """Return the source with every path meaning the same from anywhere."""
        return ParticleSource(
            particles=storage.absolute(self.particles),
            poses=self.poses and storage.absolute(self.poses),
            ctf=self.ctf and storage.absolute(self.ctf),
            ind=self.ind and storage.absolute(self.ind),
            datadir=self.datadir and storage.absolute(self.datadir),
            half_size_shifts=self.half_size_shifts,
        )


def open_particles(source: ParticleSource, *, need_images: bool = True) -> ParticleTable:
    """Read a source into one table, and check that its parts fit each other.

    With ``ind``, poses and CTF may have a row for every particle of the full set, or for just the
    selected ones in their order.

    Args:
        source: Where the data set is.
        need_images: Whether the stacks that a .star, .cs or .parquet file names must be there.

    Raises:
        InputError: If counts disagree, a stack is missing or broken, or values make no sense.
    """
    source = source.absolute()
    table = _read_images(source, need_images=need_images)
    full = len(table)
    rows = (
        cryodrgn.read_indices(source.ind, count=full, particles=source.particles)
        if source.ind
        else None
    )
    if rows is not None:
        table = table.select(rows)
    if not len(table):
        raise InputError(f"{source.ind or source.particles} selects no particle.")
    if source.ctf:
        table = _with_ctf(table, source.ctf, rows, full)
    if source.poses:
        table = _with_poses(table, source.poses, rows, full)
    return table


def read_metadata(
    uri: Uri,
    *,
    datadir: Uri | None = None,
    imaging: Imaging | None = None,
    need_images: bool = True,
) -> ParticleTable:
    """Read a RELION or cryoSPARC particle file.

    Raises:
        ConfigError: If the file is neither.
        InputError: If it lacks what is needed.
    """
    readers = {".star": read_relion, ".cs": read_cryosparc}
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix not in readers:
        raise ConfigError(f"{uri} is neither a RELION .star nor a cryoSPARC .cs file.")
    return readers[suffix](
        storage.absolute(uri),
        datadir=datadir and storage.absolute(datadir),
        imaging=imaging,
        need_images=need_images,
    )


def _read_images(source: ParticleSource, *, need_images: bool) -> ParticleTable:
    uri = source.particles
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix in (".star", ".cs"):
        imaging = Imaging(half_size_shifts=source.half_size_shifts)
        return read_metadata(uri, datadir=source.datadir, imaging=imaging, need_images=need_images)
    if suffix == ".parquet":
        table = ParticleTable.read(uri)
        if not need_images:
            return table
        boxes = check_slices(
            read_headers(table.stacks), table.stack_codes, table.column("slice"), source=uri
        )
        if not np.array_equal(boxes, table.column("box")):
            raise InputError(f"{uri} says other boxes than its stacks have; parse it again.")
        return table
    if suffix in STACK_SUFFIXES:
        return _table_of_stacks([uri], uri)
    if suffix == ".txt":
        return _table_of_stacks(_listed_stacks(uri), uri)
    raise ConfigError(
        f"{uri} is no particle source: expected .mrcs, .txt, .star, .cs or .parquet, "
        f"found {suffix or 'no suffix'!r}."
    )


def _listed_stacks(uri: Uri) -> list[Uri]:
    stacks = []
    try:
        text = storage.read_bytes(uri).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{uri} is not text; a .txt source lists one stack per line.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        stack = storage.absolute(line.strip(), base=storage.parent(uri))
        if not storage.exists(stack):
            raise InputError(f"{uri}, line {number}: {stack} does not exist.")
        stacks.append(stack)
    if not stacks:
        raise InputError(f"{uri} lists no stacks.")
    return stacks


def _table_of_stacks(stacks: list[Uri], source: Uri) -> ParticleTable:
    headers = read_headers(stacks)
    counts = [header.shape[0] for header in headers]
    codes = np.repeat(np.arange(len(stacks)), counts)
    slices = np.concatenate([np.arange(count) for count in counts])
    columns: dict[str, object] = {
        "index": np.arange(len(codes)),
        "stack": np.array(stacks, dtype=object)[codes],
        "slice": slices,
        "box": check_slices(headers, codes, slices, source=source),
    }
    pixel_sizes = np.array([header.pixel_size_angstrom for header in headers])
    if (pixel_sizes > 0).all():
        columns["pixel_size_angstrom"] = pixel_sizes[codes]
    return ParticleTable.from_columns(columns)


def _fit_rows(
    values: np.ndarray, rows: np.ndarray | None, full: int, uri: Uri, source_count: int
) -> np.ndarray:
    if rows is not None and len(values) == full:
        return values[rows]
    if len(values) == source_count:
        return values
    selected = f" ({source_count} selected)" if rows is not None else ""
    raise InputError(
        f"{uri} has {len(values)} rows, but there are {full} particles{selected}. Poses, CTF and "
        "images must come from one data set, in one order."
    )


def _with_ctf(table: ParticleTable, uri: Uri, rows: np.ndarray | None, full: int) -> ParticleTable:
    values = _fit_rows(cryodrgn.read_ctf(uri), rows, full, uri, len(table))
    pixel_size = values[:, 1] * values[:, 0] / table.column("box")
    if not (pixel_size > 0).all():
        row = np.flatnonzero(~(pixel_size > 0))[0]
        raise InputError(
            f"{uri} says a box of {values[row, 0]:g} px of {values[row, 1]:g} Å for particle "
            f"{row}; both must be positive. Parse the CTF again, with --box and --pixel-size."
        )
    if "pixel_size_angstrom" in table.table.column_names:
        said = table.column("pixel_size_angstrom")
        if np.abs(said / pixel_size - 1).max() > PIXEL_SIZE_TOLERANCE:
            log.warning(
                "the images say a pixel size of %.4f Å, %s says %.4f Å; the latter is used",
                said[0],
                uri,
                pixel_size[0],
            )
    columns = {name: values[:, 2 + i] for i, name in enumerate(CTF_COLUMNS)}
    return table.with_columns({**columns, "pixel_size_angstrom": pixel_size})


def _with_poses(
    table: ParticleTable, uri: Uri, rows: np.ndarray | None, full: int
) -> ParticleTable:
    poses = cryodrgn.read_poses(uri)
    rotations = _fit_rows(poses.rotations, rows, full, uri, len(table))
    shifts = _fit_rows(poses.shifts_fraction, rows, full, uri, len(table))
    if "pixel_size_angstrom" not in table.table.column_names:
        log.warning("the pixel size is not known; 1 Å is taken")
        table = table.with_columns({"pixel_size_angstrom": np.ones(len(table))})
    field_angstrom = table.column("box") * table.column("pixel_size_angstrom")
    return table.with_columns(
        {
            "rotation": rotations.reshape(-1, 9),
            "shift_angstrom": shifts * field_angstrom[:, None],
        }
    )


def to_poses(table: ParticleTable) -> cryodrgn.Poses:
    """Return rotations and shifts as cryoDRGN keeps them.

    Raises:
        InputError: If the particles have no poses.
    """
    require_poses(table)
    return cryodrgn.Poses(table.rotations, shifts_fraction(table))


def require_poses(table: ParticleTable) -> None:
    """Refuse particles without poses.

    Raises:
        InputError: If there are none; says which files have them.
    """
    if table.has_poses:
        return
    where = table.metadata.get("source", "The particle source")
    if where.endswith(".cs"):
        raise InputError(
            f"{where} has no alignments3D/pose and alignments3D/shift. The particles of these "
            "cryoSPARC jobs have them: Homogeneous, Non-uniform, Local and Heterogeneous "
            "Refinement, and Homogeneous Reconstruction; those of Extraction and 2D "
            "Classification do not. Take the .cs file of a refinement, with its passthrough "
            "fields, or give --poses."
        )
    raise InputError(
        f"{where} has no poses (RELION: rlnAngleRot, rlnAngleTilt, rlnAnglePsi; cryoSPARC: "
        "alignments3D/pose). Take the particles file of a refinement, or give --poses."
    )


def shifts_fraction(table: ParticleTable) -> Float[np.ndarray, "n 2"]:
    """Return the shifts as fractions of the box."""
    field_angstrom = table.column("box") * table.column("pixel_size_angstrom")
    return table.column("shift_angstrom") / field_angstrom[:, None]


def to_ctf(table: ParticleTable) -> Float[np.ndarray, "n 9"]:
    """Return the CTF table as cryoDRGN keeps it.

    Raises:
        InputError: If the particles have no CTF parameters.
    """
    if not table.has_ctf:
        where = table.metadata.get("source", "The particle source")
        raise InputError(f"{where} has no defocus; run CTF estimation, or take another file.")
    names = ("box", "pixel_size_angstrom", *CTF_COLUMNS)
    return np.stack([table.column(name) for name in names], axis=-1).astype(np.float32)
