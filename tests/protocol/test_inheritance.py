"""What commands take from a project, and what the user gives instead."""

import json
import logging
import shutil
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from finished_run import make_run
from raydrgn.cli.command import command
from raydrgn.cli.main import app
from raydrgn.cli.submission import check_command
from raydrgn.decoding.options import VolumeOptions
from raydrgn.errors import ConfigError, InputError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.protocol.decisions import file_identity
from raydrgn.protocol.inheritance import inherited
from raydrgn.settings import Setting, setting_fields
from raydrgn.workflows.analyze import AnalyzeSettings
from raydrgn.workflows.backproject import BackprojectSettings
from raydrgn.workflows.convergence import ConvergenceSettings
from raydrgn.workflows.montage import MontageSettings
from raydrgn.workflows.occupancy_score import OccupancyScoreSettings
from raydrgn.workflows.select import SelectRandomSettings
from raydrgn.workflows.sweep import SweepSettings
from raydrgn.workflows.train_settings import TrainSettings
from raydrgn.workflows.volumes import VolumesSettings


def decided(value, by="program"):
    return {"value": value, "by": by, "why": "measured"}


@pytest.fixture
def project(tmp_path):
    """A project of dark particles of the other hand, of which some are dropped."""
    root = tmp_path / "project"
    (root / "deep" / "er").mkdir(parents=True)
    decisions = {
        "contrast": decided("dark"),
        "hand": decided("flipped"),
        "drop bad images": decided(True, by="user"),
        "seed": decided(3, by="user"),
        "particles": decided("selection1"),
        "epoch of round 1": decided({"run": "round1", "epoch": 7, "of": 10}),
    }
    inputs = {
        "particles": str(tmp_path / "particles.star"),
        "poses": str(tmp_path / "poses.pkl"),
        "datadir": str(tmp_path / "stacks"),
        "map": str(tmp_path / "map.mrc"),
    }
    (tmp_path / "particles.star").write_text("of the project")
    checksums = {"particles": file_identity(inputs["particles"])}
    content = {"inputs": inputs, "checksums": checksums, "decisions": decisions}
    (root / "project.yaml").write_text(yaml.safe_dump(content))
    steps = {
        name: [{"folder": folder, "key": "k", "inputs": {}, "after": {}}]
        for name, folder in (("round 1", "round1"), ("particles of 64 px", "particles.64"))
    }
    (root / "steps.json").write_text(json.dumps(steps))
    return root


def test_the_projects_particles_are_read_as_it_reads_them(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"particles": "particles.star", "out": "maps"}
    found = inherited(BackprojectSettings, values, ["particles", "out"], str(project))
    assert found == {
        "poses": str(tmp_path / "poses.pkl"),
        "datadir": str(tmp_path / "stacks"),
        "ind": str(project / "selection1" / "kept.rows_of_original.pkl"),
        "drop_bad": True,
        "uninvert_data": True,
        "flip": True,
    }
    found = inherited(TrainSettings, values, ["particles", "out"], str(project))
    assert (found["uninvert_data"], found["seed"], found["drop_bad"]) == (True, 3, True)
    assert found["ind"].endswith("kept.rows_of_original.pkl")
    found = inherited(MontageSettings, values, ["particles", "out"], str(project))
    assert set(found) == {"datadir", "ind", "uninvert_data"}


def trained_on(particles, folder):
    run = make_run(folder, np.eye(4, 2))
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("/data/p.star", str(particles)))
    return {"run": run.root}


