"""Estimates of particles: parts of workers, a table per epoch, and what is deleted."""

import numpy as np
import pytest

from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.run.directory import Position, RunDirectory
from raydrgn.run.estimates import EstimateFiles, read_estimates


@pytest.fixture
def files(tmp_path):
    return EstimateFiles(str(tmp_path), num_particles=5)


def parts(seed=0):
    table = np.random.default_rng(seed).normal(size=(5, 7)).astype(np.float32)
    return table, {0: table[:3], 3: table[3:]}


def test_parts_of_workers_make_a_table(files, tmp_path):
    table, of_workers = parts()
    for start, part in of_workers.items():
        files.save(Position(2, 0), start, part)
    np.testing.assert_array_equal(files.at(Position(2, 0)), table)
    found = read_estimates(RunDirectory(str(tmp_path)).estimates(1))
    np.testing.assert_array_equal(found["contrast"], table[:, 0])
    np.testing.assert_array_equal(found["rotation_z"], table[:, 6])


def test_within_an_epoch_no_table_is_published(files, tmp_path):
    for start, part in parts()[1].items():
        files.save(Position(2, 1), start, part)
    assert not list(tmp_path.glob("estimates.*"))


def test_missing_parts_are_named(files):
    files.save(Position(2, 0), 3, parts()[0][3:])
    with pytest.raises(RunDirectoryError, match="epoch 2, step 0"):
        files.at(Position(2, 0))


def test_only_the_parts_of_one_checkpoint_are_deleted(files, tmp_path):
    for position in (Position(2, 0), Position(3, 0)):
        for start, part in parts()[1].items():
            files.save(position, start, part)
    (tmp_path / "state" / "2.0.pt").touch()
    files.remove(lambda position: position == Position(2, 0))
    left = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert left == ["2.0.pt", "estimates.3.0.0.npy", "estimates.3.0.3.npy"]
    assert (tmp_path / "estimates.1.parquet").exists()


def test_a_damaged_table_is_refused_by_its_name(tmp_path):
    (tmp_path / "estimates.3.parquet").write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"estimates.3.parquet is not a whole Parquet file"):
        read_estimates(str(tmp_path / "estimates.3.parquet"))


def test_a_run_without_estimates_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="--method mfa"):
        read_estimates(str(tmp_path / "estimates.1.parquet"))
