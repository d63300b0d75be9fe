"""``raydrgn convergence`` on a small run: verdicts, what is kept, and what goes wrong."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from latents import finished_run
from raydrgn.cli.main import app
from raydrgn.convergence import criteria
from raydrgn.convergence import epochs as stages
from raydrgn.convergence.volumes import compare_volumes
from raydrgn.decoding.options import VolumeOptions
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_latents, read_pickles, write_latents
from raydrgn.io.mrc import read_volume
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run import claim_watch
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.manifest import Manifest
from raydrgn.run.reader import open_run
from raydrgn.workflows import convergence as workflow
from raydrgn.workflows.convergence import ConvergenceSettings


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run of four epochs of a network too small to learn much, of every third particle."""
    folder = tmp_path_factory.mktemp("converging")
    np.save(folder / "ind.npy", np.arange(1, 60, 3))
    return finished_run(folder, epochs=4, ind=str(folder / "ind.npy"))


@pytest.fixture(autouse=True)
def plane(monkeypatch):
    """UMAP takes seconds to compile; the plane of z stands for it."""
    monkeypatch.setattr(stages, "umap_embedding", lambda z, seed: z[:, :2])


def converge(root, *arguments):
    return CliRunner().invoke(app, ["convergence", str(root), *arguments])


def table(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_figures_tables_and_verdicts(root, tmp_path):
    out = tmp_path / "out"
    said = converge(root, "--every", "1", "--keep-volumes", "-o", str(out))
    assert said.exit_code == 0, said.output
    assert "Not converged at epoch 4" in said.output
    z = {epoch: read_latents(str(root / f"z.{epoch}.pkl"))[0] for epoch in (1, 2, 3, 4)}
    shifts = table(out / "latent_shifts.csv")
    assert [row["epoch"] for row in shifts] == ["2", "3", "4"]
    steps = np.median(np.linalg.norm(z[4] - z[3], axis=1))
    assert float(shifts[-1]["magnitude"]) == pytest.approx(steps, rel=1e-4)

    # the correlation in the table is that of the volumes kept, each in its own mask
    masked = []
    for epoch in (3, 4):
        volume, _ = read_volume(str(out / f"vols.{epoch}" / "vol_000.mrc"))
        masked.append(volume * criteria.volume_mask(volume))
    wanted = np.corrcoef(masked[0].ravel(), masked[1].ravel())[0, 1]
    rows = table(out / "correlation.csv")
    assert [row["epochs"] for row in rows] == ["1-2", "2-3", "3-4"]
    assert float(rows[-1]["A"]) == pytest.approx(wanted, abs=1e-4)
    points = [row for row in table(out / "points.csv") if row["point"] == "A"]
    for row in points:
        of_epoch = z[int(row["epoch"])][int(row["particle"])]
        assert int(row["original"]) == 3 * int(row["particle"]) + 1
        np.testing.assert_allclose([float(row["z1"]), float(row["z2"])], of_epoch, rtol=1e-4)
    answers = {row["criterion"]: row["converged"] for row in table(out / "verdict.csv")}
    assert answers["total loss"] == "too early"  # 4 epochs
    assert set(answers.values()) <= {"yes", "no", "too early"}
    assert (out / "report.html").read_text().count("data:image/png") == 10

    # begun again, finished points are kept
    stored = out / "points" / "A.npz"
    written = stored.stat().st_mtime_ns
    (out / "points" / "B.npz").unlink()
    said = converge(root, "--every", "1", "--keep-volumes", "-o", str(out))
    assert said.exit_code == 0
    assert stored.stat().st_mtime_ns == written
    assert (out / "points" / "B.npz").exists()


def test_tasks_of_a_cluster_give_the_same(root, tmp_path, ray_session):
    run = open_run(str(root))
    epochs, examined = stages.choose_epochs(run, None, 3)
    found = []
    with Executor(workers=2) as cluster:
        for name, executor in (("here", IN_PROCESS), ("there", cluster)):
            folder = ResultFolder(str(tmp_path / name))
            made = stages.compare_epochs(run, epochs, examined, folder)
            comparisons, failures = compare_volumes(
                run, made, folder, options=VolumeOptions(), executor=executor
            )
            assert not failures
            found.append(replace(made, comparisons=comparisons))
            assert not list((tmp_path / name).glob("vols.*"))
    for name in ("correlation", "fsc", "overfitting"):
        np.testing.assert_allclose(found[0].stacked(name), found[1].stacked(name), atol=1e-4)


def test_a_selection_that_is_gone_leaves_no_wrong_number(root, tmp_path, caplog):
    run = replace(open_run(str(root)), is_foreign=True, ind="gone.pkl")
    folder = ResultFolder(str(tmp_path / "out"))
    found = stages.compare_epochs(run, [2, 3, 4], [2, 4], folder)
    assert found.original is None
    assert "Tables have no numbers of the original set" in caplog.text


def test_an_ended_run_is_judged_by_watch(root):
    said = converge(root, "--watch", "--every", "2")
    assert said.exit_code == 0, said.output
    assert "epoch 4: still changing" in said.output
    assert "Not converged at epoch 4" in said.output
    assert (root / "convergence.4" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["9"], RunDirectoryError, "no epoch 9; those that are finished: 1, 2, 3, 4"),
        (["2"], RunDirectoryError, r"too few epochs to compare \(1, 2\)"),
        (["3", "--watch"], ConfigError, "leave out EPOCH"),
        (["--box", "32"], ConfigError, "larger than the run's box"),
    ],
)
def test_mistakes_are_one_message(root, arguments, error, message):
    with pytest.raises(error, match=message):
        raise converge(root, *arguments).exception