def test_only_the_projects_particles_and_runs_on_them_take_without_being_asked(
    project, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(project)
    caplog.set_level(logging.INFO)
    copy, other = tmp_path / "copy.star", tmp_path / "other.star"
    shutil.copy(tmp_path / "particles.star", copy)
    other.write_text("of something else")
    assert inherited(SweepSettings, {"particles": str(copy)}, [], None)["uninvert_data"]
    own = trained_on(project / "particles.64" / "particles.parquet", project / "mine")
    assert inherited(AnalyzeSettings, own, [], None) == {"flip": True}
    assert inherited(VolumesSettings, {**own, "particles": "0,1"}, [], None) == {"flip": True}
    caplog.clear()
    for_other = trained_on(other, project / "theirs")
    assert inherited(AnalyzeSettings, for_other, [], None) == {}
    assert inherited(SweepSettings, {"particles": str(other)}, [], None) == {}
    assert [record.getMessage() for record in caplog.records] == [
        f"project {project}: nothing is taken, since {what} is not of its particles; to take "
        f"{words}, give --project {project}"
        for what, words in (
            (project / "theirs", "--flip"),
            (other, "--uninvert-data, --drop-bad, --seed 3"),
        )
    ]


def test_other_particles_have_the_contrast_but_not_the_files(project, tmp_path):
    values = {"particles": str(tmp_path / "other.star"), "out": "maps"}
    found = inherited(SweepSettings, values, [], str(project))
    assert found == {"uninvert_data": True, "drop_bad": True, "seed": 3}
    smaller = {"particles": str(project / "particles.64" / "particles.parquet")}
    found = inherited(TrainSettings, smaller, [], str(project))
    assert found["ind"] == str(project / "selection1" / "kept.rows.pkl")
    assert "poses" not in found
    assert inherited(SelectRandomSettings, values, [], str(project)) == {"seed": 3}


def test_the_epoch_is_that_of_the_round_and_convergence_looks_at_all(project, tmp_path):
    of_round = {"run": str(project / "round1")}
    assert inherited(AnalyzeSettings, of_round, [], str(project)) == {"epoch": 7, "flip": True}
    of_other = {"run": str(tmp_path / "run")}
    assert inherited(AnalyzeSettings, of_other, [], str(project)) == {"flip": True}
    assert inherited(ConvergenceSettings, of_round, [], str(project)) == {"flip": True}


def test_nothing_is_taken_where_a_run_goes_on_or_maps_are_given(project):
    assert not inherited(TrainSettings, {"out": "run", "resume": True}, [], str(project))
    assert not inherited(OccupancyScoreSettings, {"volumes": "maps"}, [], str(project))


def test_what_the_user_gives_holds_and_the_log_has_one_line(project, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    values = {"particles": str(tmp_path / "other.star"), "out": "run", "seed": 0}
    found = inherited(TrainSettings, values, ["seed"], str(project))
    assert "seed" not in found
    [record] = caplog.records
    assert record.getMessage() == (
        f"project {project}: takes --uninvert-data, --drop-bad, though {tmp_path}/other.star is "
        "not of its particles; --seed 0 is used as given, not as the project has it"
    )


@dataclass(frozen=True, kw_only=True)
class Example:
    """Settings of a command on a run, or on particles."""

    run: Annotated[str, Setting("Run directory.", is_argument=True)]
    epoch: Annotated[int | None, Setting("Epoch.", is_argument=True, project="epoch")] = None
    volumes: VolumeOptions = field(default_factory=VolumeOptions)


def example(*words):
    seen = []

    @command(Example)
    def body(settings: Example) -> None:
        """Do something."""
        seen.append((settings.epoch, settings.volumes.flip))

    other = typer.Typer()
    other.command()(body)
    result = CliRunner().invoke(other, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return seen[0]


def test_a_command_belongs_to_the_project_above_its_folder(project, tmp_path, monkeypatch):
    run = str(project / "round1")
    monkeypatch.chdir(tmp_path)
    assert example(run) == (None, False)
    assert example(run, "--project", "project") == (7, True)
    monkeypatch.chdir(project / "deep" / "er")
    assert example(run) == (7, True)
    assert example(run, "5") == (5, True)
    assert example(run, "--project", "none") == (None, False)
    (project / "deep" / "project.yaml").write_text("name: of another program\n")
    assert example(run) == (7, True)
    (project / "deep" / "project.yaml").write_text("not: [yaml")
    assert example(run) == (7, True)


def test_a_folder_without_a_project_is_refused_and_a_damaged_one_too(project, tmp_path):
    with pytest.raises(ConfigError, match=r"is not a project: it has no project\.yaml"):
        example("run", "--project", str(tmp_path))
    content = yaml.safe_load((project / "project.yaml").read_text())
    content["decisions"]["hand"]["by"] = "chance"
    (project / "project.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="`by` is program or user, not chance"):
        example("run", "--project", str(project))


def commands(group=None, words=()):
    group = group or typer.main.get_command(app)
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from commands(found, (*words, name))
        else:
            yield " ".join((*words, name)), {option for p in found.params for option in p.opts}


def test_every_command_with_what_a_project_decides_has_the_option():
    decides = {"--uninvert-data", "--flip", "--drop-bad", "--poses", "--datadir", "--ind"}
    not_of_one = {"protocol", "relocate"}
    for words, options in commands():
        if options & decides and words not in not_of_one:
            assert "--project" in options, words
    assert "--project" not in dict(commands())["simulate"]


def test_settings_of_the_same_name_take_the_same_from_a_project():
    names = {f.name for f in setting_fields(ParticleSource)} - {"particles"}
    for settings in (TrainSettings, BackprojectSettings, SweepSettings, MontageSettings):
        for found in setting_fields(settings):
            if found.name in {*names, "uninvert_data", "flip", "drop_bad"}:
                assert found.setting.project == found.name, (settings, found.name)


def test_a_job_can_name_its_project():
    given = check_command(["analyze", "round1", "--project", "project"])
    assert given["project"] == "project"
