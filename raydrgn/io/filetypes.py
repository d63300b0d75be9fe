"""What a file is, from its first bytes, and the text of text files.

A download, a repository or a compressing program can leave something else under a name than the
name promises. Every reader asks here, so that the same file gets the same answer everywhere.
"""

import codecs
from dataclasses import dataclass
from pathlib import PurePosixPath

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri

HEAD_BYTES = 512
"""As much of a file as ``find_type`` needs."""


@dataclass(frozen=True, slots=True)
class FileType:
    """One type of file that is recognised by its first bytes."""

    name: str
    """What it is, with its article."""

    remedy: str
    """What to do where another file was expected."""

    beginnings: tuple[bytes, ...]
    offset: int = 0


_UNPACK = "Unpack it first"
_OTHER = "Check which file was meant"

NUMPY = FileType("a NumPy array (.npy)", _OTHER, (b"\x93NUMPY",))
PICKLE = FileType("a pickle", _OTHER, tuple(b"\x80" + bytes([n]) for n in range(2, 6)))
PARQUET = FileType("a Parquet table", _OTHER, (b"PAR1",))
ZIP = FileType(
    "a zip archive (.zip, .npz or weights of PyTorch)", _UNPACK, (b"PK\x03\x04", b"PK\x05\x06")
)

_FILE_TYPES = (
    NUMPY,
    PICKLE,
    PARQUET,
    ZIP,
    FileType(
        "a Git LFS pointer, and not the file itself",
        "Get the file with `git lfs pull`, or download it from the repository's web page",
        (b"version https://git-lfs",),
    ),
    FileType(
        "a git-annex pointer, and not the file itself",
        "Get the file with `git annex get`",
        (b"/annex/objects/",),
    ),
    FileType("compressed by gzip", "Unpack it with gunzip", (b"\x1f\x8b",)),
    FileType("compressed by bzip2", "Unpack it with bunzip2", (b"BZh",)),
    FileType("compressed by xz", "Unpack it with unxz", (b"\xfd7zXZ\x00",)),
    FileType("compressed by Zstandard", "Unpack it with unzstd", (b"\x28\xb5\x2f\xfd",)),
    FileType("a tar archive", "Unpack it with tar -xf", (b"ustar",), offset=257),
    FileType(
        "in cryoSPARC's stream format",
        "Export the result group in cryoSPARC (Export in the job's Outputs tab), which writes a "
        ".cs file in NumPy's format",
        (b"\x94CSDAT",),
    ),
    FileType(
        "an HDF5 file",
        "EMAN2 writes MRC stacks from it with e2proc2d.py",
        (b"\x89HDF\r\n\x1a\n",),
    ),
    FileType(
        "an SQLite database, as Scipion keeps its particles in",
        "Export the particles from Scipion as a RELION STAR file",
        (b"SQLite format 3\x00",),
    ),
    FileType("a TIFF image", "Write it as MRC (RELION, IMOD's tif2mrc)", (b"II*\x00", b"MM\x00*")),
    FileType("a PNG image", _OTHER, (b"\x89PNG\r\n\x1a\n",)),
    FileType("a PDF document", _OTHER, (b"%PDF-",)),
)

_WEB_PAGE = FileType(
    "a web page (HTML or XML)",
    "The download went wrong; download the file itself, not the page that shows it",
    (b"<!doctype html", b"<html", b"<head", b"<?xml"),
)

_EMPTY = FileType("empty (0 bytes)", "It was not written to the end; copy or write it again", ())

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def suffix_of(uri: Uri) -> str:
    """Return the suffix of a file's name, by which readers choose; lower case, with its dot.

    A pipe has no name of its own: of that, the suffix that its content would have.
    """
    if not storage.is_pipe(uri):
        return PurePosixPath(uri).suffix.lower()
    kinds = {NUMPY: ".npy", PICKLE: ".pkl", PARQUET: ".parquet"}
    found = find_type(storage.read_bytes(uri, 0, HEAD_BYTES))
    return kinds.get(found, ".txt") if found else ".txt"


def find_type(head: bytes) -> FileType | None:
    """Return the type of a file by its first ``HEAD_BYTES`` bytes, or None if none is recognised.

    MRC files, STAR files and other text have no beginning of their own and are not recognised.
    """
    if not head:
        return _EMPTY
    for kind in _FILE_TYPES:
        at = kind.offset
        if any(head[at : at + len(start)] == start for start in kind.beginnings):
            return kind
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()[:32].lower()
    return _WEB_PAGE if text.startswith(_WEB_PAGE.beginnings) else None


def check_type(
    content: bytes | memoryview, uri: Uri, *, wanted: str, accepted: FileType | None = None
) -> None:
    """Refuse a file whose first bytes are those of something else.

    Args:
        content: The file, or at least its first ``HEAD_BYTES`` bytes.
        uri: Its name.
        wanted: What is expected, with its article, for the message.
        accepted: The type that is expected, where it has a beginning of its own.

    Raises:
        InputError: If it is of another type that is recognised, naming it and the remedy.
    """
    found = find_type(bytes(content[:HEAD_BYTES]))
    if found is not None and found is not accepted:
        raise InputError(f"{uri} is {found.name}; expected {wanted}. {found.remedy}.")


def decode(content: bytes, uri: Uri, *, wanted: str) -> str:
    """Return the text of a file, with lines ended by a line feed.

    UTF-8, and what a byte-order mark announces, as Windows programs write it.

    Args:
        content: The whole file.
        uri: Its name.
        wanted: What is expected, with its article, for the message.

    Raises:
        InputError: If it is no text, naming the line.
    """
    check_type(content, uri, wanted=wanted)
    codec = next((c for mark, c in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        before = error.object[: error.start]  # without the byte-order mark
        line = before.count(b"\n") + 1
        if b"\x00" in content[:HEAD_BYTES] or (codec != "utf-8-sig" and codec != "utf-8"):
            raise InputError(f"{uri} is not text; expected {wanted}.") from error
        word = before.split()[-1:] or [b""]
        raise InputError(
            f"{uri}, line {line}: a character after {word[0][-20:].decode(errors='replace')!r} is "
            f"not UTF-8. If it is of an older encoding, convert the file: iconv -f latin1 -t utf-8."
        ) from error
    if "\x00" in text:
        raise InputError(f"{uri} is not text; expected {wanted}.")
    return text.replace("\r\n", "\n").replace("\r", "\n")
