"""``raydrgn filter``: what is kept, in the numbers of the original set."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from latents import finished_run
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_volume
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.reader import open_run
from raydrgn.workflows import filter as workflow
from raydrgn.workflows.filter import FilterSettings

CRYODRGN = Path(__file__).parent.parent / "assets" / "cryodrgn"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run, analysed; its UMAP is the plane of z."""
    folder = tmp_path_factory.mktemp("filtered")
    root = finished_run(folder)
    files = root / "analyze.2"
    arguments = ["--ksample", "4", "--skip-umap", "--skip-volumes"]
    assert CliRunner().invoke(app, ["analyze", str(root), *arguments]).exit_code == 0
    cryodrgn.write_pickles(str(files / "umap.pkl"), latents(root))
    return root


def latents(root):
    return cryodrgn.read_latents(str(root / "z.2.pkl"))[0]


def choose(root, *arguments):
    return CliRunner().invoke(app, ["filter", str(root), *arguments, "--overwrite"])


def kept_of(root, *arguments):
    said = choose(root, "--skip-volumes", *arguments)
    assert said.exit_code == 0, said.output
    kept = cryodrgn.read_indices(str(root / "filter" / "kept.ind.pkl"))
    dropped = cryodrgn.read_indices(str(root / "filter" / "dropped.ind.pkl"))
    np.testing.assert_array_equal(np.sort([*kept, *dropped]), np.arange(203))
    return kept


def test_methods_together_keep_what_each_keeps(root, tmp_path):
    z = latents(root)
    [labels] = cryodrgn.read_pickles(str(root / "analyze.2" / "kmeans4" / "labels.pkl"))
    size = np.linalg.norm(z, axis=1)
    by_cluster = ~np.isin(labels, [0, 2])
    by_size = size < size.mean() + 1.5 * size.std()
    kept = kept_of(root, "--drop-clusters", "0,2", "--ksample", "4", "--zscore", "1.5")
    np.testing.assert_array_equal(kept, np.flatnonzero(by_cluster & by_size))
    kept = kept_of(root, "--keep-clusters", "1", "--ksample", "4")
    np.testing.assert_array_equal(kept, np.flatnonzero(labels == 1))
    rows = (root / "filter" / "overlap.csv").read_text().splitlines()
    assert rows[1].startswith("clusters,|z| < mean + 2 SD,")

    # HDBSCAN and others give −1 to what is in no cluster
    cryodrgn.write_pickles(str(tmp_path / "some.pkl"), np.arange(203) % 3 - 1)
    kept = kept_of(root, "--drop-clusters", "-1", "--labels", str(tmp_path / "some.pkl"))
    np.testing.assert_array_equal(kept, np.flatnonzero(np.arange(203) % 3))

    cryodrgn.write_pickles(str(tmp_path / "odd.pkl"), np.arange(203) % 2)
    cryodrgn.write_indices(str(tmp_path / "early.pkl"), np.arange(100))
    chosen = ("--keep-clusters", "1", "--labels", str(tmp_path / "odd.pkl"))
    kept = kept_of(root, *chosen, "--ind", str(tmp_path / "early.pkl"))
    np.testing.assert_array_equal(kept, np.arange(1, 100, 2))


def test_a_region_of_the_umap_keeps_what_is_inside(root, tmp_path):
    z = latents(root)
    x, y = np.sort(z, axis=0)[100:102].mean(axis=0)  # between particles, none on the edge
    corners = [(x, y), (x + 99, y), (x + 99, y + 99), (x, y + 99)]
    np.savetxt(tmp_path / "corner.txt", corners)
    kept = kept_of(root, "--umap-polygon", str(tmp_path / "corner.txt"))
    np.testing.assert_array_equal(kept, np.flatnonzero((z > [x, y]).all(axis=1)))


