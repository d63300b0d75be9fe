"""``train --analyze``: the analysis at the end of training, and when it cannot be made."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from plain import small_run
from raydrgn.cli.main import app
from raydrgn.training.result import TrainResult
from raydrgn.training.start import start_training
from raydrgn.workflows import analyze as analyze_workflow
from raydrgn.workflows.analyze import AnalyzeSettings

NETWORK = [
    *("--zdim", "2", "--enc-dim", "16", "--dec-dim", "16", "--enc-layers", "1"),
    *("--dec-layers", "1", "--epochs", "1", "--cpus-per-worker", "1", "--workers", "1"),
]


@pytest.fixture
def analyses(monkeypatch):
    """Settings of the analyses that are made; these are made with a few volumes and no UMAP."""
    asked, whole = [], analyze_workflow.run

    def few(settings, **where):
        asked.append(settings)
        small = replace(settings, ksample=3, pc=1, pc_points=2, skip_umap=True)
        return whole(small, **where)

    monkeypatch.setattr(analyze_workflow, "run", few)
    return asked


def train_here_result(folder):
    return TrainResult(root=str(folder / "run"), epochs=1, num_particles=203, finished=True)


def train(folder, *options, num_particles):
    small_run(folder, folder / "unused", num_particles=num_particles)
    words = ["train", str(folder / "particles.star"), "-o", str(folder / "run"), *NETWORK, *options]
    return CliRunner().invoke(app, words)


def test_the_last_epoch_is_analysed_as_by_the_command(analyses, tmp_path):
    said = train(tmp_path, "--analyze", num_particles=203)
    assert said.exit_code == 0, said.output
    folder = tmp_path / "run" / "analyze.1"
    assert f"→ {folder / 'report.html'}" in said.output
    assert analyses == [AnalyzeSettings(run=str(tmp_path / "run"))]
    assert len(list((folder / "kmeans3").glob("vol_*.mrc"))) == 3
    # once more, as a job that is started again would: nothing is left to train
    again = train(tmp_path, "--analyze", num_particles=203)
    assert again.exit_code == 0, again.output
    assert "is finished" in again.output
    assert "for a low constant rate instead, add --set train.schedule=constant" in again.output
    assert f"→ {folder / 'report.html'}" in again.output


def test_training_that_was_stopped_is_not_analysed(analyses, tmp_path, monkeypatch):
    stopped = replace(train_here_result(tmp_path), finished=False)
    monkeypatch.setattr("raydrgn.training.start.start_training", lambda *_, **__: stopped)
    said = train(tmp_path, "--analyze", num_particles=203)
    assert said.exit_code == 130, said.output
    assert not analyses


def test_a_stop_in_the_last_epoch_leaves_out_the_analysis(analyses, tmp_path, monkeypatch):
    def stopped_at_the_end(*arguments, **others):
        return replace(start_training(*arguments, **others), stopped=True)

    monkeypatch.setattr("raydrgn.training.start.start_training", stopped_at_the_end)
    said = train(tmp_path, "--analyze", num_particles=203)
    assert said.exit_code == 130, said.output
    assert f"To make it: raydrgn analyze {tmp_path / 'run'}" in said.output
    assert not analyses


def test_an_analysis_that_fails_is_no_failure_of_training(tmp_path):
    said = train(tmp_path, "--analyze", num_particles=16)
    assert said.exit_code == 0, said.output
    assert "1 epoch of 16 particles" in said.output
    assert (
        "training is finished; the analysis was not made: --ksample 20 is more than" in said.output
    )
    assert f"To make it: raydrgn analyze {tmp_path / 'run'}" in said.output
    assert (tmp_path / "run" / "weights.1.pkl").exists()
    assert not (tmp_path / "run" / "analyze.1").exists()
