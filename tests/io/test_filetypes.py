"""Files that are something else than their name says: named, whatever reads them."""

import gzip
import pickle
import zipfile

import numpy as np
import pytest

from raydrgn.errors import InputError
from raydrgn.io.arrays import read_array
from raydrgn.io.cryodrgn import read_ctf, read_poses
from raydrgn.io.filetypes import decode
from raydrgn.io.indices import read_indices
from raydrgn.io.latents import read_latents_file
from raydrgn.io.metadata import read_metadata
from raydrgn.io.mrc import read_header
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.sources import open_particles

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
CONTENTS = {
    "Git LFS": (POINTER, r"a Git LFS pointer.*git lfs pull"),
    "git-annex": (b"/annex/objects/MD5E-s12--0\n", "git annex get"),
    "web page": (PAGE, r"a web page.*download went wrong"),
    "web page with a mark": (b"\xef\xbb\xbf" + PAGE, "a web page"),
    "error of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "page"),
    "gzip": (gzip.compress(b"data_\n" * 1000), "compressed by gzip.*gunzip"),
    "bzip2": (b"BZh91AY&SY" + bytes(2000), "compressed by bzip2"),
    "xz": (b"\xfd7zXZ\x00" + bytes(2000), "compressed by xz"),
    "tar": (b"a.mrcs" + bytes(251) + b"ustar" + bytes(2000), "tar archive"),
    "cryoSPARC's stream": (b"\x94CSDAT" + bytes(2000), "stream format.*Export"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(2000), r"HDF5.*e2proc2d"),
    "SQLite": (b"SQLite format 3\x00" + bytes(2000), "Scipion"),
    "TIFF": (b"II*\x00" + bytes(2000), "TIFF"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(2000), "PNG"),
    "nothing": (b"", r"empty \(0 bytes\)"),
}
READERS = {
    ".star": read_metadata,
    ".cs": read_metadata,
    ".mrcs": read_header,
    ".npy": read_array,
    ".parquet": ParticleTable.read,
    ".txt": lambda uri: open_particles(ParticleSource(particles=uri)),
    "ind.txt": read_indices,
    "ind.pkl": read_indices,
    "ind.npy": read_indices,
    "ind.csv": read_indices,
    "z.csv": read_latents_file,
    "z.pkl": read_latents_file,
    "poses.pkl": read_poses,
    "ctf.pkl": read_ctf,
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("suffix", READERS)
def test_what_is_there_is_named_with_the_remedy(tmp_path, suffix, kind):
    content, message = CONTENTS[kind]
    uri = str(tmp_path / (suffix if suffix[0] != "." else f"file{suffix}"))
    with open(uri, "wb") as stream:
        stream.write(content)
    with pytest.raises(InputError, match=message) as caught:
        READERS[suffix](uri)
    text = str(caught.value)
    assert text.startswith(uri)
    assert text.endswith(".")
    assert ".." not in text.removeprefix(uri)


def test_an_archive_of_arrays_is_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    (tmp_path / "a.npz").rename(tmp_path / "ind.npy")
    with pytest.raises(InputError, match="a zip archive"):
        read_indices(str(tmp_path / "ind.npy"))
    assert zipfile.is_zipfile(tmp_path / "ind.npy")


def test_formats_that_are_mixed_up_are_named(tmp_path):
    (tmp_path / "a.npy").write_bytes(pickle.dumps(np.arange(3)))
    with pytest.raises(InputError, match="is a pickle; expected a NumPy array"):
        read_array(str(tmp_path / "a.npy"))
    np.save(tmp_path / "b.npy", np.arange(3))
    (tmp_path / "b.npy").rename(tmp_path / "ind.pkl")
    with pytest.raises(InputError, match=r"is a NumPy array \(\.npy\); expected a pickle"):
        read_indices(str(tmp_path / "ind.pkl"))


@pytest.mark.parametrize("kind", ["<i4", ">i4", ">f8", "?", "S5", "U3"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, kind, order):
    values = np.asarray(np.arange(6).reshape(2, 3), dtype=kind, order=order)
    np.save(tmp_path / "a.npy", values)
    found = read_array(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(found, np.load(tmp_path / "a.npy"))
    assert found.dtype.isnative


@pytest.mark.parametrize("change", [(b"(6,)", b"(9,)"), (b"(6,)", b"(0,)"), (b"<i8", b"<i9")])
def test_a_header_that_promises_something_else_is_refused(tmp_path, change):
    np.save(tmp_path / "a.npy", np.arange(6))
    content = (tmp_path / "a.npy").read_bytes().replace(*change)
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy is (damaged|not a NumPy array)"):
        read_array(str(tmp_path / "a.npy"))


def test_a_header_asks_for_no_memory_that_the_file_does_not_fill(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6))
    content = (tmp_path / "a.npy").read_bytes()
    content = content.replace(b"(6,), }" + b" " * 13, b"(99999999999999,), }")
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match="promises 99,999,999,999,999 values of 8 bytes, but 48"):
        read_array(str(tmp_path / "a.npy"))


def test_text_of_an_older_encoding_is_named_with_its_line():
    with pytest.raises(InputError, match=r"a\.txt, line 2: .*iconv"):
        decode("eins\nzwölf\n".encode("latin1"), "a.txt", wanted="a list")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbfa\nb\xff\n", "x, line 2: a character after 'b' is not UTF-8"),
        (b"\xff\xfea", "x is not text; expected a list"),  # half a character of UTF-16
        (b"a\x00b\n", "x is not text; expected a list"),
        (b"a\x00\xff\n", "x is not text; expected a list"),
    ],
)
def test_what_is_no_text_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        decode(content, "x", wanted="a list")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_protocol_with_a_mark_are_recognised(protocol):
    with pytest.raises(InputError, match="x is a pickle; expected a list"):
        decode(pickle.dumps([1.5], protocol=protocol), "x", wanted="a list")
