"""Nothing of one epoch or run is found in the results of another: analyze, filter, traverse."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure

from finished_run import MODEL, make_run
from phantoms import table_of
from raydrgn.clustering import embedding
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_volume
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.reporting import latent_figures
from raydrgn.reporting.analysis_results import AnalysisResults
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import open_run
from raydrgn.workflows import analyze, filter, traverse
from raydrgn.workflows.analyze import AnalyzeSettings
from raydrgn.workflows.filter import FilterSettings
from raydrgn.workflows.traverse import (
    TraverseDirectSettings,
    TraverseGraphSettings,
    TraversePcSettings,
)

COUNT = 60
ORIGINALS = np.arange(COUNT)[::-1] + 1000  # a selection in reverse, from a larger set


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Draw no figures, and let the plane of z be its UMAP."""
    monkeypatch.setattr(ResultFolder, "write_figure", lambda *_: None)
    monkeypatch.setattr("raydrgn.latent.analysis_report.write_analysis", lambda *_, **__: None)
    monkeypatch.setattr(embedding, "_fit_umap", lambda z, seed: z[:, :2].copy())


def latents(seed):
    return np.random.default_rng(seed).normal(size=(COUNT, 2)).astype(np.float32)


def write_epoch(run, epoch, seed):
    """Write an epoch of a run; another seed is another training."""
    torch.manual_seed(seed)
    vae = HeterogeneousVAE(MODEL, box=8, num_pixels=20)
    torch.save({"epoch": epoch, "model_state_dict": vae.state_dict()}, run.weights(epoch))
    cryodrgn.write_latents(run.latents(epoch), latents(seed), np.zeros((COUNT, 2), np.float32))


@pytest.fixture
def run(tmp_path):
    """A run of epochs 1 and 2 with latents of their own; its name could be markup."""
    table = table_of(COUNT, box=8, index=ORIGINALS)
    files = make_run(tmp_path / "[run7]", latents(1), table=table).files
    write_epoch(files, 1, seed=1)
    write_epoch(files, 2, seed=2)
    return files


def analyzed(run, epoch=None, **settings):
    return analyze.run(AnalyzeSettings(run=run.root, epoch=epoch, **settings))


def filtered(run, epoch=None, **settings):
    settings = {"skip_volumes": True, **settings}
    return filter.run(FilterSettings(run=run.root, epoch=epoch, **settings))


