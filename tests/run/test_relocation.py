"""Runs whose particle images, or whose directory, have moved."""

import os
import shutil

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from plain import SMALL, assemble, assert_same_run, fit
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.sources import open_particles
from raydrgn.notebook import open_run
from raydrgn.run.config import RunConfig
from raydrgn.run.relocation import SAMPLE_KEY, relocate
from raydrgn.run.status import find_run
from raydrgn.simulation.dataset import Simulation, simulate
from raydrgn.training import prepare_run, reduction
from raydrgn.training.loop import Position
from raydrgn.training.prepare_run import RunRequest
from raydrgn.workflows import train as train_workflow
from raydrgn.workflows.train_settings import TrainSettings


@pytest.fixture(autouse=True)
def _frequent_reports(monkeypatch):
    monkeypatch.setattr(reduction, "REDUCE_SECONDS", 0.0)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "first"
    simulate(str(folder), Simulation(num_particles=96, box=16, snr=1.0, seed=5))
    return folder


def start(data, root, *, epochs=2, particles=None):
    """Prepare a run and write what the command writes before training."""
    source = ParticleSource(particles=str(particles or data / "particles.star"))
    values = {**SMALL, "train.epochs": epochs}
    run = prepare_run.begin(RunRequest(root=str(root), source=source, values=values))
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.yaml").write_text(run.config.to_yaml())
    run.table.write(str(root / "particles.parquet"))
    return run


def resume(root):
    status = find_run(str(root))
    return prepare_run.resume(RunRequest(root=str(root), source=None), status)


def stack_of(data):
    [stack] = data.glob("*.mrcs")
    return stack


