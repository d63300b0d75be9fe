"""``raydrgn landscape`` on a small run."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from latents import finished_run
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_header, read_volume
from raydrgn.landscape import states as science

WORDS = ("--ksample", "12", "-M", "3", "--sample", "20", "--box", "8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landscape")
    np.save(folder / "ind.npy", np.arange(60)[::-1])
    return finished_run(folder, ind=str(folder / "ind.npy"))


def run(root, *words):
    return CliRunner().invoke(app, ["landscape", str(root), *words])


def test_every_particle_has_a_state_and_a_place(root, monkeypatch):
    monkeypatch.setattr(science, "HIDDEN", (16,))
    said = run(root, *WORDS)
    assert said.exit_code == 0, said.output
    folder = root / "landscape.2"
    table = pq.read_table(folder / "landscape.parquet").to_pydict()
    # those sampled, and those of the sketch, which are placed by their own volumes
    sketch = np.genfromtxt(folder / "sketch.csv", delimiter=",", names=True)
    made = np.array(table["volume_was_made"])
    rows = sketch["particle"].astype(int)
    assert 20 <= made.sum() <= 32
    assert made[rows].all()
    np.testing.assert_allclose(
        np.array(table["component1"])[rows], sketch["component1"], rtol=1e-4, atol=1e-6
    )
    assert table["original"] == list(range(60))[::-1]
    assert np.isfinite(table["component1"]).all()
    lists = [
        cryodrgn.read_indices(str(folder / "states" / f"state_{k:03d}.ind.pkl")) for k in range(3)
    ]
    assert sorted(np.concatenate(lists)) == list(range(60))  # in the original numbers
    for k in range(3):
        of_state = [n for n, s in zip(table["original"], table["state"], strict=True) if s == k]
        assert list(lists[k]) == of_state
    mean = folder / "states" / "vol_000.mrc"
    assert read_volume(str(mean))[0].shape == (8, 8, 8)
    mask, header = read_volume(str(folder / "mask.mrc"))
    assert header.pixel_size_angstrom == pytest.approx(read_header(str(mean)).pixel_size_angstrom)
    assert 0 < mask.mean() < 1
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 13

    # what is finished is kept: neither sketch nor sampled volumes are made again
    kept = np.load(folder / "sampled.npz")["scores"]
    partial = kept.copy()
    partial[3:] = np.nan
    np.savez(folder / "sampled.npz", scores=partial)
    before = mean.stat().st_mtime_ns
    assert run(root, *WORDS).exit_code == 0
    assert mean.stat().st_mtime_ns == before
    np.testing.assert_allclose(np.load(folder / "sampled.npz")["scores"], kept, atol=1e-4)


def test_a_sample_of_all_needs_no_regression(root, tmp_path):
    said = run(root, "--ksample", "12", "-M", "3", "--box", "8", "-o", str(tmp_path / "all"))
    assert said.exit_code == 0, said.output
    table = pq.read_table(tmp_path / "all" / "landscape.parquet").to_pydict()
    assert all(table["volume_was_made"])
    assert not (tmp_path / "all" / "regression.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ksample", "600"), "--ksample 600 is larger than the number of particles, 60"),
        (("--ksample", "5", "-M", "6"), "--states 6 must not be larger than --ksample 5"),
    ],
)
def test_what_cannot_be_is_said(root, words, said):
    with pytest.raises(ConfigError, match=said):
        raise run(root, *words).exception
