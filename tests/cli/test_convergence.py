"""``raydrgn convergence`` on a small run: verdicts, what is kept, and what goes wrong."""

import csv
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from latents import finished_run
from raydrgn.cli.main import app
from raydrgn.convergence import epochs as convergence_study
from raydrgn.convergence.followed_volumes import follow_volumes
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io.cryodrgn import read_latents
from raydrgn.io.mrc import read_volume
from raydrgn.remote.session import Allocation
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import open_run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run of four epochs of a network too small to learn much."""
    return finished_run(tmp_path_factory.mktemp("converging"), epochs=4)


@pytest.fixture(autouse=True)
def plane(monkeypatch):
    """UMAP takes seconds to compile; the plane of z stands for it."""
    monkeypatch.setattr(convergence_study, "umap_embedding", lambda z, seed: z[:, :2])


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
        masked.append(volume * convergence_study.convergence.volume_mask(volume))
    wanted = np.corrcoef(masked[0].ravel(), masked[1].ravel())[0, 1]
    rows = table(out / "correlation.csv")
    assert [row["epochs"] for row in rows] == ["1-2", "2-3", "3-4"]
    assert float(rows[-1]["A"]) == pytest.approx(wanted, abs=1e-4)
    points = [row for row in table(out / "points.csv") if row["point"] == "A"]
    for row in points:
        of_epoch = z[int(row["epoch"])][int(row["particle"])]
        np.testing.assert_allclose([float(row["z1"]), float(row["z2"])], of_epoch, rtol=1e-4)
    assert {row["settled"] for row in table(out / "verdict.csv")} <= {"yes", "no"}
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
    run, settings = open_run(str(root)), convergence_study.ConvergenceSettings(every=3)
    found = []
    for name, allocation in (("here", None), ("there", Allocation(2, 1, 0.0))):
        folder = ResultFolder(str(tmp_path / name))
        study = convergence_study.study_latents(run, settings, folder)
        follow_volumes(run, study, settings, folder, allocation=allocation)
        assert not study.failures
        found.append(study)
        assert not list((tmp_path / name).glob("vols.*"))
    for name in ("correlation", "fsc", "signs"):
        np.testing.assert_allclose(found[0].stacked(name), found[1].stacked(name), atol=1e-4)


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
    (tmp_path / "run" / "weights.2.pkl").unlink()
    with pytest.raises(RunDirectoryError, match="lacks epochs 2 of 1 to 4"):
        raise converge(tmp_path / "run").exception