def test_components_of_a_mixture_are_shown_and_dropped(root):
    said = choose(root, "--gmm", "2", "--skip-volumes")
    assert said.exit_code == 0, said.output
    folder = root / "filter.gmm2"
    [labels] = cryodrgn.read_pickles(str(folder / "labels.pkl"))
    sizes = np.bincount(labels)
    rows = (folder / "sizes.csv").read_text().splitlines()
    assert [int(row.split(",")[1]) for row in rows[1:]] == sizes.tolist()
    assert f"component 1: {sizes[1]} particles" in said.output
    assert f"raydrgn filter {root} --gmm 2 --drop {sizes.argmin()}" in said.output
    for name in ("labels.png", "images/component0.png", "images/component1.png", "report.html"):
        assert (folder / name).stat().st_size > 5000
    assert not (folder / "kept.ind.pkl").exists()
    for dropped in (0, 1):
        kept = kept_of(root, "--gmm", "2", "--drop", str(dropped))
        np.testing.assert_array_equal(kept, np.flatnonzero(labels != dropped))
    kept = kept_of(root, "--gmm", "2", "--where", "component == 1")
    np.testing.assert_array_equal(kept, np.flatnonzero(labels == 1))


def test_particles_and_volumes_of_clusters_are_shown_before_anything_is_dropped(root, caplog):
    caplog.set_level("INFO")
    said = choose(root, "--show")  # the latest k-means, which has 4
    assert said.exit_code == 0, said.output
    assert f"clusters: {root}/analyze.2/kmeans4" in caplog.text
    folder = root / "filter.clusters"
    for k in range(4):
        assert (folder / "images" / f"cluster{k}.png").stat().st_size > 5000
        assert read_volume(str(folder / "volumes" / f"cluster{k}.mrc"))[0].shape == (16, 16, 16)
    assert "--ksample 4 --drop-clusters" in said.output
    rows = (folder / "volumes" / "densities.csv").read_text().splitlines()
    assert rows[0] == "volume,peak,noise,skewness,streaks"
    assert len(rows) == 5
    assert (folder / "mean_volumes_one_scale.png").stat().st_size > 5000


def test_a_condition_keeps_what_fulfils_it(root):
    z = latents(root)
    [labels] = cryodrgn.read_pickles(str(root / "analyze.2" / "kmeans4" / "labels.pkl"))
    norm = np.linalg.norm(z.astype(np.float64), axis=1)
    limit = float(np.median(norm))
    kept = kept_of(root, "--ksample", "4", "--where", f"cluster in (0, 2-3) and z_norm > {limit!r}")
    np.testing.assert_array_equal(kept, np.flatnonzero((labels != 1) & (norm > limit)))
    kept = kept_of(root, "--where", "50 <= original < 70 and not umap1 > z0")
    np.testing.assert_array_equal(kept, np.arange(50, 70))  # the UMAP is the plane of z
    table = open_run(str(root)).particles()
    defocus = table.column("defocus_u_angstrom").astype(np.float64)
    middle = float(np.median(defocus))
    kept = kept_of(root, "--where", f"defocus_u_angstrom > {middle!r} and z_score < 2")
    expected = (defocus > middle) & (norm < norm.mean() + 2 * norm.std())
    np.testing.assert_array_equal(kept, np.flatnonzero(expected))


def test_occupancy_classes_are_conditions_by_their_names(root, tmp_path):
    """Those in the run's folder, or beside the run in its project."""
    project = tmp_path / "project"
    shutil.copytree(root, project / "round2")
    (project / "project.yaml").write_text("")
    run = open_run(str(project / "round2"))
    labels = np.arange(203) % 4
    folder = ResultFolder(str(project / "occupancy-classes"))
    folder.begin({}, made_from=run.identity(2), overwrite=False)
    cryodrgn.write_pickles(folder.at("labels.pkl"), labels)
    folder.write_table("classes.csv", ("class",), [])
    part = ResultFolder(str(project / "occupancy-classes-C1"))  # clustered again by itself
    part.begin({"particles": "C1/ind.pkl"}, made_from=run.identity(2), overwrite=False)
    cryodrgn.write_pickles(part.at("labels.pkl"), np.ones(203, dtype=np.int64))
    part.write_table("classes.csv", ("class",), [])
    kept = kept_of(project / "round2", "--where", "occupancy.class in (C1, C3)")
    np.testing.assert_array_equal(kept, np.flatnonzero(labels % 2))
    kept = kept_of(project / "round2", "--where", "occupancy.class != none")
    np.testing.assert_array_equal(kept, np.flatnonzero(labels))
    (project / "project.yaml").unlink()
    result = choose(project / "round2", "--where", "occupancy.class == C1")
    assert "no value 'occupancy.class'" in str(result.exception)


