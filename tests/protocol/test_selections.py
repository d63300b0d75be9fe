"""Selections of a round are taken by original numbers, whatever file the particles come from."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from planned_round import planned_round
from raydrgn.cli.main import app
from raydrgn.errors import InputError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.selection import rows_of, select_indices
from raydrgn.io.sources import open_particles
from raydrgn.protocol import rounds, sequence
from raydrgn.protocol.completed_steps import Filtering
from raydrgn.protocol.decisions import ProjectInputs
from raydrgn.protocol.ensemble import export_particles
from raydrgn.protocol.project import Project
from raydrgn.protocol.sequence import _Sequence
from raydrgn.protocol.settings import ProtocolSettings, TrainingPlan
from raydrgn.remote.executor import IN_PROCESS
from raydrgn.remote.progress import silent
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.workflows.explore import ExploreSettings, _train_settings, _write_rows

BOX, KSAMPLE = 16, 3
CHOSEN = np.arange(5, 95, 2)[::-1]
"""Particles that the user begins with, by their rows of the file of all, in another order."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate(str(folder), Simulation(num_particles=100, box=BOX))
    cryodrgn.write_indices(str(folder / "chosen.pkl"), CHOSEN)
    table = open_particles(ParticleSource(particles=str(folder / "particles.star")))
    table.select(CHOSEN).write(str(folder / "chosen.parquet"))
    write_volume(
        str(folder / "map.mrc"),
        np.eye(BOX, dtype=np.float32)[None].repeat(BOX, axis=0),
        pixel_size_angstrom=1.0,
    )
    return folder


def source_of(data, kind):
    if kind == "ind":
        return ParticleSource(
            particles=str(data / "particles.star"), ind=str(data / "chosen.pkl")
        ).absolute()
    return ParticleSource(particles=str(data / "chosen.parquet")).absolute()


def begun(data, root, source):
    project = Project(str(root))
    project.decisions.begin(ProjectInputs(source=source, map=str(data / "map.mrc")))
    for name, value in (("seed", 0),):
        project.decisions.make(name, value, by="program", why="usual")
    return project


