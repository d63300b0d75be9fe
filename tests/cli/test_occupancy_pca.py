"""``raydrgn occupancy pca``: a subunit that comes and goes is the first component in its mask."""

import shutil
import tracemalloc

import numpy as np
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from latents import blobs
from phantoms import table_of
from raydrgn.cli.main import app
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.io.masks import Mask
from raydrgn.io.mrc import read_header, read_volume, write_volume
from raydrgn.landscape import masked_volumes
from raydrgn.landscape.components import rows_at_percentiles
from raydrgn.landscape.masked_volumes import (
    check_memory,
    components_within,
    decode_voxels,
    volumes_of_latents,
)
from raydrgn.remote.progress import silent
from raydrgn.workflows import occupancy_pca as workflow
from raydrgn.workflows.occupancy_pca import PcaSettings

BOX, COUNT = 16, 40


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Maps in which one blob of the mask is there to a known degree, and a second one shifts."""
    folder = tmp_path_factory.mktemp("pca")
    generator = np.random.default_rng(0)
    ticks = np.arange(BOX)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")

    def blob(centre):
        return np.exp(-((x - centre) ** 2 + (y - 8) ** 2 + (z - 8) ** 2) / 4)

    first, second, outside = blob(4), blob(11), np.exp(-((z - 2) ** 2 + (y - 8) ** 2) / 2)
    degree, other = generator.uniform(size=COUNT), generator.normal(size=COUNT)
    for number in range(COUNT):
        volume = degree[number] * first + 0.05 * other[number] * second
        volume += 5 * generator.normal() * outside  # the most, but not within the mask
        write_volume(
            str(folder / "maps" / f"vol_{number:03d}.mrc"),
            volume.astype(np.float32),
            pixel_size_angstrom=3.0,
        )
    mask = ((first + second > 0.1) & (z > 5)).astype(np.float32)
    write_volume(str(folder / "mask.mrc"), mask, pixel_size_angstrom=3.0)
    return folder, degree, other, mask > 0, first


def pca(*arguments):
    return CliRunner().invoke(app, ["occupancy", "pca", *map(str, arguments)])


def test_what_varies_within_the_mask_is_found_and_nothing_else(maps):
    folder, degree, other, inside, first = maps
    out = folder / "out"
    said = pca("--volumes", folder / "maps", "--mask", folder / "mask.mrc", "-o", out)
    assert said.exit_code == 0, said.output
    table = np.genfromtxt(out / "coordinates.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(table["volume"], np.arange(COUNT))
    assert np.corrcoef(table["pc1"], degree)[0, 1] > 0.9999
    assert abs(np.corrcoef(table["pc2"], other)[0, 1]) > 0.99
    assert table.dtype.names == ("volume", "pc1", "pc2", "pc3")  # three blobs; the rest is rounding
    shares = np.genfromtxt(out / "explained.csv", delimiter=",", names=True)["share"]
    assert shares[:2].sum() == pytest.approx(1, abs=1e-4)
    component, header = read_volume(str(out / "pc1" / "component.mrc"))
    assert np.corrcoef(component[inside], first[inside])[0, 1] > 0.999
    assert component[inside].max() == pytest.approx(degree.std() * first[inside].max(), rel=0.02)
    assert not component[~inside].any()
    assert header.pixel_size_angstrom == pytest.approx(3.0)
    # the series of volumes are whole maps, in ascending order of the component
    series = [read_volume(str(path))[0] for path in sorted((out / "pc1").glob("vol_*.mrc"))]
    there = [volume[8, 8, 4] for volume in series]
    assert there == sorted(there)
    assert there[0] < 0.1
    assert there[-1] > 0.9


def test_a_run_is_decoded_in_the_box_of_the_mask(tmp_path):
    z, labels = blobs([(0, 0), (5, 5), (-5, 5)], size=20)
    numbers = np.arange(60) * 2
    run = make_run(tmp_path / "run", z, table=table_of(120, box=8, pixel_size=2.0).select(numbers))
    mask = np.zeros((6, 6, 6), dtype=np.float32)
    mask[1:5, 1:5, 1:5] = 1
    write_volume(str(tmp_path / "mask.mrc"), mask, pixel_size_angstrom=8 * 2.0 / 6)
    arguments = [run.files.root, "--mask", tmp_path / "mask.mrc", "--ksample", "3"]
    said = pca(*arguments)
    assert said.exit_code == 0, said.output
    import pyarrow.parquet as pq

    folder = tmp_path / "run" / "occupancy_pca.1"
    table = pq.read_table(folder / "particles.parquet")
    np.testing.assert_array_equal(table["particle"].to_numpy(), np.arange(60))
    np.testing.assert_array_equal(table["original"].to_numpy(), numbers)
    volumes = np.genfromtxt(folder / "coordinates.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(volumes["original"], 2 * volumes["particle"])
    pc1 = table["pc1"].to_numpy()
    assert [len(np.unique(pc1[labels == k])) for k in range(3)] == [1, 1, 1]
    assert len(np.unique(pc1)) == 3
    assert read_volume(str(folder / "pc1" / "vol_000.mrc"))[0].shape == (6, 6, 6)


def test_components_are_those_of_a_singular_value_decomposition():
    rows = np.random.default_rng(2).normal(size=(30, 200)).astype(np.float32)
    inside = np.arange(216).reshape(6, 6, 6) < 200
    found = components_within(rows, Mask("mask.mrc", inside, 1.0, (0.0, 0.0, 0.0)), 5)
    u, s, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.coordinates), np.abs(u * s)[:, :5], atol=1e-3)
    np.testing.assert_allclose(np.abs(found.axes), np.abs(axes[:5]), atol=1e-4)
    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:5], rtol=1e-5)
    assert (found.axes.sum(axis=1) > 0).all()
    assert rows_at_percentiles(np.arange(11.0), [0, 4, 50, 100]).tolist() == [0, 5, 10]


def test_the_memory_that_is_counted_is_what_components_take(tmp_path, monkeypatch):
    count = 150
    run = make_run(tmp_path / "run", blobs([(0, 0)], size=count)[0], box=24)
    mask = Mask("mask.mrc", np.ones((24, 24, 24), dtype=bool), 2.0, (0.0, 0.0, 0.0))
    volumes = volumes_of_latents(run.latents(1))
    monkeypatch.setattr("raydrgn.landscape.components.BLOCK", 10_000)
    with DecoderPool(run.decoder(1), VolumeOptions()) as pool:
        tracemalloc.start()
        rows = decode_voxels(volumes, mask, pool, progress=silent)
        components_within(rows, mask, 3)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    monkeypatch.setattr(masked_volumes, "MAX_BYTES", peak)
    check_memory(volumes, mask)
    monkeypatch.setattr(masked_volumes, "MAX_BYTES", 0.8 * peak)  # without one batch
    with pytest.raises(ConfigError, match="150 volumes × 13,824 voxels need"):
        check_memory(volumes, mask)


def test_mistakes_are_one_message(maps, tmp_path):
    folder, *_ = maps
    volume, _ = read_volume(str(folder / "maps" / "vol_000.mrc"))
    for name, content, pixel_size in (
        ("empty", np.zeros_like(volume), 3.0),
        ("map", 20 * np.abs(volume), 3.0),
        ("coarse", (volume > 0.01).astype(np.float32), 4.0),
    ):
        write_volume(str(tmp_path / f"{name}.mrc"), content, pixel_size_angstrom=pixel_size)
    good, maps_of = folder / "mask.mrc", ["--volumes", folder / "maps"]
    for arguments, error, message in (
        (["--mask", tmp_path / "empty.mrc", *maps_of], InputError, "empty, or not a mask"),
        (["--mask", tmp_path / "map.mrc", *maps_of], InputError, "between 0 and 1"),
        (
            ["--mask", tmp_path / "coarse.mrc", *maps_of],
            InputError,
            "box of 16 px with pixels of 3 Å, but the mask .* box of 16 px with pixels of 4 Å",
        ),
        (["--mask", good], ConfigError, "Give the volumes: RUN with one of --ksample and --z-file"),
        (
            ["--mask", good, *maps_of, "--ksample", "3"],
            ConfigError,
            "Give the volumes: RUN with one of --ksample and --z-file",
        ),
    ):
        with pytest.raises(error, match=message):
            raise pca(*arguments, "-o", tmp_path / "out").exception
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="maps"):
        raise pca("--mask", good, *maps_of, "-o", folder / "maps", "--overwrite").exception


# What results are made from --------------------------------------------------------------------


@pytest.fixture
def no_report(monkeypatch):
    """Figures take seconds."""
    monkeypatch.setattr(
        "raydrgn.landscape.masked_report.write_masked_report", lambda *_, **__: None
    )


def mask_of(path, edge):
    mask = np.zeros((6, 6, 6), dtype=np.float32)
    mask[1:edge, 1:5, 1:5] = 1
    write_volume(str(path), mask, pixel_size_angstrom=0)
    return str(path)


def test_results_of_another_epoch_run_or_mask_never_come_together(tmp_path, no_report):
    z, _ = blobs([(0, 0), (5, 5), (-5, 5)], size=20)
    run = make_run(tmp_path / "run", z)
    for name in ("weights", "z"):
        shutil.copy(tmp_path / "run" / f"{name}.1.pkl", tmp_path / "run" / f"{name}.2.pkl")
    given = {"run": run.files.root, "mask": mask_of(tmp_path / "mask.mrc", 5), "ksample": 3}
    out = str(tmp_path / "out")
    workflow.run(PcaSettings(**given, epoch=1, out=out))
    with pytest.raises(RunDirectoryError, match="results of epoch 1, not 2"):
        workflow.run(PcaSettings(**given, epoch=2, out=out))
    other = make_run(tmp_path / "other", z[::-1].copy())  # trained anew, under the old name
    shutil.copy(other.files.latents(1), run.files.latents(1))
    with pytest.raises(RunDirectoryError, match="results of other latents"):
        workflow.run(PcaSettings(**given, epoch=1, out=out))
    found = workflow.run(PcaSettings(**given, epoch=1, out=out, overwrite=True))
    alone = workflow.run(PcaSettings(**{**given, "run": other.files.root}))
    np.testing.assert_array_equal(found.particles, alone.particles)
    mask_of(tmp_path / "mask.mrc", 4)  # another mask under the same name
    with pytest.raises(RunDirectoryError, match="results with mask_checksum"):
        workflow.run(PcaSettings(**given, epoch=1, out=out))


def test_maps_have_the_pixel_size_of_the_volumes_if_that_of_the_mask_is_unknown(
    maps, tmp_path, no_report
):
    run = make_run(tmp_path / "run", blobs([(0, 0), (5, 5), (-5, 5)], size=20)[0])
    given = {"run": run.files.root, "mask": mask_of(tmp_path / "mask.mrc", 5), "ksample": 3}
    of_run = workflow.run(PcaSettings(**given, pixel_size_angstrom=1.5))
    folder, _, _, inside, _ = maps
    unknown = str(tmp_path / "unknown.mrc")
    write_volume(unknown, inside.astype(np.float32), pixel_size_angstrom=0)
    out = str(tmp_path / "out")
    of_maps = workflow.run(PcaSettings(volumes=str(folder / "maps"), mask=unknown, out=out))
    for found, size in ((of_run, 1.5 * 8 / 6), (of_maps, 3.0)):
        for name in ("mean.mrc", "pc1/component.mrc", "pc1/vol_000.mrc"):
            header = read_header(found.folder.at(name))
            assert header.pixel_size_angstrom == pytest.approx(size)


def test_results_of_maps_that_were_replaced_are_refused(maps, tmp_path, no_report):
    folder, *_ = maps
    own = shutil.copytree(folder / "maps", tmp_path / "maps")
    given = {"volumes": str(own), "mask": str(folder / "mask.mrc"), "out": str(tmp_path / "out")}
    workflow.run(PcaSettings(**given))
    workflow.run(PcaSettings(**given))  # the same again
    shutil.copy(own / "vol_000.mrc", own / "vol_001.mrc")
    with pytest.raises(RunDirectoryError, match="results with volumes_checksum"):
        workflow.run(PcaSettings(**given))