def test_settings_that_show_and_settings_that_select_have_functions_of_their_own(root):
    for shows in ({"show": True}, {"gmm": 3}):
        with pytest.raises(ConfigError, match="select nothing: call run_groups"):
            workflow.run(FilterSettings(run=str(root), **shows))
    for selects in ({"drop_clusters": "1"}, {"where": "z0 > 0"}, {"gmm": 3, "drop": "1"}):
        with pytest.raises(ConfigError, match="select particles: call run "):
            workflow.run_groups(FilterSettings(run=str(root), **selects))
    for shows in ({"show": True, "gmm": 3}, {"gmm": 3}):
        with pytest.raises(ConfigError, match=r"--gmm .* and --labels .*: give one of them"):
            FilterSettings(run=str(root), labels="labels.pkl", **shows)


def test_two_sd_is_the_number_of_a_bare_zscore(root):
    size = np.linalg.norm(latents(root), axis=1)
    expected = np.flatnonzero(size < size.mean() + 2 * size.std())
    np.testing.assert_array_equal(kept_of(root, "--zscore"), expected)
    kept = CliRunner().invoke(app, ["filter", "--zscore", str(root), "--skip-volumes",
                                    "--overwrite"])  # fmt: skip
    assert kept.exit_code == 0, kept.output
    assert "|z| < mean + 2 SD: drops" in kept.output


def test_tries_lie_side_by_side_under_names(root):
    for name, limit in (("loose", "2"), ("tight", "1")):
        assert choose(root, "--zscore", limit, "--skip-volumes", "--name", name).exit_code == 0
    loose, tight = (
        cryodrgn.read_indices(str(root / f"filter.{name}" / "kept.ind.pkl"))
        for name in ("loose", "tight")
    )
    assert set(tight) < set(loose)


def test_images_and_mean_volumes_of_either_side(root):
    assert choose(root, "--zscore", "1").exit_code == 0
    folder = root / "filter"
    page = (folder / "report.html").read_text()
    assert f"raydrgn export star {root} --ind {folder}/kept.ind.pkl" in page
    assert page.count("<img") == 3
    for name in ("images.png", "mean_volumes.png", "selection.png"):
        assert (folder / name).stat().st_size > 5000
    first, _ = read_volume(str(folder / "kept_mean.mrc"))
    second, _ = read_volume(str(folder / "dropped_mean.mrc"))
    assert first.shape == second.shape == (16, 16, 16)
    assert np.abs(first - second).max() > 0