def test_missing_epochs_are_listed(root, tmp_path):
    shutil.copytree(root, tmp_path / "run")
    (tmp_path / "run" / "z.2.pkl").unlink()
    with pytest.raises(RunDirectoryError, match="lacks epochs 2 of 1 to 4"):
        raise converge(tmp_path / "run").exception


# What results are made from --------------------------------------------------------------------


@pytest.fixture
def no_report(monkeypatch):
    """Figures take seconds."""
    monkeypatch.setattr("raydrgn.convergence.report.write_convergence", lambda *_, **__: None)


@pytest.fixture
def copy(root, tmp_path):
    """A run of its own for tests that change it."""
    return shutil.copytree(root, tmp_path / "run", ignore=shutil.ignore_patterns("convergence.*"))


def settings(root, **values):
    return ConvergenceSettings(run=str(root), every=1, **values)


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_results_of_another_epoch_never_come_together(copy, tmp_path, no_report):
    out = tmp_path / "out"
    workflow.run(settings(copy, epoch=4, out=str(out), keep_volumes=True))
    assert (out / "vols.4" / "vol_000.mrc").exists()
    with pytest.raises(RunDirectoryError, match="results of epoch 4, not 3"):
        workflow.run(settings(copy, epoch=3, out=str(out), keep_volumes=True))
    workflow.run(settings(copy, epoch=3, out=str(out), keep_volumes=True, overwrite=True))
    assert not [name for name in names(out) if ".4" in name]


@pytest.mark.parametrize("kind", ["weights", "latents"])
@pytest.mark.parametrize("epoch", [2, 4])
def test_an_epoch_that_was_trained_anew_is_refused(copy, no_report, kind, epoch):
    workflow.run(settings(copy))
    if kind == "weights":
        shutil.copy(copy / "weights.1.pkl", copy / f"weights.{epoch}.pkl")
    else:
        z = read_latents(str(copy / f"z.{epoch}.pkl"))[0][::-1].copy()
        write_latents(str(copy / f"z.{epoch}.pkl"), z, np.zeros_like(z))
    with pytest.raises(RunDirectoryError, match=rf"other {kind} \(of .*, epoch {epoch}\)"):
        workflow.run(settings(copy))
    workflow.run(settings(copy, overwrite=True))
    [umap] = read_pickles(str(copy / "convergence.4" / "umaps" / f"umap.{epoch}.pkl"))
    np.testing.assert_array_equal(umap, read_latents(str(copy / f"z.{epoch}.pkl"))[0])


def test_a_run_that_goes_on_gets_a_new_folder(copy, no_report):
    kept = {name: (copy / name).read_bytes() for name in ("weights.4.pkl", "z.4.pkl")}
    for name in kept:
        (copy / name).unlink()
    workflow.run(settings(copy))
    before = {name: (copy / "convergence.3" / name).stat().st_mtime_ns
              for name in names(copy / "convergence.3")}  # fmt: skip
    for name, content in kept.items():
        (copy / name).write_bytes(content)
    found = workflow.run(settings(copy))
    assert found.folder.uri == str(copy / "convergence.4")
    assert found.convergence.epochs == [1, 2, 3, 4]
    assert before == {name: (copy / "convergence.3" / name).stat().st_mtime_ns for name in before}


# Runs in training ------------------------------------------------------------------------------


def set_config(root, **values):
    path = root / "config.yaml"
    changes = {f"train.{name}": value for name, value in values.items()}
    path.write_text(RunConfig.read(str(path)).with_values(changes).to_yaml())


