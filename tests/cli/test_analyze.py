"""``raydrgn analyze`` on a small run: files, figures, and what goes wrong."""

import numpy as np
import pytest
from typer.testing import CliRunner

from latents import finished_run
from raydrgn.cli.main import app
from raydrgn.clustering import embedding
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_volume


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("analysed"))


def analyze(root, *arguments):
    return CliRunner().invoke(app, ["analyze", str(root), *arguments])


def test_everything_is_where_cryodrgn_puts_it(root, monkeypatch):
    monkeypatch.setattr(embedding, "_fit_umap", lambda z, seed: z[:, :2])  # seconds to compile
    said = analyze(root, "--ksample", "5", "--pc-points", "3", "--box", "8")
    assert said.exit_code == 0, said.output
    folder = root / "analyze.2"
    z = cryodrgn.read_latents(str(root / "z.2.pkl"))[0]
    [labels] = cryodrgn.read_pickles(str(folder / "kmeans5" / "labels.pkl"))
    [places] = cryodrgn.read_pickles(str(folder / "umap.pkl"))
    rows = np.loadtxt(folder / "kmeans5" / "centers_ind.txt", dtype=int)
    assert len(labels) == len(places) == len(z)
    np.testing.assert_array_equal(labels[rows], np.arange(5))
    np.testing.assert_allclose(np.loadtxt(folder / "kmeans5" / "centers.txt"), z[rows], rtol=1e-5)
    for part, count in (("kmeans5", 5), ("pc1", 3), ("pc2", 3)):
        volumes = sorted((folder / part).glob("vol_*.mrc"))
        assert [path.name for path in volumes] == [f"vol_{k:03d}.mrc" for k in range(count)]
        assert read_volume(str(volumes[0]))[0].shape == (8, 8, 8)
        script = (folder / part / "open.cxc").read_text()
        assert all(f"open {path.name} id" in script for path in volumes)
    for name in ("umap", "umap_hexbin", "z_pca", "learning_curve", "kmeans5/umap", "kmeans5/slices",
                 "pc1/umap_traversal"):  # fmt: skip
        assert (folder / f"{name}.png").stat().st_size > 3000
    for part in ("kmeans5", "pc1", "pc2"):
        assert (folder / part / "slices_one_scale.png").stat().st_size > 3000
        assert (folder / part / "surfaces.png").stat().st_size > 1000
        assert (folder / part / "movie.gif").exists() == part.startswith("pc")
        assert len((folder / part / "densities.csv").read_text().splitlines()) >= 4
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 21

    # begun again, finished volumes are kept; other options are refused, unless anew
    volume = folder / "kmeans5" / "vol_000.mrc"
    written = volume.stat().st_mtime_ns
    (folder / "kmeans5" / "vol_001.mrc").unlink()
    for piece in ("kmeans5/vol_002.mrc", "umap.pkl"):  # damaged: made again
        (folder / piece).write_bytes((folder / piece).read_bytes()[:-100])
    assert analyze(root, "--ksample", "5", "--pc-points", "3", "--box", "8").exit_code == 0
    assert volume.stat().st_mtime_ns == written
    assert (folder / "kmeans5" / "vol_001.mrc").exists()
    assert read_volume(str(folder / "kmeans5" / "vol_002.mrc"))[0].shape == (8, 8, 8)
    np.testing.assert_array_equal(cryodrgn.read_pickles(str(folder / "umap.pkl"))[0], places)
    with pytest.raises(RunDirectoryError, match="pc_points = 3, not 10"):
        raise analyze(root, "--ksample", "5", "--box", "8").exception

    # other clusters lie beside the first, and traverse takes the last
    assert analyze(root, "--ksample", "3", "--pc-points", "3", "--box", "8").exit_code == 0
    assert len(list((folder / "kmeans3").glob("vol_*.mrc"))) == 3
    assert volume.stat().st_mtime_ns == written
    words = ("--points", "2", "--skip-volumes")
    for centres in ("0,2", "5:0,4"):
        said = CliRunner().invoke(
            app, ["traverse", "direct", str(root), "--centres", centres, *words, "--overwrite"]
        )
        assert said.exit_code == 0, said.output
    said = analyze(root, "--ksample", "4", "--overwrite", "--skip-volumes", "--skip-umap")
    assert said.exit_code == 0
    assert not (folder / "kmeans5").exists()
    assert not list(folder.glob("*/vol_*.mrc"))


