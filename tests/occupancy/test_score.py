"""Scoring: known amounts come out, MAVEn's numbers too, from files and from decoders alike."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from finished_run import make_run
from phantoms import patch, write_mrc
from raydrgn.cli.main import app
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.errors import ConfigError, InputError, RaydrgnError
from raydrgn.occupancy import partial_scores as parts
from raydrgn.occupancy.masked_sums import ScoreLatents, masked_sums_of_many
from raydrgn.occupancy.subunits import read_subunits
from raydrgn.occupancy.table import OccupancyTable
from subunit_files import BALLS, BOX, ball, write_maps, write_subunits

AMOUNTS = np.array([[1, 0, 0.5], [0, 1, 1], [1, 1, 1], [0.25, 0, 0]])


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["occupancy", "score", *map(str, arguments)])
    if code == 0 and result.exception:
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_amounts_come_out(tmp_path):
    masks = write_subunits(tmp_path)
    maps = write_maps(tmp_path / "maps", AMOUNTS)
    run("--volumes", maps, "--masks", masks, "-o", tmp_path / "out")
    found = OccupancyTable.read(str(tmp_path / "out"))
    assert found.volumes == ("0", "1", "2", "3")
    assert found.labels == ("a", "b", "c")
    np.testing.assert_allclose(found.values, AMOUNTS, rtol=1e-6, atol=1e-9)


def test_masked_sums_and_binarised_maps(tmp_path):
    masks = write_subunits(tmp_path)
    maps = write_maps(tmp_path / "maps", AMOUNTS)
    counts = np.array([inside.sum() for inside in BALLS.values()])
    base = ("--volumes", maps, "--masks", masks, "--normalize", "none")
    run(*base, "-o", tmp_path / "sums")
    sums = OccupancyTable.read(str(tmp_path / "sums")).values
    np.testing.assert_allclose(sums, 3 * AMOUNTS * counts, rtol=1e-6)
    run(*base, "--binarize", "1.0", "-o", tmp_path / "one")
    voxels = OccupancyTable.read(str(tmp_path / "one")).values
    np.testing.assert_array_equal(voxels, (3 * AMOUNTS >= 1) * counts)
    siren = tmp_path / "siren.csv"
    siren.write_text("vol_id,denormalized_predictions\n3,0.5\n2,5\n1,0.1\n0,1.5\n")
    run(*base, "--binarize", siren, "-o", tmp_path / "own")
    voxels = OccupancyTable.read(str(tmp_path / "own")).values
    thresholds = np.array([1.5, 0.1, 5, 0.5])[:, None]  # 1.5 is just reached
    np.testing.assert_array_equal(voxels, np.greater_equal(3 * AMOUNTS, thresholds) * counts)


def test_the_occupancies_of_maven_are_reproduced(real_maps, tmp_path):
    folder = real_maps[0].parent
    run("--volumes", folder, "--masks", folder / "masks", "-o", tmp_path / "out")
    found = OccupancyTable.read(str(tmp_path / "out"))
    expected = OccupancyTable.read(str(folder / "occupancies_expected.csv"))
    assert found.subunits == expected.subunits
    rows = [found.volumes.index(name) for name in expected.volumes]
    np.testing.assert_allclose(found.values[rows], expected.values, rtol=1e-6)


@pytest.mark.ray
def test_tasks_score_as_one_process_does(ray_session, tmp_path):
    masks = write_subunits(tmp_path)
    maps = write_maps(tmp_path / "maps", np.random.default_rng(1).uniform(size=(20, 3)), noise=1)
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        run("--volumes", maps, "--masks", masks, "-o", out, "--workers", workers)
    one, two = (OccupancyTable.read(str(tmp_path / f"out{workers}")) for workers in (1, 2))
    assert one.volumes == two.volumes
    np.testing.assert_array_equal(one.values, two.values)


def assert_close(found, expected):
    """That of batches of other sizes, whose products round differently on some processors.

    Occupancies of an untrained network are sums that nearly cancel: what counts is their spread.
    """
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * expected.std())


@pytest.fixture
def trained(tmp_path):
    """A run of 16 px over the field of the masks, which have 12 px; its latents; the masks."""
    latents = np.random.default_rng(2).normal(size=(30, 2))
    opened = make_run(tmp_path / "run", latents, box=16, pixel_size=1.5)
    return opened, latents.astype(np.float32), write_subunits(tmp_path)


def test_each_decoded_volume_has_its_own_threshold(trained):
    opened, latents, masks = trained
    subunits, decoder = (
        read_subunits(str(masks)),
        VolumeDecoder(opened.decoder(1), VolumeOptions(box=BOX)),
    )
    rows = [7, 3]
    volumes = decoder.decode(latents[rows])
    thresholds = np.full(len(latents), volumes.min())
    thresholds[rows] = [np.quantile(volumes[0], 0.9), np.quantile(volumes[1], 0.3)]
    found = ScoreLatents(subunits, latents, thresholds)(decoder, rows)
    reached = np.stack(
        [volume >= thresholds[row] for volume, row in zip(volumes, rows, strict=True)]
    )
    expected = masked_sums_of_many(reached.astype(np.float32), subunits)
    np.testing.assert_array_equal(found.sums, expected)
    assert not found.failures


def test_a_decoded_volume_scores_as_its_file_does(trained, tmp_path):
    opened, latents, masks = trained
    run(opened.files.root, "--all", "--masks", masks)
    found = OccupancyTable.read(opened.files.results("occupancy", 1))
    np.testing.assert_array_equal(found.latents, latents)
    np.testing.assert_array_equal(found.original, np.arange(30))
    decoder = VolumeDecoder(opened.decoder(1), VolumeOptions(box=BOX))
    for number, volume in enumerate(decoder.decode(latents[:5])):
        write_mrc(tmp_path / f"v{number}.mrc", volume, pixel_size=2.0, volume=True)
    run("--volumes", tmp_path, "--masks", masks, "-o", tmp_path / "out")
    files = OccupancyTable.read(str(tmp_path / "out"))
    assert_close(files.values, found.values[:5])


@pytest.mark.ray
def test_workers_decode_and_score_as_one_process_does(ray_session, trained, tmp_path):
    opened, _, masks = trained
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        run(opened.files.root, "--all", "--masks", masks, "-o", out, "--workers", workers)
    one, two = (OccupancyTable.read(str(tmp_path / f"out{workers}")) for workers in (1, 2))
    assert_close(one.values, two.values)


def test_a_run_is_decoded_in_this_process_by_default(trained, monkeypatch):
    opened, _, masks = trained

    def refuse(*_):
        raise AssertionError("Ray was started")

    monkeypatch.setattr("raydrgn.remote.executor.connected", refuse)
    run(opened.files.root, "--ksample", 4, "--masks", masks)


def test_clusters_are_scored_at_particles(trained):
    opened, latents, masks = trained
    run(opened.files.root, "--ksample", 4, "--masks", masks)
    found = OccupancyTable.read(opened.files.results("occupancy", 1))
    np.testing.assert_array_equal(found.latents, latents[found.particles])
    np.testing.assert_array_equal(found.clusters, np.arange(4))


def test_what_was_scored_is_not_scored_again(trained, tmp_path, monkeypatch):
    opened, _, masks = trained
    monkeypatch.setattr(parts, "SECONDS_BETWEEN", 0.0)
    base = (opened.files.root, "--all", "--masks", masks, "-o", tmp_path / "out")
    decode, left = VolumeDecoder.decode, [3]  # the samples, and two batches

    def dies(self, z, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return decode(self, z, **options)

    monkeypatch.setattr(VolumeDecoder, "decode", dies)
    run(*base, code=130)
    assert not (tmp_path / "out" / "occupancies.csv").exists()
    seen = []
    monkeypatch.setattr(
        VolumeDecoder, "decode", lambda s, z, **o: seen.append(len(z)) or decode(s, z, **o)
    )
    run(*base)
    assert seen == [8, 8, 6]  # the samples, and 14 of 30 volumes
    interrupted = OccupancyTable.read(str(tmp_path / "out"))
    run(opened.files.root, "--all", "--masks", masks)
    whole = OccupancyTable.read(opened.files.results("occupancy", 1))
    assert_close(interrupted.values, whole.values)


def test_a_map_that_is_not_finite_is_named_and_the_others_are_scored(tmp_path):
    masks = write_subunits(tmp_path)
    maps = write_maps(tmp_path / "maps", AMOUNTS)
    broken = 3 * BALLS["a"]
    broken[0, 0, 0] = np.nan
    write_mrc(maps / "vol_001.mrc", broken, pixel_size=2.0, volume=True)
    base = ("--volumes", maps, "--masks", masks, "-o", tmp_path / "out")
    said = run(*base, code=1).output
    assert "vol_001.mrc" in said
    assert "not finite" in said
    assert OccupancyTable.read(str(tmp_path / "out")).volumes == ("0", "2", "3")
    write_maps(maps, AMOUNTS)
    run(*base)
    np.testing.assert_allclose(OccupancyTable.read(str(tmp_path / "out")).values, AMOUNTS)


def test_a_map_that_was_replaced_or_renamed_is_scored_again(tmp_path):
    masks = write_subunits(tmp_path)
    maps = write_maps(tmp_path / "maps", AMOUNTS)
    base = ("--volumes", maps, "--masks", masks, "-o", tmp_path / "out")
    run(*base)
    (maps / "vol_000.mrc").write_bytes((maps / "vol_003.mrc").read_bytes())
    run(*base)
    found = OccupancyTable.read(str(tmp_path / "out"))
    np.testing.assert_allclose(found.values, np.array(AMOUNTS)[[3, 1, 2, 3]])
    whole = (maps / "vol_002.mrc").read_bytes()
    patch(maps / "vol_002.mrc", 1024, np.float32(np.nan).tobytes())
    run(*base, code=1)  # the others are kept as parts
    (maps / "vol_002.mrc").write_bytes(whole)
    (maps / "vol_001.mrc").rename(maps / "vol_009.mrc")
    run(*base)
    found = OccupancyTable.read(str(tmp_path / "out"))
    assert found.volumes == ("0", "2", "3", "9")
    np.testing.assert_allclose(found.values, np.array(AMOUNTS)[[3, 2, 3, 1]])


def test_masks_without_references_give_mean_densities_and_compare_no_model(tmp_path, caplog):
    for name, inside in BALLS.items():
        write_mrc(tmp_path / f"{name}.mrc", inside, pixel_size=2.0, volume=True)
    masks = tmp_path / "plain"
    masks.mkdir()
    for name in BALLS:
        (tmp_path / f"{name}.mrc").rename(masks / f"{name}.mrc")
    maps = write_maps(tmp_path / "maps", AMOUNTS)
    caplog.set_level("INFO")
    run("--volumes", maps, "--masks", masks, "-o", tmp_path / "out")
    assert "mean density within each mask" in caplog.text
    assert "correlation" not in caplog.text
    found = OccupancyTable.read(str(tmp_path / "out"))
    np.testing.assert_allclose(found.values, 3 * np.array(AMOUNTS), rtol=1e-6)
    write_mrc(masks / "d.mrc", -3 * BALLS["a"], pixel_size=2.0, volume=True)
    with pytest.raises(InputError, match=r"d.mrc has values from -3 to .* a mask is between 0"):
        read_subunits(str(masks))


@pytest.mark.parametrize("given", ["nan", "inf"])
def test_thresholds_that_are_none_are_refused(tmp_path, given):
    masks, maps = write_subunits(tmp_path), write_maps(tmp_path / "maps", AMOUNTS)
    base = ("--volumes", maps, "--masks", masks, "-o", tmp_path / "out")
    with pytest.raises(ConfigError, match="neither a finite number nor a file"):
        run(*base, "--binarize", given)
    rows = [f"vol_{k:03d}.mrc,{given if k == 2 else 1}" for k in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["vol_id,denormalized_predictions", *rows]))
    with pytest.raises(InputError, match=rf"t.csv, line 4: '{given}' is not a number"):
        run(*base, "--binarize", tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("number,vol_id,denormalized_predictions\n1\n")
    with pytest.raises(InputError, match=r"t.csv, line 2: the column vol_id is empty"):
        run(*base, "--binarize", tmp_path / "t.csv")
    with pytest.raises(InputError, match="is not text; expected a CSV file"):
        run(*base, "--binarize", maps / "vol_000.mrc")


def test_masks_that_cannot_be_scored_are_named(tmp_path):
    empty = write_subunits(tmp_path / "empty", balls=BALLS | {"d": 0 * BALLS["a"]})
    with pytest.raises(InputError, match=r"chaind.mrc is empty"):
        read_subunits(str(empty))
    twins = write_subunits(tmp_path / "twins", balls=BALLS | {"d": ball((8, 3, 6), 2.6)})
    with pytest.raises(InputError, match=r"chainb.mrc and .*chaind.mrc are almost the same"):
        read_subunits(str(twins))
    other = write_subunits(tmp_path / "other")
    write_mrc(other / "Mask_m_chainb.mrc", BALLS["b"], pixel_size=2.2, volume=True)
    with pytest.raises(InputError, match=r"chainb.mrc has a box of 12 px with pixels of 2.2 Å"):
        read_subunits(str(other))
    nothing = write_subunits(tmp_path / "nothing")
    write_mrc(nothing / "../reference/m_chainc.mrc", 0 * BALLS["c"], pixel_size=2.0, volume=True)
    with pytest.raises(InputError, match=r"reference density of m_chainc.* sums up to 0"):
        read_subunits(str(nothing))
    alone = write_subunits(tmp_path / "alone", references=False)
    with pytest.raises(InputError, match=r"no reference density m_chaina.mrc"):
        read_subunits(str(alone))
    assert read_subunits(str(alone), normalize="none").reference_sums is None


def test_volumes_on_another_grid_are_refused(trained, tmp_path):
    opened, _, masks = trained
    maps = write_maps(tmp_path / "maps", AMOUNTS, pixel_size=2.5)
    with pytest.raises(RaydrgnError, match=r"vol_000.mrc has a box of 12 px with pixels of 2.5 Å"):
        run("--volumes", maps, "--masks", masks, "-o", tmp_path / "out")
    other = write_subunits(tmp_path / "other", pixel_size=3.0)
    with pytest.raises(RaydrgnError, match=r"12 px with pixels of 2 Å, but the masks have .* 3 Å"):
        run(opened.files.root, "--all", "--masks", other)


def test_a_map_of_the_opposite_hand_or_elsewhere_is_reported_before_scoring(tmp_path, caplog):
    masks = write_subunits(tmp_path)
    maps = write_maps(tmp_path / "maps", AMOUNTS[2:3])
    out = ("--overwrite", "-o", tmp_path / "out")

    def warnings():
        caplog.clear()
        run("--volumes", maps, "--masks", masks, *out)
        return caplog.text

    assert not warnings()
    whole = 3 * sum(BALLS.values())
    mirrored = np.roll(whole[::-1], 1, axis=0)
    write_mrc(maps / "vol_000.mrc", mirrored, pixel_size=2.0, volume=True)
    assert "--flip" in warnings()
    write_mrc(maps / "vol_000.mrc", np.roll(whole, 5, axis=2), pixel_size=2.0, volume=True)
    assert "moved by (10, 0, 0) Å" in warnings()
    write_mrc(maps / "vol_000.mrc", -whole, pixel_size=2.0, volume=True)
    assert "with the opposite sign" in warnings()


def test_inputs_of_a_run_are_never_deleted(trained, tmp_path):
    opened, latents, masks = trained
    base = (opened.files.root, "--masks", masks, "--overwrite")
    for out in (tmp_path, tmp_path / "run", tmp_path / "masks"):
        with pytest.raises(ConfigError, match="Choose another folder"):
            run(*base, "--all", "-o", out)
    out = tmp_path / "out"
    run(*base, "--all", "-o", out)
    np.savetxt(out / "z.txt", latents)
    with pytest.raises(ConfigError, match=r"contains .*z\.txt, which is an input"):
        run(*base, "--z-file", out / "z.txt", "-o", out)
    assert (out / "z.txt").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "Give the volumes: RUN with one of --ksample, --z-file and --all"),
        (
            ["run", "--all", "--ksample", "5"],
            "Give the volumes: RUN with one of --ksample, --z-file and --all",
        ),
        (["--ksample", "5"], "Give the volumes: RUN with one of --ksample, --z-file and --all"),
        (
            ["run", "--volumes", "maps", "-o", "out"],
            "Give the volumes: RUN with one of --ksample, --z-file and --all",
        ),
        (
            ["--volumes", "maps", "--all", "-o", "out"],
            "Give the volumes: RUN with one of --ksample, --z-file and --all",
        ),
        (["--volumes", "maps", "--flip", "-o", "out"], "change volumes of a run only"),
        (["--volumes", "maps"], "Give the folder for the results with -o"),
        (["run", "--all", "--pixel-size", "0"], "--pixel-size must be greater than 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_read(words, message):
    with pytest.raises(ConfigError, match=message):
        run("--masks", "masks", *words)


def test_inputs_are_never_deleted(tmp_path):
    masks = write_subunits(tmp_path / "subunits")
    maps = write_maps(tmp_path / "maps", AMOUNTS)
    for out in (maps, masks, tmp_path):
        with pytest.raises(ConfigError, match="Choose another folder"):
            run("--volumes", maps, "--masks", masks, "--overwrite", "-o", out)
    assert len(list(maps.iterdir())) == 4


def test_masks_larger_than_the_box_of_a_run_are_refused(trained, tmp_path):
    opened, _, _ = trained
    balls = {"a": ball((3, 3, 3), box=20)}
    large = write_subunits(tmp_path / "large", pixel_size=1.2, balls=balls)
    with pytest.raises(
        ConfigError, match=r"masks have a box of 20 px, but the volumes .* one of 16 px"
    ):
        run(opened.files.root, "--all", "--masks", large)


@pytest.mark.parametrize("kind", ["fourier", "hartley"])
def test_a_run_of_cryodrgn_is_scored(tmp_path, kind):
    root = Path(__file__).parent.parent / "assets" / "cryodrgn" / kind
    box8 = np.load(root / "box8.npy")
    balls = {"a": ball((3, 3, 3), box=8), "b": ball((5, 5, 4), box=8)}
    masks = write_subunits(tmp_path, pixel_size=0, balls=balls)
    latents = tmp_path / "z.txt"
    latents.write_text("1.5 -0.5\n-2 1\n")
    base = (root, "--masks", masks, "--normalize", "none", "--overwrite", "-o", tmp_path / "out")
    run(*base, "--z-file", latents)
    found = OccupancyTable.read(str(tmp_path / "out"))
    expected = [[(volume * inside).sum() for inside in balls.values()] for volume in box8]
    np.testing.assert_allclose(found.values, expected, rtol=2e-3)
    run(*base, "--ksample", 3)
    assert len(OccupancyTable.read(str(tmp_path / "out"))) == 3
