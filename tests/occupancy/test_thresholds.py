"""Thresholds of binarised volumes: densities of a run's own box, whatever box the masks have."""

import json
from pathlib import Path

import numpy as np
import pytest

from finished_run import make_run
from phantoms import write_mrc
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.errors import RunDirectoryError
from raydrgn.occupancy.scored_volumes import thresholds_in_box
from raydrgn.workflows import occupancy_score
from raydrgn.workflows.occupancy_score import OccupancyScoreSettings
from subunit_files import BOX, write_subunits

COUNT = 6
LATENTS = np.random.default_rng(3).normal(size=(COUNT, 2))


def trained(folder, *, box):
    """Return a run with the field of the masks, which have 12 px of 2 Å."""
    write_subunits(folder)
    return make_run(folder / "run", LATENTS, box=box, pixel_size=2.0 * BOX / box)


def volumes_of(run, *, box):
    decoder = VolumeDecoder(run.decoder(1), VolumeOptions(box=box))
    return decoder.decode(LATENTS.astype(np.float32))


def score(folder, **more):
    settings = {"masks": str(folder / "masks"), "normalize": "none"} | more
    return occupancy_score.run(OccupancyScoreSettings(**settings))


def siren(path, thresholds):
    rows = [f"vol_{number:03d}.mrc,{value:.9g}" for number, value in enumerate(thresholds)]
    path.write_text("\n".join(["vol_id,denormalized_predictions", *rows]))
    return str(path)


def test_densities_in_a_smaller_box_are_larger_by_the_ratio_of_the_voxels(tmp_path):
    run = trained(tmp_path, box=24)
    own, small = (volumes_of(run, box=box).mean(axis=(1, 2, 3)) for box in (24, BOX))
    np.testing.assert_allclose(thresholds_in_box(own, old=24, box=BOX), small, rtol=1e-3)
    np.testing.assert_array_equal(thresholds_in_box(own, old=24, box=24), own)


@pytest.mark.parametrize("box", [BOX, 24])
def test_thresholds_of_a_run_are_densities_in_its_own_box(tmp_path, box):
    """Its volumes in the masks' box, as files, are scored alike with densities of that box."""
    run, maps = trained(tmp_path, box=box), tmp_path / "maps"
    maps.mkdir()
    for number, volume in enumerate(volumes_of(run, box=BOX)):
        write_mrc(maps / f"vol_{number:03d}.mrc", volume, pixel_size=2.0, volume=True)
    own = np.quantile(volumes_of(run, box=box), 0.8, axis=(1, 2, 3))
    small = own * (box / BOX) ** 3
    for name, given, of_maps in (
        ("one", f"{own[0]:.9g}", f"{small[0]:.9g}"),
        ("each", siren(tmp_path / "own.csv", own), siren(tmp_path / "small.csv", small)),
    ):
        out = str(tmp_path / name)
        found = score(tmp_path, run=run.files.root, all_particles=True, binarize=given, out=out)
        files = score(tmp_path, volumes=str(maps), binarize=of_maps, out=f"{out}_maps")
        assert found.table.values.max() > 0
        np.testing.assert_array_equal(found.table.values, files.table.values)


def test_results_with_thresholds_of_another_box_are_not_gone_on_with(tmp_path):
    """As those of earlier versions, which took thresholds for densities of the masks' box."""
    run = trained(tmp_path, box=24)
    settings = {"run": run.files.root, "all_particles": True, "binarize": "0.001"}
    record = tmp_path / "run" / "occupancy.1" / "settings.json"
    score(tmp_path, **settings)
    earlier = json.loads(record.read_text())
    assert earlier.pop("binarize_box") == 24
    record.write_text(json.dumps(earlier))
    with pytest.raises(RunDirectoryError, match="results with binarize_box = the default, not 24"):
        score(tmp_path, **settings)
    score(tmp_path, **settings, overwrite=True)


@pytest.mark.parametrize(("box", "binarize"), [(BOX, "0.001"), (24, None)])
def test_results_that_do_not_depend_on_the_box_of_thresholds_stay_as_they_are(
    tmp_path, box, binarize
):
    run = trained(tmp_path, box=box)
    found = score(tmp_path, run=run.files.root, all_particles=True, binarize=binarize)
    record = Path(found.folder.at("settings.json"))
    assert "binarize_box" not in json.loads(record.read_text())