def test_one_dimension_needs_no_options(tmp_path):
    root = finished_run(tmp_path, zdim=1)
    said = analyze(root, "--ksample", "3", "--skip-volumes")
    assert said.exit_code == 0, said.output
    assert (root / "analyze.2" / "pc1" / "points.csv").exists()
    assert not (root / "analyze.2" / "pc2").exists()
    assert not (root / "analyze.2" / "umap.pkl").exists()
    assert (root / "analyze.2" / "pc1" / "z_traversal.png").stat().st_size > 5000
    said = CliRunner().invoke(app, ["traverse", "pc", str(root), "--skip-volumes"])
    assert said.exit_code == 0, said.output
    assert (root / "traverse.2" / "pc1" / "path.png").stat().st_size > 5000


def test_volumes_can_come_later_and_a_mistake_leaves_nothing_behind(tmp_path):
    root, few = finished_run(tmp_path), ("--pc", "0", "--skip-umap", "--box", "8")
    assert analyze(root, "--ksample", "1000").exit_code != 0
    assert analyze(root, "--ksample", "3", *few, "--skip-volumes").exit_code == 0
    said = analyze(root, "--ksample", "3", *few)
    assert said.exit_code == 0, said.output
    assert len(list((root / "analyze.2" / "kmeans3").glob("vol_*.mrc"))) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["7"], RunDirectoryError, "no epoch 7; those that are finished: 1, 2"),
        (["--ksample", "1000"], ConfigError, r"--ksample 1000 .* particles \(203\)"),
        (["--pc", "3"], ConfigError, "--pc 3 is too many"),
        (["--box", "32"], ConfigError, "larger than the run's box"),
    ],
)
def test_mistakes_are_one_message(root, tmp_path, arguments, error, message):
    said = analyze(root, *arguments, "-o", str(tmp_path / "out"))
    with pytest.raises(error, match=message):
        raise said.exception


@pytest.mark.parametrize("given", ["0", "-2", "nan", "inf"])
def test_a_pixel_size_that_is_none_is_refused(root, tmp_path, given):
    said = analyze(root, "--pixel-size", given, "-o", str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="--pixel-size must be"):
        raise said.exception
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda z: np.where(np.arange(len(z))[:, None] == 4, np.nan, z), "1 of 203 .* not finite"),
        (lambda z: np.ones_like(z), "all 203 particles have the same latent"),
    ],
)
def test_latents_that_say_nothing_are_refused(root, tmp_path, broken, message):
    z, logvar = cryodrgn.read_latents(str(root / "z.1.pkl"))
    for name in ("config.yaml", "weights.1.pkl", "particles.parquet"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    cryodrgn.write_latents(str(tmp_path / "z.1.pkl"), broken(z), logvar)
    with pytest.raises(RunDirectoryError, match=message):
        raise analyze(tmp_path, "--skip-volumes").exception


def test_what_has_been_judged_is_not_proposed_again(tmp_path):
    root = finished_run(tmp_path)
    words = ("2", "--ksample", "2", "--skip-umap", "--skip-volumes")
    assert analyze(root, *words).exit_code == 0
    page = root / "analyze.2" / "report.html"
    assert f"raydrgn convergence {root} 2" in page.read_text()
    (root / "convergence.2").mkdir()
    (root / "convergence.2" / "report.html").write_text("It has converged.")
    assert analyze(root, *words, "--overwrite").exit_code == 0
    assert "raydrgn convergence" not in page.read_text()
    assert f"raydrgn landscape {root} 2" in page.read_text()
