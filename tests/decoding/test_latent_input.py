"""Which latents a user asks volumes of: files, particles, one in full."""

import pickle

import numpy as np
import pytest

from finished_run import make_run
from phantoms import Hostile, fill_disk
from raydrgn.decoding.latent_input import choose_latents, read_latent_table, write_latents
from raydrgn.errors import ConfigError, InputError, StorageError

LATENTS = np.arange(12, dtype=np.float32).reshape(6, 2) / 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("requests") / "run", LATENTS)


def test_particles_are_asked_for_by_number_in_their_order(run):
    for text in ("5,0,0", "5 0 0", "5, 0, 0"):
        np.testing.assert_array_equal(choose_latents(run, 1, particles=text), LATENTS[[5, 0, 0]])


def test_one_latent_in_full(run):
    for text in ("0.5,-1e2", "0.5 -100", " 0.5, -100.0 "):
        assert choose_latents(run, 1, z=text).tolist() == [[0.5, -100]]


TABLE = [[0.25, -1.5], [3, 4], [1 / 3, 0]]


@pytest.mark.parametrize("name", ["z.txt", "z.csv", "z.npy", "z.pkl"])
def test_files_of_latents(run, tmp_path, name):
    path, table = tmp_path / name, np.array(TABLE)
    if name == "z.npy":
        np.save(path, table)
    elif name == "z.pkl":
        path.write_bytes(pickle.dumps(table.astype(np.float32)) + pickle.dumps(np.float32(table)))
    else:
        np.savetxt(path, table, delimiter="," if name == "z.csv" else " ")
    found = choose_latents(run, 1, z_file=str(path))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, table.astype(np.float32))


def test_a_text_of_one_line_is_one_latent(run, tmp_path):
    (tmp_path / "z.txt").write_text("0.5 1.5\n")
    assert choose_latents(run, 1, z_file=str(tmp_path / "z.txt")).tolist() == [[0.5, 1.5]]


@pytest.mark.parametrize("given", [{}, {"z": "1,2", "particles": "0"}, {"z": "1", "z_file": "f"}])
def test_not_one_way_is_refused(run, given):
    with pytest.raises(ConfigError, match="with one of --z-file, --particles and -z"):
        choose_latents(run, 1, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"particles": "6"}, "--particles contains 6, but the run has particles 0 to 5"),
        ({"particles": "0,-1"}, "--particles contains -1"),
        ({"particles": f"{10**20}"}, "--particles contains 10{20}, but"),
        ({"particles": " "}, "--particles contains no number"),
        ({"particles": "1.5"}, r"--particles takes numbers .* got '1\.5'"),
        ({"z": "1,nan"}, "-z takes finite numbers, got '1,nan'"),
        ({"z": "a,b"}, "-z takes numbers with commas between them, got 'a,b'"),
    ],
)
def test_numbers_that_are_none_are_refused(run, given, message):
    with pytest.raises(ConfigError, match=message):
        choose_latents(run, 1, **given)


def test_latents_beyond_single_precision_are_refused(run):
    with pytest.raises(InputError, match=r"-z has a latent .* not finite in single precision"):
        choose_latents(run, 1, z="1e39,0")


def test_latents_of_another_dimension_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="-z has latents of 3 dimensions, but the run's zdim is 2"):
        choose_latents(run, 1, z="1,2,3")
    np.save(tmp_path / "z.npy", np.zeros((2, 5)))
    with pytest.raises(InputError, match=r"z\.npy has latents of 5 dimensions"):
        choose_latents(run, 1, z_file=str(tmp_path / "z.npy"))


@pytest.mark.parametrize(
    "content", [b"1 2\n3\n", b"one two\n", b"nan 1\n", b"inf 0\n", b"\xff\xfe", b"#\n"]
)
def test_texts_that_are_no_table_are_refused(tmp_path, content):
    (tmp_path / "z.txt").write_bytes(content)
    with pytest.raises(
        InputError, match=r"z\.txt (does not contain latents|should contain|has no)"
    ):
        read_latent_table(str(tmp_path / "z.txt"))


@pytest.mark.parametrize("damage", ["empty", "an archive", "a cut archive", "text"])
def test_arrays_that_are_none_are_refused(tmp_path, damage):
    path = tmp_path / "z.npy"
    np.savez(tmp_path / "z.npz", z=np.array(TABLE))
    archive = (tmp_path / "z.npz").read_bytes()
    if damage == "text":
        np.save(path, np.array([["a", "b"]]))
    else:
        path.write_bytes({"empty": b"", "an archive": archive}.get(damage, archive[:40]))
    with pytest.raises(InputError, match=r"z\.npy"):
        read_latent_table(str(path))


def test_nothing_of_a_malicious_file_runs(tmp_path):
    mark = tmp_path / "ran"
    (tmp_path / "z.pkl").write_bytes(pickle.dumps(Hostile(mark)))
    np.save(tmp_path / "z.npy", np.array([Hostile(mark)], dtype=object))
    for name in ("z.pkl", "z.npy"):
        with pytest.raises(InputError, match=r"is refused|holds Python objects"):
            read_latent_table(str(tmp_path / name))
    assert not mark.exists()


def test_requests_are_numbered_with_the_latents_beside_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    requests = write_latents("out", np.array(TABLE))
    assert [r.uri for r in requests] == [str(tmp_path / "out" / f"vol_00{i}.mrc") for i in range(3)]
    np.testing.assert_array_equal([r.z for r in requests], TABLE)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "out" / "z_values.txt"), TABLE)


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    fill_disk(monkeypatch)
    with pytest.raises(StorageError, match=r"No room is left to write .*z_values\.txt"):
        write_latents(str(tmp_path), np.array(TABLE))
