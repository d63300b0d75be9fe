"""cryoDRGN's pickles: read through a sieve, written as it writes them."""

import pickle
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantoms import Hostile, fill_disk, hostile_pickle, random_matrices
from raydrgn.errors import InputError, RaydrgnError, StorageError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import (
    Poses,
    read_ctf,
    read_latents,
    read_pickles,
    read_poses,
    write_ctf,
    write_latents,
    write_poses,
)
from raydrgn.io.indices import read_indices

READERS = {"poses": read_poses, "ctf": read_ctf, "ind": read_indices, "z": read_latents}


def dumped(tmp_path, *objects, protocol=4, name="a.pkl"):
    path = tmp_path / name
    path.write_bytes(b"".join(pickle.dumps(item, protocol=protocol) for item in objects))
    return str(path)


# Nothing but arrays --------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_nothing_of_a_malicious_pickle_runs(tmp_path, reader):
    uri, mark = hostile_pickle(tmp_path, "a.pkl")
    with pytest.raises(InputError, match=r"a\.pkl is refused: it asks for posix\.system"):
        reader(uri)
    assert not mark.exists()


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_not_even_where_it_hides_behind_an_array(tmp_path, reader):
    mark = tmp_path / "ran"
    arrays = [np.zeros((2, 9), np.float32), np.array([Hostile(mark)], dtype=object)]
    with pytest.raises(InputError, match="is refused"):
        reader(dumped(tmp_path, (arrays[0], Hostile(mark))))
    with pytest.raises(InputError, match="is refused"):
        reader(dumped(tmp_path, arrays[1]))
    assert not mark.exists()


def test_the_second_pickle_of_latents_goes_through_the_sieve_too(tmp_path):
    mark = tmp_path / "ran"
    uri = dumped(tmp_path, np.zeros((2, 3), np.float32), Hostile(mark))
    with pytest.raises(InputError, match="is refused"):
        read_latents(uri)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n}tR.",
        b"cnumpy._core.multiarray\n_reconstruct.__globals__\n.",
        b"\x80\x04\x8c\x16numpy._core.multiarray\x8c\x18_reconstruct.__globals__\x93.",
        b"(inumpy\nload\n.",
        b"\x80\x02\x82\x01.",
    ],
    ids=["eval", "runstring", "dotted", "dotted, protocol 4", "instance", "extension"],
)
def test_every_way_to_name_something_else_is_closed(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(InputError):
        read_pickles(str(tmp_path / "a.pkl"))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", [b"numpy._core", b"numpy.core"], ids=["numpy 2", "numpy 1"])
def test_arrays_of_every_protocol_and_numpy_are_read(tmp_path, protocol, module):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = pickle.dumps([values, np.float64(2.5), {"a": (1, "b", None)}], protocol=protocol)
    if protocol < 4:  # frames of later protocols count their bytes
        content = content.replace(b"numpy._core", module)
    (tmp_path / "a.pkl").write_bytes(content)
    [[array, number, rest]] = read_pickles(str(tmp_path / "a.pkl"))
    np.testing.assert_array_equal(array, values)
    assert number == 2.5
    assert rest == {"a": (1, "b", None)}


@given(content=st.binary(max_size=60))
def test_no_bytes_at_all_break_the_reader(content):
    storage.write_bytes("memory://fuzz/a.pkl", content)
    with suppress(RaydrgnError):
        read_pickles("memory://fuzz/a.pkl")


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_half_a_pickle_is_refused(tmp_path, keep):
    content = pickle.dumps(np.zeros((4, 9), np.float32))
    (tmp_path / "a.pkl").write_bytes(content[:keep])
    with pytest.raises(InputError, match=r"a\.pkl is (empty|not a whole pickle)"):
        read_pickles(str(tmp_path / "a.pkl"))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e\xff\xff\xff\xff\x03\x00\x00\x00x.",  # bytes of 16 GB
        b"\x80\x04]r\xff\xff\xff\x7f.",  # a memo of 2³¹ places
        b"\x80\x02]q\x05]q\xff.",
    ],
    ids=["bytes", "memo", "small memo"],
)
def test_a_pickle_asks_for_no_memory_that_it_does_not_fill(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a\.pkl is not a whole pickle"):
            read_pickles(str(tmp_path / "a.pkl"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A few kB here against 16 GB asked for; the other threads of the test process are counted too.
    assert peak < 2**26


# Poses ---------------------------------------------------------------------------------------


@pytest.fixture
def rotations():
    return random_matrices(5, np.random.default_rng(0)).astype(np.float32)


def test_poses_are_written_as_cryodrgn_reads_them(tmp_path, rotations):
    shifts = np.linspace(-1, 1, 10).reshape(5, 2)
    uri = str(tmp_path / "poses.pkl")
    write_poses(uri, Poses(rotations.astype(np.float64), shifts))
    with open(uri, "rb") as stream:
        plain = pickle.load(stream)
        assert not stream.read()
    assert isinstance(plain, tuple)
    assert [part.dtype for part in plain] == [np.float32, np.float32]
    again = read_poses(uri)
    np.testing.assert_array_equal(again.rotations, rotations)
    np.testing.assert_array_equal(again.shifts_fraction, shifts.astype(np.float32))


@pytest.mark.parametrize("kind", [tuple, list, None])
def test_bare_rotations_have_no_shifts(tmp_path, rotations, kind):
    content = rotations.astype(np.float64)
    poses = read_poses(dumped(tmp_path, content if kind is None else kind([content])))
    np.testing.assert_array_equal(poses.rotations, rotations)
    assert not poses.shifts_fraction.any()
    assert poses.shifts_fraction.shape == (5, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((5, 9)), r"should contain rotations \(N, 3, 3\) and shifts \(N, 2\)"),
        ((np.zeros((5, 3, 3)), np.zeros((4, 2))), r"5 rotations, but shifts of shape \(4, 2\)"),
        ((np.zeros((5, 3, 3)), np.zeros((5, 3))), r"5 rotations, but shifts of shape \(5, 3\)"),
        ((np.zeros((5, 3, 3)),) * 3, r"should contain rotations"),
        ((), "should contain rotations"),
        (
            (np.zeros((3, 3, 3)), np.array([[0, 0], [0, 1.01], [-5, 0]])),
            r"larger than the box for 2 particles, first at row 1 .*fractions of the box",
        ),
    ],
)
def test_poses_that_are_none_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read_poses(dumped(tmp_path, content, name="poses.pkl"))
    assert "poses.pkl" in str(caught.value)


@pytest.mark.parametrize("content", ["text", {"rot": 1}, None, [["a"]], (object,)[:0]])
def test_other_things_than_poses_are_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"a\.pkl"):
        read_poses(dumped(tmp_path, content))


