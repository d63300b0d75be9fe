"""The workflow ``analyze``, called from Python: a run of cryoDRGN, and what the result holds."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from finished_run import make_run
from raydrgn.errors import RaydrgnError, StorageError
from raydrgn.io import cryodrgn
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.workflows import analyze, filter
from raydrgn.workflows.analyze import AnalyzeSettings
from raydrgn.workflows.filter import FilterSettings

ASSETS = Path(__file__).parent.parent / "assets" / "cryodrgn" / "fourier"


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(ResultFolder, "write_figure", lambda *_: None)
    monkeypatch.setattr("raydrgn.latent.analysis_report.write_analysis", lambda *_, **__: None)


@pytest.fixture
def trained_by_cryodrgn(tmp_path):
    """A run of cryoDRGN on a selection of particles, in reverse order."""
    run = tmp_path / "run"
    run.mkdir()
    config = yaml.safe_load((ASSETS / "config.yaml").read_text())
    config["dataset_args"]["ind"] = str(tmp_path / "selected.pkl")
    cryodrgn.write_indices(str(tmp_path / "selected.pkl"), np.arange(60)[::-1])
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("weights.2.pkl", "z.2.pkl"):
        shutil.copy(ASSETS / name, run)
    return run


def test_a_run_of_cryodrgn(trained_by_cryodrgn, tmp_path, caplog):
    settings = AnalyzeSettings(run=str(trained_by_cryodrgn), ksample=4, pc_points=2, skip_umap=True)
    found = analyze.run(settings)
    assert found.failures == []
    table = found.particles.to_pydict()
    assert table["particle"] == list(range(60))
    assert table["original"] == list(range(60))[::-1]
    assert [len(of_set) for of_set in found.volumes.previews] == [4, 2, 2]

    # without the selection the analysis goes on, and a selection in original numbers cannot
    (tmp_path / "selected.pkl").unlink()
    with caplog.at_level(logging.WARNING):
        found = analyze.run(settings)
    assert found.particles.to_pydict()["original"] == [None] * 60
    assert "Tables have no numbers of the original set" in caplog.text
    with pytest.raises(RaydrgnError, match=r"selected\.pkl"):
        filter.run(FilterSettings(run=str(trained_by_cryodrgn), zscore=1.0, skip_volumes=True))


def test_a_selection_of_another_number_of_particles_names_no_option(trained_by_cryodrgn, tmp_path):
    cryodrgn.write_indices(str(tmp_path / "selected.pkl"), np.arange(7))
    settings = FilterSettings(run=str(trained_by_cryodrgn), zscore=1.0, skip_volumes=True)
    with pytest.raises(RaydrgnError, match="selects 7 particles, but the run has 60") as error:
        filter.run(settings)
    assert "--ind" not in str(error.value)  # filter has another --ind


def test_a_result_has_arrays_and_tables(tmp_path):
    z = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    run = make_run(tmp_path / "run", z)
    seen = []
    found = analyze.run(
        AnalyzeSettings(run=run.files.root, ksample=3, pc=1, pc_points=4, skip_umap=True),
        progress=lambda what, done, total, **_: seen.append((what, done, total)),
    )
    np.testing.assert_array_equal(found.space.z, z)
    assert found.epoch == 1
    assert found.particles.column_names == ["particle", "original", "pc1", "pc2", "cluster"]
    assert np.bincount(found.particles["cluster"].to_numpy()).tolist() == list(
        found.space.clusters.sizes()
    )
    [path] = found.space.paths
    assert (path.name, path.z.shape, path.support.shape) == ("pc1", (4, 2), (4,))
    assert found.volumes.previews[1][0].slices.shape == (3, 8, 8)
    assert seen[-1] == ("decoding", 7, 7)


def test_a_mistake_leaves_earlier_results(tmp_path):
    z = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    run = make_run(tmp_path / "run", np.repeat(z[:6], 5, axis=0))
    settings = {"run": run.files.root, "skip_umap": True, "skip_volumes": True, "overwrite": True}
    folder = analyze.run(AnalyzeSettings(**settings, ksample=3)).folder
    for ksample, message in ((31, r"number of particles \(30\)"), (7, "only 6 distinct latents")):
        with pytest.raises(RaydrgnError, match=message):
            analyze.run(AnalyzeSettings(**settings, ksample=ksample))
    assert folder.has("kmeans3", "labels.pkl")


def test_a_folder_that_cannot_be_made_is_refused_before_clustering(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", np.eye(30, 2, dtype=np.float32))
    (tmp_path / "file").touch()
    monkeypatch.setattr(AnalyzeSettings, "latent_space", None)
    with pytest.raises(StorageError, match=f"{tmp_path}/file"):
        analyze.run(AnalyzeSettings(run=run.files.root, out=str(tmp_path / "file" / "results")))