def move(data, folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(data, folder)
    return folder


def snapshot(root):
    return {name: (root / name).read_bytes() for name in ("config.yaml", "particles.parquet")}


def test_training_goes_on_bit_equal_where_the_images_are_now(data, tmp_path):
    fit(start(data, tmp_path / "undisturbed"))
    root = tmp_path / "run"
    parts = assemble(start(data, root), on_progress=lambda progress: progress.epoch == 2)
    assert not parts.loop.run(Position(1, 0))
    now = move(data, tmp_path / "disk2" / "first")

    message = r"run was trained on the stack .*mrcs, which does not exist \(1 of 1 .* missing\)"
    with pytest.raises(RunDirectoryError, match=message) as error:
        resume(root)
    command, folder = str(error.value).rsplit("run: raydrgn ", 1)[1].split(" FOLDER")[0], now
    done = CliRunner().invoke(app, [*command.split(), str(folder)])
    assert done.exit_code == 0, done.output
    assert "1 of 1 stacks" in done.output

    config = RunConfig.read(str(root / "config.yaml"))
    assert config.source.datadir == str(now)
    assert ParticleTable.read(str(root / "particles.parquet")).stacks == [str(stack_of(now))]
    assert "1 of 1 stacks are at another place now" in (root / "run.log").read_text()
    fit(resume(root))
    assert_same_run(tmp_path / "undisturbed", root, 2)


def test_a_run_directory_that_was_renamed_goes_on_by_itself(data, tmp_path):
    fit(start(data, tmp_path / "undisturbed"))
    parts = assemble(start(data, tmp_path / "old"), on_progress=lambda p: p.epoch == 2)
    assert not parts.loop.run(Position(1, 0))
    root = tmp_path / "elsewhere" / "new [name]"
    root.parent.mkdir()
    shutil.move(tmp_path / "old", root)
    fit(resume(root))
    assert_same_run(tmp_path / "undisturbed", root, 2)


def test_a_finished_run_is_finished_without_its_images(data, tmp_path):
    fit(start(data, tmp_path / "run", epochs=1))
    move(data, tmp_path / "moved")
    result = train_workflow.run(TrainSettings(out=str(tmp_path / "run"), resume=True))
    assert result.finished
    assert not result.trained


@pytest.mark.parametrize("with_particles", [False, True])
def test_train_takes_the_folder_too(data, tmp_path, with_particles, monkeypatch):
    """``train --resume --datadir``, alone or added to the first command, does the same."""
    root = tmp_path / "run"
    start(data, root)
    star = tmp_path / "kept.star"
    config = RunConfig.read(str(root / "config.yaml"))
    shutil.copy(data / "particles.star", star)
    raw = config.to_dict()
    raw["source"]["particles"] = str(star)
    (root / "config.yaml").write_text(RunConfig.from_dict(raw).to_yaml())
    now = move(data, tmp_path / "moved")
    seen = []
    monkeypatch.setattr(prepare_run, "wanted", lambda config, _: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):  # training itself needs Ray
        train_workflow.run(
            TrainSettings(
                out=str(root),
                resume=True,
                datadir=str(now),
                particles=str(star) if with_particles else None,
            )
        )
    assert seen[0].source.datadir == str(now)
    assert ParticleTable.read(str(root / "particles.parquet")).stacks == [str(stack_of(now))]


def test_other_images_are_refused_and_the_run_is_left_as_it_was(data, tmp_path):
    root = tmp_path / "run"
    start(data, root)
    before = snapshot(root)
    now = move(data, tmp_path / "disk2" / "first")
    with mrcfile.open(stack_of(now), mode="r+") as stack:
        stack.data[-1, 3, 3] += 1
    with pytest.raises(RunDirectoryError, match=r"other images .*their pixels differ"):
        relocate(str(root), datadir=str(now))
    with mrcfile.new(stack_of(now), np.zeros((96, 24, 24), "f4"), overwrite=True) as stack:
        stack.set_image_stack()
    with pytest.raises(RunDirectoryError, match=r"images of 24 px, .*trained on images of 16 px"):
        relocate(str(root), datadir=str(now))
    with mrcfile.new(stack_of(now), np.zeros((5, 16, 16), "f4"), overwrite=True) as stack:
        stack.set_image_stack()
    with pytest.raises(InputError, match="which has 5 slices"):
        relocate(str(root), datadir=str(now))
    with pytest.raises(InputError, match="is not a folder"):
        relocate(str(root), datadir=str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="which is at none of"):
        relocate(str(root), datadir=str(tmp_path / "empty"))
    assert snapshot(root) == before


def test_a_particle_file_names_the_stacks_anew(data, tmp_path):
    root = tmp_path / "run"
    start(data, root)
    now = move(data, tmp_path / "project")
    os.rename(stack_of(now), now / "renamed.mrcs")
    star = now / "particles.star"
    text = star.read_text().replace("particles.mrcs", "renamed.mrcs")
    star.write_text(f"# a comment\n{text}")
    found = relocate(str(root), datadir=None, particles=str(star))
    assert (found.num_moved, found.num_stacks, found.is_compared) == (1, 1, True)
    assert resume(root).table.stacks == [str(now / "renamed.mrcs")]
    assert resume(root).config.source.particles == str(star)
    out = tmp_path / "out.star"
    said = CliRunner().invoke(app, ["export", "star", str(root), "-o", str(out)])
    assert said.exit_code == 0, said.output
    assert "# a comment" in out.read_text()  # its own text, not one made anew

    lines = star.read_text().splitlines(keepends=True)
    rows = [number for number, line in enumerate(lines) if "@" in line]
    lines[rows[3]], lines[rows[4]] = lines[rows[4]], lines[rows[3]]
    star.write_text("".join(lines))
    with pytest.raises(RunDirectoryError, match=r"particle 3 \(from 0\) is image 5 .*but image 4"):
        relocate(str(root), datadir=None, particles=str(star))


def test_a_table_of_a_selection_names_the_stacks_anew(data, tmp_path):
    """Rows of the table have the numbers of the original set, as the particles of the run have."""
    kept = np.arange(95, 5, -2)
    everything = open_particles(ParticleSource(particles=str(data / "particles.star")))
    some = tmp_path / "some.parquet"
    everything.select(kept).write(str(some))
    start(data, tmp_path / "run", particles=some)
    now = move(data, tmp_path / "project")
    moved = everything.with_columns({"stack": [str(stack_of(now))] * len(everything)})
    moved.select(np.sort(kept)).write(str(tmp_path / "moved.parquet"))
    found = relocate(str(tmp_path / "run"), datadir=None, particles=str(tmp_path / "moved.parquet"))
    assert (found.num_moved, found.num_stacks) == (1, 1)
    table = resume(tmp_path / "run").table
    assert table.stacks == [str(stack_of(now))]
    np.testing.assert_array_equal(table.column("index"), kept)

    moved.select(kept[1:]).write(str(tmp_path / "fewer.parquet"))
    with pytest.raises(RunDirectoryError, match=r"44 particles, and not particle 95 \(from 0\)"):
        relocate(str(tmp_path / "run"), datadir=None, particles=str(tmp_path / "fewer.parquet"))


def test_a_run_without_a_checksum_is_compared_by_number_and_box(data, tmp_path):
    root = tmp_path / "run"
    run = start(data, root)
    metadata = {key: value for key, value in run.table.metadata.items() if key != SAMPLE_KEY}
    ParticleTable(run.table.table.replace_schema_metadata(metadata)).write(
        str(root / "particles.parquet")
    )
    now = move(data, tmp_path / "moved")
    done = CliRunner().invoke(app, ["relocate", str(root), "--datadir", str(now)])
    assert done.exit_code == 0, done.output
    assert "no checksum of its images" in done.output


def test_images_of_a_run_name_the_command(data, tmp_path):
    root = tmp_path / "run"
    start(data, root)
    move(data, tmp_path / "moved")
    with pytest.raises(RunDirectoryError, match=r"run: raydrgn relocate .*run --datadir FOLDER"):
        open_run(str(root)).images(np.arange(2))


def test_runs_of_cryodrgn_are_left_as_they_are(tmp_path):
    (tmp_path / "config.yaml").write_text("model_args: {}\n")
    with pytest.raises(RunDirectoryError, match=r"cryoDRGN's, whose files are left as they are"):
        relocate(str(tmp_path), datadir=str(tmp_path))
    with pytest.raises(RunDirectoryError, match="absent does not exist; check the path of the run"):
        relocate(str(tmp_path / "absent"), datadir=str(tmp_path))


def test_what_belongs_to_particles_is_refused_without_them(tmp_path):
    with pytest.raises(ConfigError, match="--poses belongs to PARTICLES"):
        TrainSettings(out=str(tmp_path), resume=True, poses="poses.pkl")
