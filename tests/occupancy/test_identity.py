"""Nothing of one epoch, run or list of maps is found in the results of another."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from finished_run import MODEL, make_run
from phantoms import table_of
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io.cryodrgn import read_pickles, write_latents, write_pickles
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.occupancy.membership import class_particles
from raydrgn.occupancy.options import ClassOptions
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.workflows import occupancy_classes, occupancy_score
from raydrgn.workflows.occupancy_classes import OccupancyClassesSettings
from raydrgn.workflows.occupancy_score import OccupancyScoreSettings
from subunit_files import write_maps, write_subunits

COUNT = 40
ORIGINAL = np.arange(COUNT) * 3 + 1
"""Numbers of the particles in the original set."""


def train(run, epoch, seed):
    """Write an epoch with its own weights and latents, as a training would."""
    torch.manual_seed(seed)
    vae = HeterogeneousVAE(MODEL, box=run.box, num_pixels=20)
    torch.save({"epoch": epoch, "model_state_dict": vae.state_dict()}, run.files.weights(epoch))
    z = np.random.default_rng(seed).normal(size=(COUNT, 2)).astype(np.float32)
    write_latents(run.files.latents(epoch), z, np.zeros_like(z))


@pytest.fixture
def run(tmp_path):
    """A run of one epoch, and the masks of its volumes."""
    particles = table_of(3 * COUNT + 1, box=16, pixel_size=1.5).select(ORIGINAL)
    z = np.random.default_rng(9).normal(size=(COUNT, 2))
    opened = make_run(tmp_path / "run", z, box=16, pixel_size=1.5, table=particles)
    write_subunits(tmp_path)
    return opened


def score(run, out=None, **more):
    root = run.files.root
    settings = OccupancyScoreSettings(
        run=root,
        masks=root.replace("/run", "/masks"),
        normalize="none",
        out=out,
        **({"all_particles": True} | more),
    )
    return occupancy_score.run(settings)


@pytest.fixture(autouse=True)
def reports(monkeypatch):
    """Contents of the reports, which are not drawn here."""
    contents = []
    monkeypatch.setattr(
        "raydrgn.occupancy.class_report.write_class_report",
        lambda content, folder: contents.append(content),
    )
    return contents


def classes(table, **more):
    options = ClassOptions(classes=3, blocks=2)
    settings = OccupancyClassesSettings(table=table, clustering=options, skip_volumes=True, **more)
    return occupancy_classes.run(settings)


def test_scores_of_an_epoch_are_not_those_of_the_next(run, tmp_path):
    out = str(tmp_path / "out")
    first = score(run, out)
    train(run, 2, seed=1)  # train --resume with more epochs: the last one is another now
    with pytest.raises(RunDirectoryError, match="results of epoch 1, not 2"):
        score(run, out)
    again = score(run, out, epoch=1)
    np.testing.assert_array_equal(again.table.values, first.table.values)
    beside = score(run)
    assert beside.folder.uri == run.files.results("occupancy", 2)
    assert not np.allclose(beside.table.values, first.table.values)
    replaced = score(run, out, overwrite=True)
    np.testing.assert_array_equal(replaced.table.values, beside.table.values)


@pytest.mark.parametrize("changed", ["weights", "latents"])
def test_scores_of_a_run_are_not_those_of_one_trained_anew_under_its_name(run, changed):
    first = score(run)
    kept = getattr(run.files, "latents" if changed == "weights" else "weights")(1)
    with open(kept, "rb") as file:
        content = file.read()
    train(run, 1, seed=1)
    with open(kept, "wb") as file:
        file.write(content)
    with pytest.raises(RunDirectoryError, match=f"results of other {changed} .*run, epoch 1"):
        score(run)
    with pytest.raises(RunDirectoryError, match=f"occupancies of other {changed} .*Score again"):
        classes(first.folder.uri)


def test_interrupted_scores_of_a_run_trained_anew_are_not_used(run, monkeypatch):
    from raydrgn.decoding.pool import VolumeDecoder

    decode, calls = VolumeDecoder.decode, []

    def interrupted(self, z, **options):
        calls.append(len(z))
        if len(calls) > 2:
            raise KeyboardInterrupt
        return decode(self, z, **options)

    monkeypatch.setattr(VolumeDecoder, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(run)
    monkeypatch.setattr(VolumeDecoder, "decode", decode)
    train(run, 1, seed=1)
    with pytest.raises(RunDirectoryError, match="other weights"):
        score(run)


def test_classes_of_a_table_are_not_those_of_another(run, tmp_path):
    out, made = str(tmp_path / "out"), str(tmp_path / "classes")
    score(run, out)
    found = classes(out, out=made)
    train(run, 2, seed=1)
    score(run, out, overwrite=True)
    with pytest.raises(RunDirectoryError, match="results of epoch 1, not 2"):
        classes(out, out=made)
    other = classes(out, out=made, overwrite=True)
    assert other.clustered.table.checksum() != found.clustered.table.checksum()
    # another table of the same epoch
    score(run, out, flip=True, overwrite=True)
    with pytest.raises(RunDirectoryError, match="results with table_checksum"):
        classes(out, out=made)


def test_an_embedding_of_other_weights_is_not_shown(run, reports):
    from raydrgn.reporting.analysis_results import AnalysisResults

    out = score(run).folder.uri
    folder = AnalysisResults(run, 1).folder
    folder.begin({}, made_from=run.identity(1), overwrite=False)
    umap = np.random.default_rng(0).normal(size=(COUNT, 2)).astype(np.float32)
    write_pickles(folder.at("umap.pkl"), umap)
    classes(out)
    names, xy = reports[0].embedding
    assert names == ("UMAP 1", "UMAP 2")
    np.testing.assert_array_equal(xy, umap)
    train(run, 1, seed=1)
    classes(score(run, overwrite=True).folder.uri, overwrite=True)
    assert reports[1].embedding[0] == ("PC 1", "PC 2")


def test_thresholds_that_were_edited_are_not_taken_for_the_same(run, tmp_path):
    thresholds = tmp_path / "thresholds.csv"

    def write(value):
        rows = [f"{number},{value}" for number in range(COUNT)]
        thresholds.write_text("\n".join(["vol_id,denormalized_predictions", *rows]))

    write(0.0)
    score(run, binarize=str(thresholds))
    write(0.01)
    with pytest.raises(RunDirectoryError, match="results with binarize"):
        score(run, binarize=str(thresholds))


def test_maps_that_were_replaced_are_not_centroids_of_the_scored_ones(tmp_path):
    masks = write_subunits(tmp_path)
    amounts = np.random.default_rng(0).uniform(size=(8, 3))
    maps = write_maps(tmp_path / "maps", amounts)
    out = str(tmp_path / "out")
    occupancy_score.run(OccupancyScoreSettings(volumes=str(maps), masks=str(masks), out=out))
    settings = OccupancyClassesSettings(table=out, clustering=ClassOptions(classes=2, blocks=2))
    assert occupancy_classes.run(settings).centroids is not None
    (maps / "vol_003.mrc").write_bytes((maps / "vol_004.mrc").read_bytes())
    with pytest.raises(InputError, match="have changed since they were scored"):
        occupancy_classes.run(settings)


def test_particles_have_their_row_and_their_original_number(run):
    found = score(run, all_particles=False, ksample=5)
    table = pq.read_table(found.folder.at("occupancies.parquet")).to_pydict()
    np.testing.assert_array_equal(ORIGINAL[table["particle"]], table["original"])
    np.testing.assert_array_equal(run.latents(1)[table["particle"]], found.table.latents)
    result = classes(found.folder.uri)
    rows = np.genfromtxt(
        result.folder.at("volumes.csv"), delimiter=",", names=True, dtype=None, encoding="utf-8"
    )
    np.testing.assert_array_equal(rows["particle"], table["particle"])
    np.testing.assert_array_equal(rows["original"], table["original"])


def test_original_numbers_of_earlier_tables_are_read_as_such(tmp_path):
    names = tuple(map(str, range(3)))
    table = OccupancyTable(
        volumes=names, subunits=("a", "b"), values=np.eye(3, 2), original=np.array([7, 1, 4])
    )
    table.write(str(tmp_path))
    path = tmp_path / "occupancies.parquet"
    stored = pq.read_table(path)
    columns = ["particle" if name == "original" else name for name in stored.column_names]
    renamed = stored.rename_columns(columns).replace_schema_metadata(stored.schema.metadata)
    pq.write_table(renamed, path)
    found = OccupancyTable.read(str(tmp_path))
    assert found.particles is None
    np.testing.assert_array_equal(found.original, [7, 1, 4])


def test_the_particles_of_a_class_are_clustered_again_by_themselves(run, tmp_path, reports):
    """And their classes have no other particles, whether volumes are of particles or clusters."""
    for out, more in (("own", {}), ("clusters", {"all_particles": False, "ksample": 12})):
        scored = score(run, str(tmp_path / out), **more)
        whole = classes(scored.folder.uri)
        assert reports[-1].commands[-1].startswith("raydrgn occupancy classes")
        largest = 1 + int(np.argmax(whole.particles.counts()))
        ind = whole.folder.at(f"C{largest}", "ind.pkl")
        part = classes(scored.folder.uri, chosen=ind, out=str(tmp_path / f"{out}-part"))
        inside = whole.particles.labels == largest
        np.testing.assert_array_equal(part.particles.labels > 0, inside)
        assert len(part.clustered.table) == (whole.clustered.classes.labels == largest).sum()
        # The same occupancies as in the table of all.
        rows = whole.clustered.rows_of(largest)
        values = whole.clustered.table.values[rows]
        np.testing.assert_array_equal(part.clustered.table.values, values)


def test_chosen_particles_without_a_scored_volume_are_counted(run, tmp_path, caplog):
    """Of a table of clusters only the particles at their centres have volumes of their own."""
    scored = score(run, str(tmp_path / "out"), all_particles=False, ksample=12)
    table = OccupancyTable.read(scored.folder.uri)
    [cluster] = read_pickles(scored.folder.at("labels.pkl"))
    numbers = run.original_numbers(len(cluster))
    others = numbers[~np.isin(cluster, table.clusters[:6]) & ~np.isin(numbers, table.original)]
    write_pickles(str(tmp_path / "some.pkl"), np.append(table.original[:6], others[:3]))
    with caplog.at_level("INFO", logger="raydrgn"):
        classes(scored.folder.uri, chosen=str(tmp_path / "some.pkl"), out=str(tmp_path / "part"))
    assert "3 of 9 particles have no scored volume of their own, and are in no class" in caplog.text


def test_a_part_without_volumes_or_without_its_own_folder_is_refused(run, tmp_path):
    out = score(run, str(tmp_path / "out")).folder.uri
    other = str(tmp_path / "other.pkl")
    write_pickles(other, np.array([0, 2]))
    with pytest.raises(InputError, match=r"other.pkl has the particles of 0 volumes"):
        classes(out, chosen=other, out=str(tmp_path / "part"))
    with pytest.raises(ConfigError, match="--particles clusters a part of the table: give -o"):
        classes(out, chosen=other)


def test_particles_without_a_volume_are_in_no_class(run, tmp_path):
    """As images without a particle, whose latents are those of the mean."""
    found = classes(score(run, str(tmp_path / "out")).folder.uri).particles
    junk = np.arange(COUNT) % 4 == 0
    volumes = np.zeros(COUNT, dtype=np.int64)
    volumes[found.members.volume] = found.labels
    again = class_particles(volumes, found.members.without(junk))
    np.testing.assert_array_equal(again.labels, np.where(junk, 0, found.labels))
