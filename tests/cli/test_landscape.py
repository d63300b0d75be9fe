"""``raydrgn landscape`` on a small run."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from latents import finished_run
from raydrgn.cli.main import app
from raydrgn.decoding.options import VolumeOptions
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_header, read_volume, write_volume
from raydrgn.landscape import particles, regression
from raydrgn.run.reader import open_run
from raydrgn.workflows import landscape as workflow
from raydrgn.workflows.landscape import LandscapeSettings

WORDS = ("--ksample", "12", "-M", "3", "--sample", "20", "--box", "8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landscape")
    np.save(folder / "ind.npy", np.arange(60)[::-1])
    return finished_run(folder, ind=str(folder / "ind.npy"))


def run(root, *words):
    return CliRunner().invoke(app, ["landscape", str(root), *words])


def test_every_particle_has_a_state_and_a_place(root, monkeypatch):
    monkeypatch.setattr(regression, "HIDDEN", (16,))
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
    np.testing.assert_array_equal(sketch["original"], 59 - sketch["particle"])
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
    assert [name for name in table if name.startswith("component")] == [
        f"component{k + 1}" for k in range(int(mask.sum()))
    ]
    assert mask.sum() == 3  # voxels: the volumes have no more components
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 9

    # what is finished is kept: neither sketch nor sampled volumes are made again
    kept = np.load(folder / "sampled.npz")["coordinates"]
    partial = kept.copy()
    partial[3:] = np.nan
    np.savez(folder / "sampled.npz", coordinates=partial)
    before = mean.stat().st_mtime_ns
    assert run(root, *WORDS).exit_code == 0
    assert mean.stat().st_mtime_ns == before
    np.testing.assert_allclose(np.load(folder / "sampled.npz")["coordinates"], kept, atol=1e-4)


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
        (
            ("--ksample", "5", "-M", "3", "--sample", "5"),
            "--ksample 5 and --sample 5 give at most 10 volumes, .* Use --sample 20 or more",
        ),
    ],
)
def test_what_cannot_be_is_said(root, words, said):
    with pytest.raises(ConfigError, match=said):
        raise run(root, *words).exception


def test_the_usual_sketch_fits_the_number_of_particles():
    def sketched(num_particles, **values):
        made, count = LandscapeSettings(run="run", **values).for_size(num_particles)
        assert made.ksample == count
        return count

    assert [sketched(n) for n in (5000, 1000, 640, 60)] == [1000, 1000, 64, 10]
    assert sketched(60, states=20) == 20  # no fewer than states
    assert sketched(640, ksample=600) == 600  # what is given holds


def test_a_regression_from_few_volumes_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.setattr(particles, "MIN_VOLUMES", 40)
    with pytest.raises(InputError, match=r"volumes of \d+ particles, .* from 40 or more.*--sample"):
        raise run(root, *WORDS, "-o", str(tmp_path / "few")).exception


# What results are made from --------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Neither figures nor a network of full size: they take seconds."""
    monkeypatch.setattr("raydrgn.landscape.report.write_landscape", lambda *_: None)
    monkeypatch.setattr(regression, "HIDDEN", (16,))


@pytest.fixture
def copy(root, tmp_path):
    """A run of its own for tests that change it."""
    return shutil.copytree(root, tmp_path / "run", ignore=shutil.ignore_patterns("landscape.*"))


def settings(root, **values):
    few = {"ksample": 12, "states": 3, "sample": 20, "volumes": VolumeOptions(box=8)}
    return LandscapeSettings(run=str(root), **{**few, **values})


def test_results_of_another_epoch_never_come_together(copy, tmp_path, quick):
    out = str(tmp_path / "out")
    first = workflow.run(settings(copy, epoch=1, out=out))
    with pytest.raises(RunDirectoryError, match="results of epoch 1, not 2"):
        workflow.run(settings(copy, epoch=2, out=out))
    found = workflow.run(settings(copy, epoch=2, out=out, overwrite=True))
    alone = workflow.run(settings(copy, epoch=2))
    np.testing.assert_array_equal(found.sketch.components.axes, alone.sketch.components.axes)
    np.testing.assert_array_equal(found.particles.coordinates, alone.particles.coordinates)
    assert not np.array_equal(found.particles.coordinates, first.particles.coordinates)
    assert alone.folder.uri == str(copy / "landscape.2")


@pytest.mark.parametrize(("name", "what"), [("weights", "weights"), ("z", "latents")])
def test_a_run_that_was_trained_anew_is_refused(copy, quick, name, what):
    before = workflow.run(settings(copy))
    shutil.copy(copy / f"{name}.1.pkl", copy / f"{name}.2.pkl")
    with pytest.raises(RunDirectoryError, match=f"results of other {what}"):
        workflow.run(settings(copy))
    after = workflow.run(settings(copy, overwrite=True))
    assert not np.array_equal(after.sketch.components.mean, before.sketch.components.mean)


# A mask of one's own -----------------------------------------------------------------------------


def ball(path, *, box=16, radius=4, value=0.2, pixel_size=0.0):
    ticks = np.arange(-(box // 2), box // 2)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    inside = x**2 + y**2 + z**2 <= radius**2
    write_volume(str(path), np.float32(value) * inside, pixel_size_angstrom=pixel_size)
    return inside


def test_a_mask_of_any_scale_says_which_voxels_are_compared(copy, tmp_path, quick):
    inside = ball(tmp_path / "mask.mrc")
    of_run = {"volumes": VolumeOptions(), "mask": str(tmp_path / "mask.mrc")}
    found = workflow.run(settings(copy, **of_run))
    assert inside.sum() == 257
    np.testing.assert_array_equal(found.sketch.components.mask, inside)
    assert found.sketch.components.axes.shape[1] == 257
    assert found.sketch.threshold is None
    np.testing.assert_array_equal(
        read_volume(found.folder.at("mask.mrc"))[0], inside.astype(np.float32)
    )
    assert workflow.run(settings(copy, **of_run)).sketch.threshold is None  # as it was kept
    ball(tmp_path / "mask.mrc", radius=5)  # another mask under the same name
    with pytest.raises(RunDirectoryError, match="results with mask_checksum"):
        workflow.run(settings(copy, **of_run))


def test_a_mask_that_does_not_fit_is_refused_with_both_grids(copy, tmp_path, quick):
    mask, pixel_size = str(tmp_path / "mask.mrc"), open_run(str(copy)).pixel_size_angstrom
    ball(mask, value=0.0)
    with pytest.raises(InputError, match=r"mask\.mrc is empty: its highest value is 0"):
        workflow.run(settings(copy, mask=mask))
    ball(mask)
    message = r"box of 8 px .*, but the mask .*mask\.mrc has a box of 16 px .* Use --box 16"
    with pytest.raises(InputError, match=message):
        workflow.run(settings(copy, mask=mask))
    ball(mask, pixel_size=3.0)
    message = f"16 px with pixels of {pixel_size:.4g} Å, but the mask .* 16 px with pixels of 3 Å"
    with pytest.raises(InputError, match=message):
        workflow.run(settings(copy, mask=mask, volumes=VolumeOptions()))
    with pytest.raises(ConfigError, match="--mask and --threshold exclude each other"):
        settings(copy, mask=mask, threshold=0.1)
    assert not (copy / "landscape.2").exists()