def test_numbers_are_those_of_the_original_set(tmp_path):
    cryodrgn.write_indices(str(tmp_path / "ind.pkl"), np.arange(202, -1, -2))
    root = finished_run(tmp_path, ind=str(tmp_path / "ind.pkl"))
    said = choose(root, "--zscore", "1", "--skip-volumes")
    assert said.exit_code == 0, said.output
    size = np.linalg.norm(latents(root), axis=1)
    kept = cryodrgn.read_indices(str(root / "filter" / "kept.ind.pkl"))
    original = np.arange(202, -1, -2)
    np.testing.assert_array_equal(kept, original[size < size.mean() + size.std()])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], ConfigError, "Choose a method"),
        (["--zscore", "1000"], ConfigError, "would keep all 203"),
        (["--drop-clusters", "4", "--ksample", "4"], ConfigError, "contains 4, but there are 0"),
        (["--drop-clusters", "x"], ConfigError, "takes whole numbers such as 0,3,8-12"),
        (["--drop-clusters", "3-1"], ConfigError, "takes whole numbers such as 0,3,8-12"),
        (["--drop-clusters", "1", "--ksample", "20"], RunDirectoryError, r"\S+ 2 --ksample 20"),
        (["--drop-clusters", "1", "--keep-clusters", "2"], ConfigError, "not both"),
        (["--gmm", "3", "--drop", "3"], ConfigError, "--drop contains 3"),
        (["--gmm", "3", "--zscore", "2"], ConfigError, "Choose with --drop which components"),
        (["--show", "--zscore"], ConfigError, "--show selects nothing"),
        (["--zscore", "--name", "2"], ConfigError, "--name takes letters"),
        (["--where", "cluster = 3"], ConfigError, "character 9, '= 3'"),
        (["--where", "znorm > 3"], ConfigError, "no value 'znorm'; did you mean z_norm"),
        (["--where", "component == 1"], ConfigError, "no value 'component'"),
        (["--where", "cluster == 1", "--ksample", "9"], RunDirectoryError, r"\S+ 2 --ksample 9"),
        (["--where", "umap1 > 1e9"], ConfigError, "would drop all 203"),
        (["--umap-polygon", "{line}"], InputError, "three corners"),
        (["--umap-polygon", "{words}"], InputError, "does not contain corners"),
        (
            ["--drop-clusters", "1", "--labels", "{line}"],
            InputError,
            "which of them holds the labels is not known",
        ),
    ],
)
def test_mistakes_are_one_message(root, tmp_path, arguments, error, message):
    (tmp_path / "line.txt").write_text("0 0\n1 1\n")
    (tmp_path / "words.txt").write_text("lasso\n")
    places = {"line": tmp_path / "line.txt", "words": tmp_path / "words.txt"}
    with pytest.raises(error, match=message):
        raise choose(root, *(part.format(**places) for part in arguments)).exception


def test_the_methods_are_kept_beside_the_selection(root):
    kept_of(root, "--zscore", "1.25")
    assert json.loads((root / "filter" / "settings.json").read_text())["zscore"] == 1.25


def test_images_of_a_run_of_cryodrgn_are_read_where_it_says(tmp_path):
    """Eight of the sixty particles of the run that cryoDRGN trained are kept beside it."""
    run = tmp_path / "run"
    run.mkdir()
    config = (CRYODRGN / "fourier" / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("/tmp/asset/data", str(CRYODRGN)))
    shutil.copy(CRYODRGN / "fourier" / "weights.2.pkl", run)
    z, logvar = cryodrgn.read_latents(str(CRYODRGN / "fourier" / "z.2.pkl"))
    cryodrgn.write_latents(str(run / "z.2.pkl"), z[:8], logvar[:8])
    said = choose(run, "--zscore", "1", "--skip-volumes")
    assert said.exit_code == 0, said.output
    assert (run / "filter" / "images.png").stat().st_size > 5000

    (run / "config.yaml").write_text(config)  # the folder of the machine where it was trained
    said = choose(run, "--zscore", "1", "--skip-volumes")
    assert said.exit_code == 0, said.output
    assert "Images could not be read" in said.output
    assert not (run / "filter" / "images.png").exists()


def test_a_folder_named_like_markup_is_printed_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(ResultFolder, "write_figure", lambda *_: None)
    z = np.random.default_rng(0).normal(size=(60, 2))
    run = make_run(tmp_path / "[run7]" / "[", z).files.root
    said = choose(run, "--zscore", "1", "--skip-volumes", "-o", f"{tmp_path}/[bold]/[")
    assert said.exit_code == 0, said.output
    assert f"{tmp_path}/[bold]/[/kept.ind.pkl" in said.output