# CTF -----------------------------------------------------------------------------------------


def test_ctf_is_written_as_cryodrgn_reads_it(tmp_path):
    table = np.arange(18.0).reshape(2, 9)
    write_ctf(str(tmp_path / "ctf.pkl"), table)
    with open(tmp_path / "ctf.pkl", "rb") as stream:
        plain = pickle.load(stream)
    assert plain.dtype == np.float32
    np.testing.assert_array_equal(plain, table)
    np.testing.assert_array_equal(read_ctf(str(tmp_path / "ctf.pkl")), table)


@pytest.mark.parametrize("shape", [(3, 8), (3, 10), (9,)])
def test_ctf_has_nine_columns(tmp_path, shape):
    with pytest.raises(InputError, match=r"a table of 9 columns, found \(") as caught:
        read_ctf(dumped(tmp_path, np.zeros(shape)))
    assert str(shape) in str(caught.value)
    with pytest.raises(InputError, match="a table of 9 columns, found dict"):
        read_ctf(dumped(tmp_path, {}))
    with pytest.raises(InputError, match="should contain numbers, found values of type"):
        read_ctf(dumped(tmp_path, np.full((2, 9), "a")))


def test_the_nan_phase_shift_that_cryodrgn_writes_is_refused_with_the_way_out(tmp_path):
    table = np.ones((4, 9), dtype=np.float32)
    table[2:, 8] = np.nan
    with pytest.raises(InputError, match=r"2 of 4 rows, first at row 2, column 8.*raydrgn parse"):
        read_ctf(dumped(tmp_path, table))


# Latents -------------------------------------------------------------------------------------


def test_latents_are_two_pickles_one_after_the_other(tmp_path):
    mean, logvar = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    uri = str(tmp_path / "z.1.pkl")
    write_latents(uri, mean, logvar)
    with open(uri, "rb") as stream:
        parts = [pickle.load(stream), pickle.load(stream)]
        assert not stream.read()
    for expected, plain, ours in zip((mean, logvar), parts, read_latents(uri), strict=True):
        assert plain.dtype == np.float32
        np.testing.assert_array_equal(plain, expected)
        np.testing.assert_array_equal(ours, expected)
    assert storage.read_bytes(uri)[:2] == b"\x80\x04"  # protocol 4


def test_latents_without_variances(tmp_path):
    mean, logvar = read_latents(dumped(tmp_path, np.zeros((4, 3), np.float32)))
    assert mean.shape == (4, 3)
    assert logvar is None


@pytest.mark.parametrize(
    "parts",
    [
        [np.zeros(4, np.float32)],
        [np.zeros((4, 3), np.int64)],
        [np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32)],
        ["text"],
    ],
)
def test_latents_that_are_none_are_refused(tmp_path, parts):
    with pytest.raises(InputError, match=r"a\.pkl should contain latents \(N, zdim\)"):
        read_latents(dumped(tmp_path, *parts))


def test_a_full_disk_leaves_the_latents_of_before(tmp_path, monkeypatch):
    uri, old = str(tmp_path / "z.1.pkl"), np.zeros((4, 3), np.float32)
    write_latents(uri, old, old)
    fill_disk(monkeypatch)
    with pytest.raises(StorageError, match=r"No room is left to write .*z\.1\.pkl"):
        write_latents(uri, old + 1, old)
    np.testing.assert_array_equal(read_latents(uri)[0], old)
