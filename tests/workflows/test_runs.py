"""Runs below a folder: what they were trained on, how far they are, what came of what."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from raydrgn.cli.main import app
from raydrgn.errors import StorageError
from raydrgn.run.config import RunConfig
from raydrgn.run.manifest import FileRecord, Manifest
from raydrgn.workflows import runs as workflow
from raydrgn.workflows.runs import RunsSettings

Z = np.zeros((60, 2))
NOTHING = FileRecord(0, "")


def finish(folder, epochs, **changes):
    """Make a run with a manifest of finished epochs, and changed settings."""
    make_run(folder, Z)
    config = RunConfig.read(str(folder / "config.yaml")).with_values(
        {name: value for name, value in changes.items() if name != "source.ind"}
    )
    text = config.to_yaml()
    if "source.ind" in changes:
        text = text.replace("ind: null", f"ind: {changes['source.ind']}")
    (folder / "config.yaml").write_text(text)
    finished = {number: {"weights": NOTHING, "latents": NOTHING} for number in range(1, epochs + 1)}
    Manifest(epochs=finished).write(str(folder / "manifest.json"))
    rows = [
        {"epoch": n, "total": 1 / n, "reconstruction": 0.0, "kl": 0.0, "step": 1, "done": True}
        for n in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def project(tmp_path):
    """A run, one with its weights on its selection, one that is broken, and what is no run."""
    finish(tmp_path / "first", 4, **{"train.epochs": 20})
    (tmp_path / "first" / "filter").mkdir()
    (tmp_path / "first" / "filter" / "kept.ind.pkl").write_bytes(b"")
    for epoch, converged in ((3, "yes"), (4, "no")):
        folder = tmp_path / "first" / f"convergence.{epoch}"
        folder.mkdir()
        (folder / "verdict.csv").write_text(
            f"criterion,converged,from_epoch,explanation\ntotal loss,{converged},2,it is\n"
        )
    evaluation = tmp_path / "first" / "evaluate.4"
    evaluation.mkdir()
    (evaluation / "evaluation.json").write_text(json.dumps({"fsc": 0.95, "fsc_masked": 0.97}))
    (tmp_path / "first" / "convergence.5").mkdir()  # begun, without a verdict yet
    changes = {
        "train.load": str(tmp_path / "first" / "weights.4.pkl"),
        "source.ind": str(tmp_path / "first" / "filter" / "kept.ind.pkl"),
    }
    finish(tmp_path / "sub" / "second", 0, **changes)
    finish(tmp_path / "sub" / "third", 1)
    (tmp_path / "sub" / "third" / "manifest.json").write_text("{")
    (tmp_path / "maps").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    return tmp_path


def test_results_that_are_damaged_do_not_end_the_list(project, caplog):
    (project / "first" / "convergence.4" / "verdict.csv").write_text("criterion,converged\nloss\n")
    (project / "first" / "evaluate.4" / "evaluation.json").write_text("{}")
    first, *_ = workflow.run(RunsSettings(folder=str(project))).runs
    assert (first.verdict.epoch, first.verdict.is_converged) == (3, True)
    assert first.score is None
    assert "verdict.csv is damaged" in caplog.text


@pytest.mark.parametrize("answer", ["too early", "not judged"])
def test_a_run_that_no_criterion_judges_is_not_called_converged(project, answer):
    verdict = project / "first" / "convergence.4" / "verdict.csv"
    verdict.write_text(f"criterion,converged,from_epoch,explanation\ntotal loss,{answer},,\n")
    first, *_ = workflow.run(RunsSettings(folder=str(project))).runs
    assert first.verdict.short() == "not converged at 4"


def test_each_run_is_listed_with_what_became_of_it(project):
    first, second, third = workflow.run(RunsSettings(folder=str(project))).runs
    assert first.summary.root == str(project / "first")
    assert first.summary.particles == "/data/p.star"
    assert (first.summary.num_particles, first.summary.box, first.summary.zdim) == (60, 8, 2)
    assert (first.summary.epochs_done, first.summary.epochs) == (4, 20)
    assert first.summary.loss == 0.25
    assert (first.verdict.epoch, first.verdict.is_converged) == (4, False)
    assert first.verdict.open_criteria == ["total loss"]
    assert (first.score.epoch, first.score.fsc) == (4, 0.95)
    assert first.summary.origins == []
    assert (second.summary.epochs_done, second.verdict, second.score) == (0, None, None)
    assert [(origin.run, origin.how) for origin in second.summary.origins] == [
        (first.summary.root, "weights of epoch 4"),
        (first.summary.root, "selection filter/kept.ind.pkl"),
    ]
    assert "manifest.json is damaged" in third.summary.problem


def test_the_command_prints_lines_and_json(project):
    printed = CliRunner().invoke(app, ["runs", str(project)]).stdout.splitlines()
    assert printed[0].split()[:3] == ["run", "trained", "on"]
    assert printed[1].split() == [
        "first", "/data/p.star", "(60)", "8", "2", "4/20", "0.2500", "not", "converged", "at", "4",
        "FSC", "0.950", "(epoch", "4)",
    ]  # fmt: skip
    assert "first (weights of epoch 4), first (selection filter/kept.ind.pkl)" in printed[2]
    found = json.loads(CliRunner().invoke(app, ["runs", str(project), "--json"]).stdout)
    assert [entry["root"] for entry in found] == [
        str(project / name) for name in ("first", "sub/second", "sub/third")
    ]
    assert found[0]["convergence"] == {
        "epoch": 4, "is_converged": False, "open_criteria": ["total loss"],
    }  # fmt: skip
    assert found[1]["origins"][0] == {"run": str(project / "first"), "how": "weights of epoch 4"}


def test_a_run_itself_and_an_empty_folder(project):
    [found] = workflow.run(RunsSettings(folder=str(project / "first"))).runs
    assert found.summary.root == str(project / "first")
    assert workflow.run(RunsSettings(folder=str(project / "maps"))).runs == []
    assert "no runs below" in CliRunner().invoke(app, ["runs", str(project / "maps")]).stderr
    with pytest.raises(StorageError, match="none does not exist"):
        workflow.run(RunsSettings(folder=str(project / "none")))
    (project / "file").touch()
    with pytest.raises(StorageError, match="is not a folder"):
        workflow.run(RunsSettings(folder=str(project / "file")))


def test_a_link_to_a_run_on_another_disk_is_listed(project):
    (project / "maps" / "linked").symlink_to(project / "first")
    [found] = workflow.run(RunsSettings(folder=str(project / "maps"))).runs
    assert found.summary.root == str(project / "maps" / "linked")
    roots = [run.summary.root for run in workflow.run(RunsSettings(folder=str(project))).runs]
    assert str(project / "maps" / "linked") not in roots  # the run itself is there


def test_a_url_is_listed_like_a_folder(project):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.put(str(project / "first"), "/bucket/first", recursive=True)
    [found] = workflow.run(RunsSettings(folder="memory://bucket")).runs
    assert found.summary.root == "memory://bucket/first"
    assert (found.summary.num_particles, found.summary.epochs_done) == (60, 4)
    assert found.score.fsc == 0.95
    fs.rm("/bucket", recursive=True)
