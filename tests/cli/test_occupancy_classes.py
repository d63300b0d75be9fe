"""``raydrgn occupancy classes`` on tables with known classes: particles, centroids, mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from phantoms import table_of
from planted import planted_table
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_volume, write_volume
from raydrgn.occupancy.membership import membership
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.run.reader import RunReader

CLUSTERS, EACH = 60, 5
ORIGINAL = np.arange(CLUSTERS * EACH) * 3 + 1
"""Numbers of the particles in the set before any selection."""


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A run, and a table of the volumes of its clusters, as ``occupancy score`` leaves it."""
    folder = tmp_path_factory.mktemp("classes")
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLUSTERS), EACH)
    table, classes, _ = planted_table(CLUSTERS, noise=0.05)
    z = 4 * classes[labels][:, None] + generator.normal(size=(len(labels), 2))
    particles = table_of(len(z) * 3 + 1, box=8, pixel_size=2.0).select(ORIGINAL)
    run = make_run(folder / "run", z, table=particles)
    z = run.latents(1)
    rows = np.arange(CLUSTERS) * EACH
    out = folder / "out"
    write_table(
        table,
        out,
        particles=rows,
        original=ORIGINAL[rows],
        latents=z[rows],
        clusters=np.arange(CLUSTERS),
    )
    cryodrgn.write_pickles(str(out / "labels.pkl"), labels)
    settings = {"made_from": run.identity(1).to_dict(), "normalize": "reference"}
    (out / "settings.json").write_text(json.dumps(settings))
    return out, z, labels, classes


def write_table(table, folder, **columns):
    OccupancyTable(
        volumes=table.volumes, subunits=table.subunits, values=table.values, **columns
    ).write(str(folder))


def classes_of(out, *arguments):
    return CliRunner().invoke(app, ["occupancy", "classes", str(out), *arguments])


def same_sets(ours, truth):
    return {tuple(np.flatnonzero(ours == c)) for c in np.unique(ours)} == {
        tuple(np.flatnonzero(truth == c)) for c in np.unique(truth)
    }


def test_particles_and_centroid_of_each_class(scored):
    out, z, labels, classes = scored
    said = classes_of(out, "--where", "S20 > 0.5 and S12 < 0.5")
    assert said.exit_code == 0, said.output
    folder = out / "classes"
    [found] = cryodrgn.read_pickles(str(folder / "labels.pkl"))
    assert same_sets(found, classes[labels])
    centroids = np.loadtxt(
        folder / "centroids" / "centroids.csv", delimiter=",", skiprows=1, usecols=3, dtype=int
    )
    for number in range(1, 7):
        rows = np.flatnonzero(found == number)
        numbers = cryodrgn.read_indices(str(folder / f"C{number}" / "ind.pkl"))
        np.testing.assert_array_equal(numbers, ORIGINAL[rows])
        distance = np.linalg.norm(z[rows] - np.median(z[rows], axis=0), axis=1)
        assert centroids[number - 1] == ORIGINAL[rows[distance.argmin()]]
    # the dead end alone has the last block (S20 to S23) and not the third (S11 to S15)
    chosen = cryodrgn.read_indices(str(folder / "ind.pkl"))
    np.testing.assert_array_equal(chosen, ORIGINAL[classes[labels] == 5])
    volume, header = read_volume(str(folder / "centroids" / "vol_000.mrc"))
    assert volume.shape == (8, 8, 8)
    assert header.pixel_size_angstrom == pytest.approx(2.0)
    made = folder.parent / "by_volumes"
    arguments = ["volumes", str(out.parent / "run"), "-o", str(made)]
    row = int(np.flatnonzero(centroids[0] == ORIGINAL)[0])
    assert CliRunner().invoke(app, [*arguments, "--particles", str(row)]).exit_code == 0
    np.testing.assert_array_equal(volume, read_volume(str(made / "vol_000.mrc"))[0])

    # the class of each particle is what filter takes; other options are refused, unless anew
    arguments = ["filter", str(out.parent / "run"), "--labels", str(folder / "labels.pkl")]
    said = CliRunner().invoke(app, [*arguments, "--keep-clusters", "2", "--skip-volumes"])
    assert said.exit_code == 0, said.output
    kept = cryodrgn.read_indices(str(out.parent / "run" / "filter" / "kept.ind.pkl"))
    np.testing.assert_array_equal(kept, ORIGINAL[found == 2])
    with pytest.raises(RunDirectoryError, match="results with classes = None, not 3"):
        raise classes_of(out, "--classes", "3").exception
    assert classes_of(out, "--classes", "3", "--skip-volumes", "--overwrite").exit_code == 0
    assert not (folder / "C4").exists()