def add_epoch(root, epoch):
    """Finish one more epoch, as training would."""
    for name in ("weights", "z"):
        shutil.copy(root / f"{name}.{epoch - 1}.pkl", root / f"{name}.{epoch}.pkl")
    manifest = Manifest.read(str(root / "manifest.json"))
    manifest.epochs[epoch] = manifest.epochs[epoch - 1]
    manifest.write(str(root / "manifest.json"))


def converged(monkeypatch):
    """Let all criteria converge, as they may at a learning rate that is still high."""

    def always(name, *_, **__):
        return criteria.Finding(name, 1, "converged from epoch 1 on")

    monkeypatch.setattr(criteria, "converged_curve", always)
    monkeypatch.setattr(criteria, "converged_pairs", always)
    monkeypatch.setattr(criteria, "converged_loss", lambda *_: always("total loss"))


def test_watch_follows_a_run_that_was_resumed_after_its_end(copy, no_report, monkeypatch):
    set_config(copy, epochs=6)
    assert (copy / "weights.pkl").exists()  # of the first end, after epoch 4
    monkeypatch.setattr(
        workflow,
        "sleep",
        lambda _: add_epoch(copy, open_run(str(copy)).files.epochs()[-1] + 1),
    )
    lines = []
    found = workflow.watch(settings(copy), report=lines.append)
    assert [line.split(":")[0] for line in lines] == ["epoch 4", "epoch 5", "epoch 6"]
    assert found.convergence.epoch == 6


def test_watch_ends_with_a_training_that_was_stopped(copy, no_report, monkeypatch):
    set_config(copy, epochs=6)
    now = [0.0]
    monkeypatch.setattr(claim_watch.time, "monotonic", lambda: now[0])
    claim = RunDirectory(str(copy)).claim(1)

    def pass_time(_):
        """Training has the run for some minutes, and then is stopped."""
        now[0] += 30.0
        if now[0] < 300.0:
            storage.write_bytes(claim, b"{}")
            heartbeat = f"{now[0]}".encode()
            storage.write_bytes(RunDirectory(str(copy)).heartbeat(1), heartbeat)
        elif storage.exists(claim):
            storage.remove(claim)

    monkeypatch.setattr(workflow, "sleep", pass_time)
    lines = []
    found = workflow.watch(settings(copy), report=lines.append)
    assert lines[-1].startswith("Training has ended before its last epoch")
    assert found.convergence.epoch == 4
    assert now[0] == pytest.approx(270 + claim_watch.PATIENCE_SECONDS, abs=30)


def test_watch_does_not_advise_to_stop_before_the_schedule_has_ended(copy, no_report, monkeypatch):
    converged(monkeypatch)
    set_config(copy, epochs=5, schedule="cosine")
    monkeypatch.setattr(workflow, "sleep", lambda _: add_epoch(copy, 5))
    lines = []
    found = workflow.watch(settings(copy), report=lines.append)
    assert "20 % of the schedule is still to come (epoch 5)" in lines[0]
    assert "the learning rate is" in lines[0]
    assert not [line for line in lines if "can stop" in line]
    assert not (copy / "convergence.4").exists()
    assert found.verdict.startswith("Converged at epoch 5")


def test_watch_ends_a_run_of_constant_rate_that_has_converged(copy, no_report, monkeypatch):
    converged(monkeypatch)
    set_config(copy, epochs=9, schedule="constant")
    lines = []
    found = workflow.watch(settings(copy), report=lines.append)
    assert lines[-1] == "Training can stop: by these criteria epoch 4 is enough."
    assert found.convergence.epoch == 4


def test_the_verdict_on_a_scheduled_run_reports_what_is_to_come(copy, no_report, monkeypatch):
    converged(monkeypatch)
    set_config(copy, epochs=16, schedule="cosine")
    found = workflow.run(settings(copy))
    assert not found.convergence.is_converged
    assert found.verdict == (
        "Not converged at epoch 4: the criteria have converged, but the learning-rate schedule has "
        "not ended."
    )
    [line] = [line for line in found.lines() if line.startswith("learning-rate schedule")]
    assert "75 % of the schedule is still to come (epochs 5 to 16)" in line
    assert "the loss usually falls most at its end" in line
    set_config(copy, epochs=16, restarted_after=2)  # 14 epochs more, of which two are done
    assert "86 % of the schedule is still to come" in "".join(workflow.run(settings(copy)).lines())
    set_config(copy, epochs=4)
    assert workflow.run(settings(copy)).convergence.is_converged
    set_config(copy, epochs=16, restarted_after=4)  # epoch 4 ended the schedule before
    assert workflow.run(settings(copy)).convergence.is_converged
    set_config(copy, epochs=16, schedule="constant", restarted_after=0)
    assert workflow.run(settings(copy)).convergence.is_converged