def content(folder):
    """Return the content of every file of a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_analyze_refuses_results_of_another_epoch_and_replaces_all_of_them(run, tmp_path):
    out = tmp_path / "x"
    first = analyzed(run, 1, out=str(out), ksample=5)
    before = content(out)
    with pytest.raises(RunDirectoryError, match=r"results of epoch 1, not 2.*--out.*--overwrite"):
        analyzed(run, 2, out=str(out), ksample=3)
    assert content(out) == before

    second = analyzed(run, 2, out=str(out), ksample=3, overwrite=True)
    assert not (out / "kmeans5").exists()
    np.testing.assert_array_equal(second.space.umap, latents(2))
    [umap] = cryodrgn.read_pickles(str(out / "umap.pkl"))
    np.testing.assert_array_equal(umap, latents(2))
    for name in ("kmeans3", "pc1", "pc2"):
        points = np.loadtxt(out / name / "z_values.txt")
        volumes = sorted((out / name).glob("vol_*.mrc"))
        assert len(volumes) == len(points)
    centres = np.loadtxt(out / "kmeans3" / "z_values.txt")
    np.testing.assert_allclose(centres, latents(2)[second.space.clusters.rows], rtol=1e-6)
    assert first.space.z is not second.space.z


def test_analyze_refuses_results_of_a_run_trained_anew(run):
    volume = read_volume(analyzed(run, ksample=3).folder.at("kmeans3", "vol_000.mrc"))[0]
    write_epoch(run, 2, seed=3)
    for ksample in (3, 4):  # other clusters would lie beside the old ones
        with pytest.raises(RunDirectoryError, match=r"other weights.*--overwrite"):
            analyzed(run, ksample=ksample)
    replaced = analyzed(run, ksample=3, overwrite=True)
    np.testing.assert_array_equal(replaced.space.z, latents(3))
    anew = read_volume(replaced.folder.at("kmeans3", "vol_000.mrc"))[0]
    assert np.abs(anew - volume).max() > 0


def test_analyze_of_later_epochs_goes_into_a_folder_of_its_own(run):
    analyzed(run, skip_volumes=True, ksample=3)
    write_epoch(run, 3, seed=3)
    later = analyzed(run, skip_volumes=True, ksample=3)
    assert (later.epoch, later.folder.uri) == (3, run.results("analyze", 3))
    np.testing.assert_array_equal(later.space.umap, latents(3))


def test_clusters_and_umap_of_another_training_are_not_read(run):
    analyzed(run, skip_volumes=True, ksample=3)
    opened = open_run(run.root)
    assert AnalysisResults(opened, 2).umap(COUNT) is not None
    write_epoch(run, 2, seed=3)
    found = AnalysisResults(opened, 2)
    assert found.umap(COUNT) is None
    remedy = r"analyze '\S+/\[run7\]' 2.* --overwrite"
    for read in (
        lambda: found.labels(3, COUNT),
        lambda: found.centres(3),
        found.ksample,
        lambda: found.require_umap(COUNT),
    ):
        with pytest.raises(RunDirectoryError, match=remedy):
            read()


@pytest.mark.parametrize("text", ["garbage", "[]"])
def test_results_with_a_damaged_record_are_refused_by_its_name(run, text):
    filtered(run, 1, zscore=1.0)
    Path(run.root, "filter", "settings.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"filter/settings.json is damaged .*Delete their"):
        filtered(run, 1, zscore=1.0)


def test_a_z_score_below_the_mean_is_refused():
    with pytest.raises(ConfigError, match="--zscore must be greater than 0, got -3"):
        FilterSettings(run="run", zscore=-3.0)


def test_filter_refuses_a_selection_of_another_epoch(run):
    filtered(run, 1, zscore=1.0)
    before = cryodrgn.read_indices(f"{run.root}/filter/kept.ind.pkl")
    with pytest.raises(RunDirectoryError, match=r"results of epoch 1, not 2.*--overwrite"):
        filtered(run, zscore=1.0)
    np.testing.assert_array_equal(cryodrgn.read_indices(f"{run.root}/filter/kept.ind.pkl"), before)
    size = np.linalg.norm(latents(2), axis=1)
    found = filtered(run, zscore=1.0, overwrite=True)
    np.testing.assert_array_equal(found.kept, size < size.mean() + size.std())

    write_epoch(run, 3, seed=3)  # training went on: another last epoch
    with pytest.raises(RunDirectoryError, match="results of epoch 2, not 3"):
        filtered(run, zscore=1.0)
    write_epoch(run, 2, seed=3)  # or began anew
    with pytest.raises(RunDirectoryError, match="other weights"):
        filtered(run, 2, zscore=1.0)


def test_filter_chooses_by_no_clusters_or_umap_of_another_training(run, tmp_path, monkeypatch):
    (tmp_path / "corners.txt").write_text("-1 -1\n1 -1\n1 1\n-1 1\n")
    chosen = ({"drop_clusters": "0", "ksample": 3}, {"umap_polygon": str(tmp_path / "corners.txt")})
    analyzed(run, skip_volumes=True, ksample=3)
    for method in chosen:
        filtered(run, **method, overwrite=True)
    write_epoch(run, 2, seed=3)
    for method in chosen:
        with pytest.raises(RunDirectoryError, match=r"raydrgn analyze .*--overwrite"):
            filtered(run, **method, overwrite=True)
    drawn = []
    monkeypatch.setattr(latent_figures, "kept_and_dropped", lambda names, *_: drawn.append(names))
    filtered(run, zscore=1.0, overwrite=True)
    assert drawn == [("PC 1", "PC 2")]


def test_filter_refuses_what_a_changed_file_selects_beside_the_old_selection(run, tmp_path):
    labels = tmp_path / "labels.pkl"
    cryodrgn.write_pickles(str(labels), np.arange(COUNT) % 2)
    chosen = {"keep_clusters": "1", "labels": str(labels)}
    filtered(run, **chosen, skip_volumes=False)
    cryodrgn.write_pickles(str(labels), np.arange(COUNT) % 3)
    with pytest.raises(RunDirectoryError, match=r"selection = 30 of 60 .* not 20 of 60"):
        filtered(run, **chosen)


@pytest.mark.parametrize(
    "settings",
    [
        TraversePcSettings(run="run", points=3),
        TraverseDirectSettings(run="run", anchors="0,5", points=3),
        TraverseGraphSettings(run="run", anchors="0,5", max_neighbors=50, avg_neighbors=49),
    ],
)
def test_traverse_refuses_paths_of_another_epoch(run, tmp_path, settings):
    def go(epoch, **changes):
        values = {**vars(settings), "run": run.root, "epoch": epoch, **changes}
        return traverse.run(type(settings)(**values))

    out = str(tmp_path / "x")
    go(1, out=out)
    with pytest.raises(RunDirectoryError, match=r"results of epoch 1, not 2.*--out.*--overwrite"):
        go(2, out=out)
    found = go(2, out=out, overwrite=True)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "x" / "z_values.txt"), found.path.z, rtol=1e-6)
    assert len(list((tmp_path / "x").glob("vol_*.mrc"))) == len(found.path.z)

    go(2)  # in its own folder, until the run is trained anew
    write_epoch(run, 2, seed=3)
    with pytest.raises(RunDirectoryError, match="other weights"):
        go(2)


def test_traverse_visits_no_centres_and_draws_no_umap_of_another_training(run, monkeypatch):
    analyzed(run, skip_volumes=True, ksample=3)
    drawn = []

    def draw(names, *_, **__):
        drawn.append(names)
        return Figure()

    monkeypatch.setattr(latent_figures, "path", draw)
    settings = {"run": run.root, "skip_volumes": True, "overwrite": True}
    traverse.run(TraverseDirectSettings(**settings, centres="0,2"))
    write_epoch(run, 2, seed=3)
    for centres in ("0,2", "3:0,2"):
        with pytest.raises(RunDirectoryError, match=r"raydrgn analyze .*--overwrite"):
            traverse.run(TraverseDirectSettings(**settings, centres=centres))
    traverse.run(TraverseDirectSettings(**settings, anchors="0,2"))
    assert drawn == [("UMAP 1", "UMAP 2"), ("PC 1", "PC 2")]


def test_a_folder_has_results_of_one_command(run, tmp_path):
    filtered(run, zscore=1.0, out=str(tmp_path / "x"))
    with pytest.raises(RunDirectoryError, match="command = filter, not analyze"):
        analyzed(run, skip_volumes=True, ksample=3, out=str(tmp_path / "x"))


def test_tables_have_the_numbers_of_the_original_set_beside_the_rows(run):
    found = analyzed(run, skip_volumes=True, ksample=3)
    folder = found.folder
    for name in ("embedding.parquet", "kmeans3/labels.parquet"):
        table = pq.read_table(folder.at(name)).to_pydict()
        np.testing.assert_array_equal(table["particle"], np.arange(COUNT))
        np.testing.assert_array_equal(table["original"], ORIGINALS)
        np.testing.assert_array_equal(table["cluster"], found.space.clusters.labels)
    clusters = np.genfromtxt(folder.at("kmeans3", "clusters.csv"), delimiter=",", names=True)
    rows = clusters["centre_particle"].astype(int)
    np.testing.assert_array_equal(clusters["centre_original"], ORIGINALS[rows])

    settings = TraverseGraphSettings(
        run=run.root, anchors="0,5", max_neighbors=50, avg_neighbors=49, skip_volumes=True
    )
    path = traverse.run(settings)
    points = np.genfromtxt(path.folder.at("points.csv"), delimiter=",", names=True)
    np.testing.assert_array_equal(points["particle"], path.path.rows)
    np.testing.assert_array_equal(points["original"], ORIGINALS[path.path.rows])

    selection = filtered(run, zscore=1.0)
    table = pq.read_table(selection.folder.at("selection.parquet")).to_pydict()
    np.testing.assert_array_equal(table["original"], ORIGINALS)
    kept = cryodrgn.read_indices(selection.folder.at("kept.ind.pkl"))
    np.testing.assert_array_equal(np.array(table["original"])[table["kept"]], kept)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zscore": 1.0, "drop": "1"}, "--drop takes components of a mixture.*--gmm"),
        (
            {"zscore": 1.0, "labels": "a.pkl"},
            "--labels needs --keep-clusters, --drop-clusters, --where",
        ),
        ({"zscore": float("nan")}, "--zscore must be a finite number"),
        ({}, "Choose a method"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        FilterSettings(run="r", **settings)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (AnalyzeSettings, {"pc_range": (99.0, 1.0)}, "--pc-range takes two percentiles"),
        (TraversePcSettings, {"percentiles": (1.0, 101.0)}, "--range takes two percentiles"),
        (TraverseDirectSettings, {}, "one of --anchors and --centres"),
    ],
)
def test_mistakes_need_no_run_to_be_found(kind, values, message):
    with pytest.raises(ConfigError, match=message):
        kind(run="r", **values)