def test_where_every_particle_was_scored_each_has_its_own_class(scored, tmp_path):
    out, z, *_ = scored
    table, classes, _ = planted_table(len(z), noise=0.1, seed=1)
    shuffled = np.random.default_rng(1).permutation(len(z))
    write_table(table, tmp_path, original=ORIGINAL[shuffled], latents=z[shuffled])
    (tmp_path / "settings.json").write_text((out / "settings.json").read_text())
    assert classes_of(tmp_path, "--skip-volumes").exit_code == 0
    [found] = cryodrgn.read_pickles(str(tmp_path / "classes" / "labels.pkl"))
    of_particle = np.empty(len(z), dtype=int)
    of_particle[shuffled] = classes
    assert same_sets(found, of_particle)


@pytest.fixture
def with_junk(scored, tmp_path, monkeypatch):
    """Every particle scored, every fourth one junk: latents and occupancies of the mean."""
    out, z, *_ = scored
    table, classes, _ = planted_table(len(z), noise=0.1, seed=1)
    junk = np.arange(len(z)) % 4 == 0
    table.values[junk] = table.values.mean(axis=0)
    write_table(table, tmp_path, original=ORIGINAL, latents=z)
    (tmp_path / "settings.json").write_text((out / "settings.json").read_text())
    monkeypatch.setattr(RunReader, "is_mixture", True)
    monkeypatch.setattr(
        RunReader, "estimates", lambda run, epoch: {"null_probability": junk.astype(float)}
    )
    return tmp_path, classes, junk


def test_images_without_a_particle_make_no_class(with_junk):
    out, classes, junk = with_junk
    said = classes_of(out, "--skip-volumes")
    assert said.exit_code == 0, said.output
    [found] = cryodrgn.read_pickles(str(out / "classes" / "labels.pkl"))
    assert (found[junk] == 0).all()
    assert same_sets(found[~junk], classes[~junk])
    rows = np.genfromtxt(out / "classes" / "classes.csv", delimiter=",", names=True, dtype=None)
    assert rows["volumes"].tolist() == rows["particles"].tolist()
    assert rows["particles"].sum() == (~junk).sum()


def test_particles_that_are_chosen_are_clustered_without_junk(with_junk):
    out, classes, junk = with_junk
    chosen = out / "chosen.txt"
    rows = np.flatnonzero(np.isin(classes, (1, 2)))
    chosen.write_text("\n".join(map(str, ORIGINAL[rows])))
    options = ("--skip-volumes", "--particles", str(chosen), "-o", str(out / "again"))
    said = classes_of(out, *options)
    assert said.exit_code == 0, said.output
    [found] = cryodrgn.read_pickles(str(out / "again" / "labels.pkl"))
    assert np.flatnonzero(found).tolist() == [row for row in rows if not junk[row]]
    chosen.write_text("\n".join(map(str, ORIGINAL[junk])))
    said = classes_of(out, *options, "--overwrite")
    with pytest.raises(InputError, match=f"0 of {junk.sum()} volumes stand for images that show"):
        raise said.exception


def test_of_maps_the_one_nearest_to_the_median_stands_for_a_class(tmp_path):
    table, classes, _ = planted_table(24, noise=0.02)
    for name in table.volumes:
        volume = np.full((8, 8, 8), float(name), dtype=np.float32)
        volume[4, 4, 4] += 1
        write_volume(
            str(tmp_path / "maps" / f"vol_{int(name):03d}.mrc"), volume, pixel_size_angstrom=5.0
        )
    write_table(table, tmp_path / "out")
    settings = {"volumes": str(tmp_path / "maps")}
    (tmp_path / "out" / "settings.json").write_text(json.dumps(settings))
    said = classes_of(tmp_path / "out")
    assert said.exit_code == 0, said.output
    folder = tmp_path / "out" / "classes"
    lines = (folder / "volumes.csv").read_text().splitlines()[1:]
    labels = np.array([int(line.split(",C")[1]) for line in lines])
    assert same_sets(labels, classes)
    levels = set()
    for number in range(1, 7):
        volume, header = read_volume(str(folder / "centroids" / f"vol_{number - 1:03d}.mrc"))
        assert labels[int(volume[0, 0, 0])] == number
        assert header.pixel_size_angstrom == pytest.approx(5.0)
        # ChimeraX, in the script's folder, opens the maps of the class where they are
        script = (folder / f"C{number}" / "open.cxc").read_text().splitlines()
        opened = [line.split()[1] for line in script if line.startswith("open ")]
        assert {int(Path(name).stem.split("_")[1]) for name in opened} == set(
            np.flatnonzero(labels == number)
        )
        assert all((folder / f"C{number}" / name).exists() for name in opened)
        levels |= {line.split()[-1] for line in script if line.startswith("volume ")}
    assert len(levels) == 1
    assert not (folder / "labels.pkl").exists()


