"""Any particle source to one checked ParticleTable.

``.star``, ``.cs`` and ``.parquet`` carry their metadata; ``.mrcs`` and ``.txt`` (a list of stacks)
take theirs from cryoDRGN's pickles.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import numpy as np

from raydrgn.errors import ConfigError, InputError, RaydrgnError, StorageError
from raydrgn.io import cryodrgn, storage
from raydrgn.io.filetypes import decode
from raydrgn.io.imaging import Imaging, calibration, warn_of_micrometres
from raydrgn.io.metadata import read_for_parsing as read_for_parsing
from raydrgn.io.metadata import read_metadata as read_metadata
from raydrgn.io.particle_checks import RowError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS, NoParticlesError, ParticleTable
from raydrgn.io.pixel_sizes import with_frame
from raydrgn.io.stacks import check_slices, find_stacks, read_headers
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

STACK_SUFFIXES = (".mrcs", ".mrc", ".st")
PIXEL_SIZE_TOLERANCE = 0.01
SAME_VALUE = 1e-4
OTHER_PROGRAMS = {
    ".csg": "This is the group file of a .cs file; give the .cs file that it names.",
    ".hdf": "Convert EMAN2's particles to a RELION STAR file with e2refinetorelion3.py.",
    ".lst": "Convert EMAN2's particles to a RELION STAR file with e2refinetorelion3.py.",
    ".par": "Export the refinement package from cisTEM for RELION, and take its STAR file.",
    ".sqlite": "Export the particles from Scipion as a RELION STAR file.",
    ".xmd": "Export the particles from Xmipp or Scipion as a RELION STAR file.",
    ".img": "Convert IMAGIC stacks to .mrcs, for instance with EMAN2's e2proc2d.py.",
    ".hed": "Convert IMAGIC stacks to .mrcs, for instance with EMAN2's e2proc2d.py.",
    ".gz": "Unpack it with gunzip.",
    ".bz2": "Unpack it with bunzip2.",
    ".xz": "Unpack it with unxz.",
    ".zst": "Unpack it with unzstd.",
    ".spi": "Convert SPIDER stacks to .mrcs, for instance with EMAN2's e2proc2d.py.",
}
"""What to do with the particle files of programs that are not read."""

DEFOCUS = ("defocus_u_angstrom", "defocus_v_angstrom")


def open_particles(source: ParticleSource, *, need_images: bool = True) -> ParticleTable:
    """Read a source into one table, and check that its parts fit each other.

    With ``ind``, poses and CTF may have a row for every particle of the full set, or for just the
    selected ones in their order.

    Args:
        source: Where the data set is.
        need_images: Whether the stacks that a .star, .cs or .parquet file names must be there.

    Raises:
        NoParticlesError: If the particle file has no rows.
        InputError: If counts disagree, a stack is missing or broken, or values make no sense.
    """
    source = source.absolute()
    table = _read_images(source, need_images=need_images)
    full = len(table)
    if not full:
        raise NoParticlesError(source.particles)
    table = with_frame(table)
    rows = None
    if source.ind:
        rows = cryodrgn.read_indices(source.ind, count=full, particles=source.particles)
        table = table.select(rows)
    if not len(table):
        raise InputError(f"{source.ind} selects no particle of {source.particles}.")
    if source.ctf:
        table = _with_ctf(table, source.ctf, rows, full)
    if source.poses:
        table = _with_poses(table, source.poses, rows, full)
    return table


def _read_images(source: ParticleSource, *, need_images: bool) -> ParticleTable:
    uri = source.particles
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix in (".star", ".cs"):
        return read_metadata(
            uri,
            datadir=source.datadir,
            imaging=Imaging(half_size_shifts=source.half_size_shifts),
            need_images=need_images,
            passthrough=source.passthrough,
        )
    if source.passthrough:
        raise ConfigError(f"--passthrough belongs to cryoSPARC's .cs files; {uri} is none.")
    if suffix == ".parquet":
        return _read_table(uri, source.datadir, need_images=need_images)
    if suffix in STACK_SUFFIXES:
        return _table_of_stacks([uri], uri)
    if suffix == ".txt":
        return _table_of_stacks(_listed_stacks(uri), uri)
    raise _not_a_source(uri, suffix)


def _not_a_source(uri: Uri, suffix: str) -> RaydrgnError:
    """Return why particles cannot be read from a file or folder, and which file has them."""
    if storage.is_pipe(uri):
        return ConfigError(
            f"{uri} is a pipe. Particles are read from a file: stacks are looked for beside it, "
            "and runs keep its name. Write what comes through the pipe to a file."
        )
    if not storage.exists(uri):
        return StorageError(f"{uri} {storage.absence(uri)}")
    hint = f" {OTHER_PROGRAMS[suffix]}" if suffix in OTHER_PROGRAMS else ""
    if storage.exists(own := storage.join(uri, "particles.parquet")):  # a run, or a project's step
        hint = f" Its particles are in {own}."
    return ConfigError(
        f"{uri} is not a particle source: expected .mrcs, .txt, .star, .cs or .parquet, "
        f"found {suffix or 'no suffix'!r}.{hint}"
    )


def _read_table(uri: Uri, datadir: Uri | None, *, need_images: bool) -> ParticleTable:
    """Read a table (.parquet) that was written earlier, and find its stacks."""
    table = ParticleTable.read(uri)
    table = with_found_stacks(table, source=uri, datadir=datadir, need_images=need_images)
    if not need_images:
        return table
    boxes = check_slices(
        read_headers(table.stacks), table.stack_codes, table.column("slice"), source=uri
    )
    if not np.array_equal(boxes, table.column("box")):
        raise InputError(
            f"{uri} has other boxes than its stacks; make it again with `raydrgn parse`."
        )
    return table


def with_found_stacks(
    table: ParticleTable, *, source: Uri, datadir: Uri | None, need_images: bool = True
) -> ParticleTable:
    """Return a table with its stacks where they are now, for data that have moved.

    Args:
        table: Particles of a table that was written earlier, or of a run.
        source: The file of the table, for messages and relative names.
        datadir: Folder of the stacks now, if the user gave one.
        need_images: Whether each stack must be there.

    Raises:
        InputError: If a stack is not found, or another one is by a part of its name.
    """
    places = find_stacks(table.stacks, source=source, datadir=datadir, required=need_images)
    if places == table.stacks:
        return table
    return table.with_columns({"stack": np.array(places, dtype=object)[table.stack_codes]})


def _listed_stacks(uri: Uri) -> list[Uri]:
    stacks = []
    text = decode(storage.read_bytes(uri), uri, wanted="a list of stacks, one per line")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        stack = storage.absolute(line.strip(), base=storage.parent(uri))
        if not storage.exists(stack):
            raise InputError(f"{uri}, line {number}: {stack} does not exist.")
        if stack in stacks:
            log.warning(
                "%s, line %d: %s is listed again; its images count twice", uri, number, stack
            )
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
        f"{uri} has {len(values):,} rows, but there are {full:,} particles{selected}. Poses, CTF "
        "and images must come from one data set, in one order."
    )


def _with_ctf(table: ParticleTable, uri: Uri, rows: np.ndarray | None, full: int) -> ParticleTable:
    every = cryodrgn.read_ctf(uri)
    values = _fit_rows(every, rows, full, uri, len(table))
    rows = rows if len(every) == full else None
    pixel_size = values[:, 1] * values[:, 0] / table.column("box")
    if not (pixel_size > 0).all():
        row = int(np.flatnonzero(~(pixel_size > 0))[0])
        raise RowError(
            _row_in_pickle(row, rows),
            f"the box is {values[row, 0]:g} px and the pixel size {values[row, 1]:g} Å; both must "
            "be positive. Make the CTF again with `raydrgn parse --box … --pixel-size … --ctf …`.",
            source=uri,
        )
    if "pixel_size_angstrom" in table.table.column_names:
        known = table.column("pixel_size_angstrom")
        if np.abs(known / pixel_size - 1).max() > PIXEL_SIZE_TOLERANCE:
            log.warning(
                "the images have a pixel size of %.4f Å, %s has %.4f Å; the latter is used",
                *(known[0], uri, pixel_size[0]),
            )
    columns = {name: values[:, 2 + i] for i, name in enumerate(CTF_COLUMNS)}
    columns["pixel_size_angstrom"] = pixel_size
    if {"pixel_size_angstrom", "shift_angstrom"} <= set(table.table.column_names):
        factor = calibration(pixel_size, table.column("pixel_size_angstrom"))
        columns["shift_angstrom"] = table.column("shift_angstrom") * factor[:, None]
    if set(DEFOCUS) <= set(table.table.column_names):
        own = np.stack([table.column(name) for name in DEFOCUS], axis=-1)
        given = np.stack([columns[name] for name in DEFOCUS], axis=-1)
        _refuse_other_order(own, given, table, uri, what="defocus values", rows=rows)
    warn_of_micrometres(columns["defocus_u_angstrom"], uri)
    with _rows_of(uri, rows):
        table = table.with_columns(columns)
    fields = every[:, 1] * every[:, 0]
    return with_frame(table, fields[fields > 0] / table.column("box")[0])


def _with_poses(
    table: ParticleTable, uri: Uri, rows: np.ndarray | None, full: int
) -> ParticleTable:
    poses = cryodrgn.read_poses(uri)
    rotations = _fit_rows(poses.rotations, rows, full, uri, len(table))
    shifts = _fit_rows(poses.shifts_fraction, rows, full, uri, len(table))
    rows = rows if len(poses.rotations) == full else None
    if "rotation" in table.table.column_names:
        own = table.column("rotation")
        given = rotations.reshape(-1, 9)
        _refuse_other_order(own, given, table, uri, what="rotations", rows=rows)
    if "pixel_size_angstrom" not in table.table.column_names:
        log.warning("the pixel size is not known; 1 Å is taken")
        table = table.with_columns({"pixel_size_angstrom": np.ones(len(table))})
    field_angstrom = table.column("box") * table.column("pixel_size_angstrom")
    with _rows_of(uri, rows):
        return table.with_columns(
            {
                "rotation": rotations.reshape(-1, 9),
                "shift_angstrom": shifts * field_angstrom[:, None],
            }
        )


@contextmanager
def _rows_of(uri: Uri, rows: np.ndarray | None) -> Iterator[None]:
    """Name the pickle, and the row in it, in errors of rows that it was read for.

    Args:
        uri: The pickle.
        rows: Which of its rows are used, or None if all are.
    """
    try:
        yield
    except RowError as error:
        raise RowError(_row_in_pickle(error.row, rows), error.problem, source=uri) from error


def _row_in_pickle(row: int, rows: np.ndarray | None) -> int:
    return int(row if rows is None else rows[row])


def _refuse_other_order(
    own: Float[np.ndarray, "n k"],
    given: Float[np.ndarray, "n k"],
    table: ParticleTable,
    uri: Uri,
    *,
    what: str,
    rows: np.ndarray | None,
) -> None:
    """Refuse values that are those of the particle file, but of other particles.

    ``rows`` is as in ``_rows_of``.

    Raises:
        InputError: If each column has the same values in another order.
    """
    same = np.isclose(own, given, rtol=SAME_VALUE, atol=SAME_VALUE).all(axis=1)
    if same.all() or not np.allclose(
        np.sort(own, axis=0), np.sort(given, axis=0), rtol=SAME_VALUE, atol=SAME_VALUE
    ):
        return
    row = _row_in_pickle(int(np.flatnonzero(~same)[0]), rows)
    raise InputError(
        f"{uri} has the {what} of {table.metadata.get('source', 'the particle file')}, but in "
        f"another order (row {row} is the first that differs). It was made for other images, "
        "or from another file; leave it out, or make it again with `raydrgn parse`."
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
        InputError: If there are none, naming the files that have them.
    """
    if table.has_poses:
        return
    where = table.metadata.get("source", "The particle source")
    if where.endswith(".cs"):
        half = (
            " By its name it is the passthrough file of a job: take the job's own particles file, "
            "and give this one with --passthrough."
            if "passthrough" in PurePosixPath(where).name
            else ""
        )
        if "several_classes" in table.metadata:
            half = (
                " It has poses for each of several classes "
                f"({table.metadata['several_classes']}): take the particles file of one class."
            )
        raise InputError(
            f"{where} has no alignments3D/pose and alignments3D/shift.{half} The particles of "
            "these cryoSPARC jobs have them: Homogeneous, Non-uniform, Local and Heterogeneous "
            "Refinement, Homogeneous Reconstruction, and Ab-Initio Reconstruction of one class; "
            "those of Extraction and 2D Classification do not. Take the .cs file of a refinement, "
            "or give --poses."
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
