"""Peak, noise and sign of volumes, and what a report says of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from finished_run import make_run
from raydrgn.decoding import contrast
from raydrgn.decoding.contrast import contrast_of_run, images_seen
from raydrgn.decoding.volume_sets import MadeSets, VolumeSet, preview, slices_of
from raydrgn.fourier.density import measure_density, skewness
from raydrgn.latent.volume_densities import contrast_problem, streaked, write_densities
from raydrgn.reporting.figures import Tile, sheet
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.weights import DecoderState

BOX = 32


def particle(height, noise_sd=0.1, seed=0):
    """Return a ball of a height, in noise."""
    ticks = np.indices((BOX,) * 3) - BOX // 2
    ball = (np.sqrt((ticks**2).sum(axis=0)) < 6) * height
    noise = np.random.default_rng(seed).normal(scale=noise_sd, size=ball.shape)
    return (ball + noise).astype(np.float32)


def test_numbers_are_those_that_were_put_in():
    found = measure_density(particle(2.0))
    assert found.peak == pytest.approx(2.3, abs=0.1)  # of the noise within the ball
    assert found.noise == pytest.approx(0.1, rel=0.03)
    assert found.skewness > 1
    turned = measure_density(-particle(2.0))
    assert turned.skewness == pytest.approx(-found.skewness)
    assert turned.noise == pytest.approx(found.noise)
    weak = measure_density(particle(0.5))
    assert weak.peak < found.peak / 2


def test_what_is_symmetric_or_constant_has_no_sign():
    values = np.random.default_rng(0).normal(size=100_000)
    assert abs(skewness(values)) < 0.05
    assert skewness(np.ones(5)) == 0


def test_slices_are_normal_to_z_then_y_then_x_through_the_centre():
    axes = np.indices((8, 8, 8)).astype(np.float32)  # z, y and x of each voxel
    for number, axis in enumerate(axes):
        assert (slices_of(axis)[number] == 4).all()


def test_inverted_contrast_is_named_with_its_remedy(tmp_path):
    right = [preview(particle(2.0, seed=k)) for k in range(3)]
    wrong = [preview(-particle(2.0, seed=k)) for k in range(3)]
    assert contrast_problem(MadeSets([right, [None]], [])) is None
    assert contrast_problem(MadeSets([[*wrong, None], right[:1]], [])).startswith(
        "The density of the volumes is negative (median skewness -"
    )
    assert "raydrgn train --uninvert-data" in contrast_problem(MadeSets([wrong], []))
    assert contrast_problem(MadeSets([[None]], ["x"])) is None


def test_after_a_short_training_negative_density_means_little(tmp_path):
    wrong = MadeSets([[preview(-particle(2.0, seed=k)) for k in range(3)]], [])
    found = contrast_problem(wrong, seen=180)
    assert "180 images seen, fewer than 2,000): train for more epochs" in found
    assert "uninvert" not in found
    assert "raydrgn train --uninvert-data" in contrast_problem(wrong, seen=6_400)
    run = make_run(tmp_path / "run", np.zeros((60, 2)))
    assert images_seen(run, 3, 60) == 180
    assert images_seen(replace(run, model=None), 3, 60) is None


def test_the_contrast_of_a_run_is_that_of_its_volume_at_the_median_of_finite_latents(
    tmp_path, monkeypatch
):
    latents = np.array([[np.nan, 5.0], [1.0, -4.0], [3.0, 2.0], [2.0, 0.5]], np.float32)
    run, asked = make_run(tmp_path / "run", latents), []

    def dark(state, decoder, z, *, small_box):
        asked.append((z.tolist(), small_box))
        return torch.from_numpy(-particle(2.0)[None])

    monkeypatch.setattr(DecoderState, "volumes", dark)
    assert contrast_of_run(run, 1).startswith("The density of the volumes is negative")
    assert asked == [([[2.0, 0.5]], 8)]
    empty = make_run(tmp_path / "empty", np.full((3, 2), np.nan))
    assert contrast_of_run(empty, 1) is None
    monkeypatch.setattr(contrast, "default_device", lambda: pytest.fail("a GPU is looked for"))
    assert contrast_of_run(run, 1, uses_gpu=False) is not None


def test_a_weak_volume_has_a_low_share_of_the_highest_peak(tmp_path):
    volumes = VolumeSet(name="k-means", folder=str(tmp_path), z=np.zeros((3, 2), np.float32),
                        colours=["#000000"] * 3, titles=["0", "1", "2"])  # fmt: skip
    shown = [preview(particle(2.0)), None, preview(particle(0.1))]
    table = write_densities(volumes, shown, "densities.csv", ResultFolder(str(tmp_path)))
    assert [row[0] for row in table.rows] == ["0", "2"]
    assert table.rows[0][2] == "100 %"
    assert int(table.rows[1][2].removesuffix(" %")) < 30
    assert len((tmp_path / "densities.csv").read_text().splitlines()) == 3


def test_one_grey_scale_spans_all_images():
    rows = [("", [Tile(image=np.full((4, 4), value)) for value in (-1.0, 3.0)])]
    [axis] = sheet(rows, one_scale=True).axes
    assert [image.get_clim() for image in axis.images] == [(-1, 3), (-1, 3)]
    [axis] = sheet(rows).axes
    assert [image.get_clim() for image in axis.images] != [(-1, 3), (-1, 3)]


def test_volumes_with_streaks_are_named(tmp_path):
    volumes = VolumeSet(name="component 1", folder=str(tmp_path), z=np.zeros((3, 2), np.float32),
                        colours=["#000000"] * 3, titles=["0", "1", "2"])  # fmt: skip
    sound = preview(particle(2.0))
    bad = replace(sound, density=sound.density._replace(streaks=0.9))
    assert streaked([volumes], MadeSets([[sound, None, sound]], [])) is None
    assert streaked([volumes], MadeSets([[bad, None, bad]], [])).startswith(
        "Streaks outside the particle in vol_000, vol_002 of component 1: few particles"
    )
