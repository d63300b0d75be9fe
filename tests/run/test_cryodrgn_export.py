"""A run as cryoDRGN opens one."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from raydrgn.data.config import ImageConfig
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.model.config import ModelConfig
from raydrgn.run.config import RunConfig
from raydrgn.run.cryodrgn_export import export_run
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import Simulation, simulate

BOX, COUNT = 16, 12


@pytest.fixture
def run(tmp_path):
    """Makes a run directory, as training leaves it after one epoch, of some rows."""
    simulate(str(tmp_path / "d"), Simulation(num_particles=COUNT, box=BOX, snr=1.0))
    star = str(tmp_path / "d" / "particles.star")

    def make(rows=None):
        root = tmp_path / "run"
        root.mkdir()
        table = open_particles(ParticleSource(particles=star))
        table = table if rows is None else table.select(np.array(rows))
        config = RunConfig(
            source=ParticleSource(particles=star),
            data=ImageConfig(box=BOX, scale=3.5),
            pixel_size_angstrom=float(table.column("pixel_size_angstrom")[0]),
            model=ModelConfig(zdim=2, encoder_width=8, decoder_width=8),
        )
        (root / "config.yaml").write_text(config.to_yaml())
        table.write(str(root / "particles.parquet"))
        torch.save({"epoch": 1, "model_state_dict": {}}, root / "weights.1.pkl")
        latents = np.zeros((len(table), 2), dtype=np.float32)
        cryodrgn.write_latents(str(root / "z.1.pkl"), latents, latents)
        row = '{"epoch": 1, "total": 0.5, "reconstruction": 0.4, "kl": 2.0, "done": true}\n'
        (root / "metrics.jsonl").write_text(row)
        return str(root), table

    return make


def test_it_opens_as_a_run_of_cryodrgn_with_the_same_network(run, tmp_path):
    root, table = run()
    assert export_run(root, str(tmp_path / "out")) == [1]
    own, theirs = open_run(root), open_run(str(tmp_path / "out"))
    assert theirs.is_foreign
    assert (theirs.model, theirs.box, theirs.scale) == (own.model, own.box, own.scale)
    assert theirs.pixel_size_angstrom == pytest.approx(own.pixel_size_angstrom, rel=1e-6)
    poses = cryodrgn.read_poses(str(tmp_path / "out" / "poses.pkl"))
    np.testing.assert_array_equal(poses.rotations, table.rotations)
    raw = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert raw["lattice_args"] == {"D": BOX + 1, "extent": 0.5, "ignore_DC": True}
    assert raw["dataset_args"]["norm"] == [0.0, 3.5]
    assert raw["dataset_args"]["particles"].endswith("particles.star")
    assert "total loss = 0.500000" in (tmp_path / "out" / "run.log").read_text()


def test_images_that_cryodrgn_would_read_otherwise_are_a_warning(run, tmp_path, caplog):
    root, table = run()
    export_run(root, str(tmp_path / "usual"))
    assert "encode no images" not in caplog.text
    sizes = table.column("pixel_size_angstrom").copy()
    sizes[1] *= 1.1
    table.with_columns({"pixel_size_angstrom": sizes}).write(f"{root}/particles.parquet")
    export_run(root, str(tmp_path / "mixed"))
    assert "cryoDRGN does not take account of several pixel sizes" in caplog.text


def test_weights_and_latents_are_the_same_files(run, tmp_path):
    root, _ = run()
    export_run(root, str(tmp_path / "out"))
    export_run(root, str(tmp_path / "out"))  # again, over itself
    for name in ("weights.1.pkl", "z.1.pkl"):
        assert os.path.samefile(Path(root) / name, tmp_path / "out" / name)


def content(folder):
    """Return what every file of a folder holds, links followed."""
    return {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.is_file()}


def refused(root, out, match):
    """Check that an export is refused, and that nothing in its folder has changed."""
    before = content(out)
    with pytest.raises(ConfigError, match=match):
        export_run(root, str(out))
    assert content(out) == before


def test_a_folder_with_a_run_is_not_touched(run, tmp_path):
    root, _ = run()
    other = tmp_path / "other"
    shutil.copytree(root, other)
    refused(root, other, "not of an export")


def test_a_folder_with_a_run_of_cryodrgn_is_not_touched(run, tmp_path):
    root, _ = run()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "weights.1.pkl").write_bytes(b"their weights")
    (theirs / "config.yaml").write_text("cmd: [cryodrgn, train_vae]\n")
    refused(root, theirs, "not of an export")


def test_a_folder_with_other_files_is_not_touched(run, tmp_path):
    root, _ = run()
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    refused(root, out, "notes.txt")
    (out / "notes.txt").unlink()
    export_run(root, str(out))
    (out / "notes.txt").write_text("mine")
    refused(root, out, "notes.txt")


def test_an_export_goes_on_with_the_epochs_that_were_added(run, tmp_path):
    root, _ = run()
    export_run(root, str(tmp_path / "out"))
    for name in ("weights", "z"):
        shutil.copy(Path(root) / f"{name}.1.pkl", Path(root) / f"{name}.2.pkl")
        (Path(root) / f"{name}.pkl").write_bytes((Path(root) / f"{name}.2.pkl").read_bytes())
    assert export_run(root, str(tmp_path / "out")) == [1, 2]
    assert os.path.samefile(Path(root) / "weights.2.pkl", tmp_path / "out" / "weights.2.pkl")
    renamed = Path(root).rename(tmp_path / "renamed")
    assert export_run(str(renamed), str(tmp_path / "out")) == [1, 2]


def test_an_export_of_another_run_is_not_replaced(run, tmp_path):
    root, _ = run()
    export_run(root, str(tmp_path / "out"))
    weights = Path(root) / "weights.1.pkl"
    weights.unlink()  # trained again under the same name
    torch.save({"epoch": 1, "model_state_dict": {"w": torch.ones(1)}}, weights)
    refused(root, tmp_path / "out", "export of another run")


def test_a_training_that_cryodrgn_went_on_with_in_the_folder_is_kept(run, tmp_path):
    root, _ = run()
    out = tmp_path / "out"
    export_run(root, str(out))
    (out / "weights.1.pkl").unlink()
    (out / "weights.1.pkl").write_bytes(b"their weights")
    refused(root, out, "weights.1.pkl, which the export did not write or which has changed")


def test_links_are_not_followed_to_other_files(run, tmp_path):
    root, _ = run()
    valuable = tmp_path / "valuable.pkl"
    valuable.write_bytes(b"weights of another run")
    out = tmp_path / "out"
    out.mkdir()
    (out / "weights.1.pkl").symlink_to(valuable)
    refused(root, out, "not of an export")
    (out / "weights.1.pkl").unlink()
    export_run(root, str(out))
    (out / "weights.1.pkl").unlink()
    (out / "weights.1.pkl").symlink_to(valuable)
    refused(root, out, "weights.1.pkl")
    assert valuable.read_bytes() == b"weights of another run"


def test_symbolic_links_to_the_run_itself_are_an_export_too(run, tmp_path, monkeypatch):
    def no_hard_links(*_):
        raise OSError("not on this disk")

    root, _ = run()
    monkeypatch.setattr(os, "link", no_hard_links)
    export_run(root, str(tmp_path / "out"))
    assert (tmp_path / "out" / "weights.1.pkl").is_symlink()
    assert export_run(root, str(tmp_path / "out")) == [1]


def test_the_run_under_another_name_is_the_run_itself(run, tmp_path):
    root, _ = run()
    (tmp_path / "link").symlink_to(root)
    refused(root, tmp_path / "link", "the run itself")


def test_an_export_that_was_interrupted_goes_on(run, tmp_path, monkeypatch):
    root, _ = run()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("raydrgn.run.cryodrgn_export._link", stop)
        with pytest.raises(KeyboardInterrupt):
            export_run(root, str(tmp_path / "out"))
    assert export_run(root, str(tmp_path / "out")) == [1]


def test_a_run_of_a_selection_lists_just_its_particles(run, tmp_path):
    root, table = run([7, 3, 5])
    export_run(root, str(tmp_path / "out"))
    raw = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert raw["dataset_args"]["ind"] is None
    listed = open_particles(ParticleSource(particles=raw["dataset_args"]["particles"]))
    np.testing.assert_array_equal(listed.column("slice"), table.column("slice"))
    np.testing.assert_array_equal(
        cryodrgn.read_indices(str(tmp_path / "out" / "ind.pkl")), [7, 3, 5]
    )


def test_what_cannot_be_exported_is_refused(run, tmp_path):
    root, _ = run()
    with pytest.raises(ConfigError, match="the run itself"):
        export_run(root, root)
    with pytest.raises(ConfigError, match="not on this machine"):
        export_run(root, "memory://out")
    export_run(root, str(tmp_path / "out"))
    with pytest.raises(RunDirectoryError, match="is a run of cryoDRGN"):
        export_run(str(tmp_path / "out"), str(tmp_path / "again"))
    (Path(root) / "z.1.pkl").unlink()
    with pytest.raises(RunDirectoryError, match="no finished epoch"):
        export_run(root, str(tmp_path / "empty"))


def test_particles_that_were_left_out_at_the_end_are_not_listed(run, tmp_path):
    """As `train --drop-bad` leaves them out, which the source does not tell."""
    root, table = run(range(COUNT - 1))
    export_run(root, str(tmp_path / "out"))
    raw = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    listed = open_particles(ParticleSource(particles=raw["dataset_args"]["particles"]))
    assert len(listed) == len(table) == COUNT - 1


def test_phases_that_are_flipped_are_a_warning(run, tmp_path, caplog):
    root, table = run()
    flipped = table.with_columns({"phase_flipped": np.ones(COUNT, dtype=bool)})
    flipped.write(f"{root}/particles.parquet")
    export_run(root, str(tmp_path / "out"))
    assert "cryoDRGN does not undo that phases were flipped" in caplog.text