def damaged(scored, tmp_path, **changes):
    """Return a copy of the table with other latents, particles or settings."""
    out = scored[0]
    table = OccupancyTable.read(str(out))
    columns = {"original": table.original, "latents": table.latents, "clusters": table.clusters}
    write_table(table, tmp_path, **{**columns, **changes})
    for name in ("settings.json", "labels.pkl"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    return tmp_path


def test_a_table_of_another_run_is_refused(scored, tmp_path):
    _, z, labels, _ = scored
    other = z[np.arange(CLUSTERS) * EACH] + 0.5
    with pytest.raises(RunDirectoryError, match=r"was not scored from .*run, epoch 1"):
        raise classes_of(damaged(scored, tmp_path / "a", latents=other)).exception
    with pytest.raises(
        RunDirectoryError, match="latents of the table have dimension 3, those of the run 2"
    ):
        raise classes_of(
            damaged(scored, tmp_path / "b", latents=np.pad(other, ((0, 0), (0, 1))))
        ).exception
    folder = damaged(scored, tmp_path / "c")
    cryodrgn.write_pickles(str(folder / "labels.pkl"), labels[:-1])
    with pytest.raises(RunDirectoryError, match=r"has 299 labels, but .* has 300 particles"):
        raise classes_of(folder).exception
    assert not (folder / "classes").exists()


def test_a_csv_without_latents_is_refused_with_the_folder_to_give(scored, tmp_path):
    folder = damaged(scored, tmp_path / "a")
    (folder / "occupancies.csv").rename(folder / "mine.csv")
    with pytest.raises(RunDirectoryError, match=r"never has\. Give the folder of `raydrgn occ"):
        raise classes_of(folder / "mine.csv").exception


def test_mistakes_leave_earlier_results_alone(scored):
    out, *_ = scored
    assert classes_of(out, "--skip-volumes", "--overwrite").exit_code == 0
    for arguments, error, message in (
        (["--where", "S20 >"], ConfigError, "at the end"),
        (["--classes", "61"], ConfigError, "--classes 61"),
        (["-o", str(out)], ConfigError, str(out)),
        (["-o", str(out.parent)], ConfigError, str(out)),
        (["--model", str(out / "settings.json")], InputError, "settings.json"),
    ):
        with pytest.raises(error, match=message):
            raise classes_of(out, *arguments, "--overwrite").exception
    assert (out / "classes" / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize("name", ["[run7]", "[bold]x[/x]"])
def test_names_with_brackets_are_printed_as_they_are(tmp_path, monkeypatch, name):
    monkeypatch.setattr("raydrgn.occupancy.class_report.write_class_report", lambda *_: None)
    table, *_ = planted_table(24, noise=0.02)
    out = tmp_path / name
    write_table(table, out)
    said = classes_of(out)
    assert said.exit_code == 0, said.output
    assert str(out / "classes" / "report.html") in said.output


def test_two_clusters_are_labels_too(tmp_path):
    labels = np.array([0, 0, 1, 1, 1, 0])
    run = make_run(tmp_path / "run", np.random.default_rng(0).normal(size=(6, 2)))
    table = OccupancyTable(
        volumes=("a", "b"),
        subunits=("S1", "S2"),
        values=np.array([[0.1, 0.9], [0.8, 0.2]]),
        particles=np.array([0, 2]),
        latents=run.latents(1)[[0, 2]],
        clusters=np.arange(2),
    )
    cryodrgn.write_pickles(str(tmp_path / "labels.pkl"), labels)
    found = membership(table, run, 1, labels=str(tmp_path / "labels.pkl"))
    np.testing.assert_array_equal(found.volume, labels)