def select(project, source, *, made):
    """Train nothing, cluster the latents of a round, and drop one cluster of it."""
    table = open_particles(source)
    z = np.random.default_rng(0).normal(size=(len(table), 2))
    run = make_run(made, z, box=BOX, table=table)
    words = ["analyze", run.root, "--ksample", str(KSAMPLE), "--skip-umap", "--skip-volumes"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = {"epoch": 1, "particles": len(table)}
    trained = project.step("round 1", {}, lambda folder: (found, []), folder="round1")
    analyzed = project.step(
        "analysis of round 1", {}, lambda folder: ({"ksample": KSAMPLE}, []), folder="round1/a"
    )
    this = planned_round(TrainingPlan(box=BOX), source=source)
    selection = {"clusters": [1], "null": None}
    work = {"executor": IN_PROCESS, "progress": silent}
    selected = rounds.select_particles(project, this, trained, analyzed, selection, **work)
    proposal = project.step("proposal of round 1", {}, lambda folder: ({}, []))
    return Filtering(this, trained, analyzed, proposal, selected)


@pytest.mark.parametrize("kind", ["ind", "parquet"])
def test_the_next_round_takes_the_kept_particles_of_the_file_that_was_given(data, tmp_path, kind):
    source = source_of(data, kind)
    project = begun(data, tmp_path / "project", source)
    filtered = select(project, source, made=tmp_path / "project" / "round1")
    kept = cryodrgn.read_indices(filtered.selected.at("kept.ind.pkl"))
    assert 0 < len(kept) < len(CHOSEN)
    assert set(kept) < set(CHOSEN)

    # Without a smaller box, the next round trains from the file that the project was begun with.
    plan = TrainingPlan(box=BOX)
    settings = ProtocolSettings(out=project.root)
    steps = _Sequence(project, settings, [plan, plan], BOX, IN_PROCESS, silent)
    check = project.step("check", {}, lambda folder: ({"uninvert_data": False, "flip": False}, []))
    this, _ = steps._round(2, check, [filtered])
    table = open_particles(replace(this.source, ind=this.rows))
    assert sorted(table.column("index")) == sorted(kept)
    everything = open_particles(ParticleSource(particles=str(data / "particles.star")))
    expected = select_indices(everything, table.column("index"))
    np.testing.assert_array_equal(table.column("slice"), expected.column("slice"))


@pytest.mark.parametrize("kind", ["ind", "parquet"])
def test_classes_are_exported_by_original_numbers(data, tmp_path, kind):
    source = source_of(data, kind)
    numbers = np.array([93, 5, 41])
    cryodrgn.write_indices(str(tmp_path / "ind.pkl"), numbers)
    out = tmp_path / "particles.star"
    export_particles(source, open_particles(source), str(out))
    exported = open_particles(ParticleSource(particles=str(out)), need_images=False)
    everything = open_particles(ParticleSource(particles=str(data / "particles.star")))
    np.testing.assert_array_equal(
        exported.column("slice"), everything.select(numbers).column("slice")
    )


def test_training_on_a_selection_of_the_page_takes_the_rows_of_a_table(data, tmp_path):
    source = source_of(data, "parquet")
    table = open_particles(source)
    run = make_run(tmp_path / "run", np.eye(len(table), 2), box=BOX, table=table)
    run = replace(run, source=source)
    numbers = np.array([93, 5, 41])
    kept = tmp_path / "kept.ind.pkl"
    cryodrgn.write_indices(str(kept), numbers)
    assert _write_rows(run, str(tmp_path)) == []
    given = _train_settings(ExploreSettings(run=run.root), run, str(tmp_path), "mine")
    trained_on = open_particles(replace(source, ind=given["ind"]))
    assert sorted(trained_on.column("index")) == sorted(numbers)
    np.testing.assert_array_equal(rows_of(source, numbers), np.sort((93 - numbers) // 2))


def test_poses_of_the_selected_particles_alone_are_refused(data, tmp_path):
    table = open_particles(source_of(data, "ind"))
    poses = tmp_path / "poses.pkl"
    rotations = np.repeat(np.eye(3)[None], len(table), axis=0)
    cryodrgn.write_poses(str(poses), cryodrgn.Poses(rotations, np.zeros((len(table), 2))))
    settings = ProtocolSettings(
        particles=str(data / "particles.star"),
        ind=str(data / "chosen.pkl"),
        poses=str(poses),
        map=str(data / "map.mrc"),
        out=str(tmp_path / "project"),
    )
    words = r"poses\.pkl has 45 rows.*With --ind, a project needs poses and CTF of every particle"
    with pytest.raises(InputError, match=words):
        sequence.run(settings)
    assert not (tmp_path / "project").exists()


def test_a_round_without_junk_keeps_the_selection_of_the_round_before(data, tmp_path, monkeypatch):
    """Steps are stood for by what they find: junk in the first round, and none in the second."""
    project = begun(data, tmp_path / "project", source_of(data, "ind"))
    trained_on = []

    def step(name, result):
        def make(project, this, *args, **_):
            inputs = args[-1] if name == "selection" else {}
            found = result(this.number)
            return project.step(f"{name} {this.number}", inputs, lambda folder: (found, []))

        return make

    def train(project, this, **_):
        trained_on.append(this.rows)
        return step("training", lambda number: {"epoch": 1})(project, this)

    def proposal(number):
        clusters = [1] if number == 1 else []
        table = [["cluster"]] * (KSAMPLE + 1)
        return {"clusters": clusters, "null": None, "drop": len(clusters), "table": table,
                "nothing": 0}  # fmt: skip

    class Trained(Exception):
        """All rounds are."""

    def compare(*_, **__):
        raise Trained

    monkeypatch.setattr(sequence.round_training, "train_round", train)
    monkeypatch.setattr(rounds, "analyze_round", step("analysis", lambda number: {"ksample": 3}))
    monkeypatch.setattr(rounds, "propose_junk", step("proposal", proposal))
    monkeypatch.setattr(rounds, "require_enough", lambda *_: None)
    kept = {"kept": 30, "particles": 45}
    monkeypatch.setattr(rounds, "select_particles", step("selection", lambda number: kept))
    monkeypatch.setattr(sequence, "compare_rounds", compare)
    check = project.step("check", {}, lambda folder: ({"uninvert_data": False, "flip": False}, []))
    monkeypatch.setattr(_Sequence, "_check", lambda self: check)
    plan, settings = TrainingPlan(box=BOX), ProtocolSettings(out=project.root, accept=True)
    with pytest.raises(Trained):
        _Sequence(project, settings, [plan, plan, plan], BOX, IN_PROCESS, silent).run()
    rows = project.at("selection-1", "kept.rows_of_original.pkl")
    assert trained_on == [None, rows, rows]
    assert project.decisions["particles"] == "selection-1"
