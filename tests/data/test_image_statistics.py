"""Statistics of single images: outliers are found by number, and no others."""

import dataclasses
import logging

import numpy as np
import pytest

from phantoms import images_of, table_of, write_mrc
from raydrgn.data.config import ImageConfig
from raydrgn.data.image_statistics import ImageStatistics, leave_out_bad, measure_images
from raydrgn.data.ingest import prepared_blocks
from raydrgn.data.preprocess import with_background_sd, without_background
from raydrgn.data.statistics import measure_scale
from raydrgn.errors import InputError

BOX, COUNT = 16, 60


@pytest.fixture
def images():
    return images_of(COUNT, box=BOX)


def table_with(tmp_path, images):
    uri = write_mrc(tmp_path / "a.mrcs", images)
    return table_of(len(images), stacks=(uri,), box=BOX)


def outliers(images):
    return np.flatnonzero(ImageStatistics.of(images).outliers).tolist()


def test_statistics_are_those_of_numpy(images):
    found = ImageStatistics.of(images + 3)
    double = (images + 3).astype(np.float64)
    np.testing.assert_allclose(found.mean, double.mean((1, 2)), rtol=1e-7)
    np.testing.assert_allclose(found.sd, double.std((1, 2)), rtol=1e-6)
    centred = double - double.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(
        np.abs(found.extreme - found.mean), np.abs(centred).max((1, 2)), rtol=1e-6
    )


def test_noise_has_no_outliers(images):
    uneven = images * np.random.default_rng(1).lognormal(sigma=0.3, size=(COUNT, 1, 1))
    for normal in (images, images + 1000, uneven.astype(np.float32)):
        assert outliers(normal) == []


def test_a_hot_pixel_is_an_outlier(images):
    images[17, 3, 4] = 1e6
    images[20, 0, 0] = -1e6
    images[31, 5, 5] = 40  # 40 SD: within what is allowed
    assert outliers(images) == [17, 20]
    found = ImageStatistics.of(images).warnings(np.arange(100, 100 + COUNT))
    assert len(found) == 1
    assert "2 of 60 images" in found[0]
    assert "particles 117 (a pixel of 1e+06), 120 (a pixel of -1e+06)" in found[0]


@pytest.mark.parametrize("factor", [6.0, 1e3, 1e20])
def test_an_image_that_is_strong_as_a_whole_is_an_outlier(images, factor):
    images[5] *= np.float32(factor)
    assert outliers(images) == [5]


def test_an_image_with_an_offset_is_an_outlier(images):
    images[5] += 1000
    assert outliers(images) == [5]
    assert "5 (mean 1000, SD" in ImageStatistics.of(images).warnings(np.arange(COUNT))[0]


def test_groups_of_other_strength_are_no_exceptions(images):
    images[: COUNT // 3] *= 5
    assert outliers(images) == []
    found = ImageStatistics.of(images)
    (warning,) = found.warnings(np.arange(COUNT))
    assert "The noise of the images differs" in warning
    assert found.correction.background_sd == pytest.approx(1, rel=0.1)


def test_optics_groups_may_differ_in_their_noise(tmp_path, images):
    """It is estimated for each; scaled alike, their particles would have another contrast."""
    images[::2] *= 5
    assert not measure_images(table_with(tmp_path, images), box=BOX).has_even_noise
    groups = np.where(np.arange(COUNT) % 2, "a", "b").astype(object)
    table = table_with(tmp_path, images).with_columns({"optics_group": groups})
    found = measure_images(table, box=BOX)
    assert found.has_even_noise
    assert found.correction.background_sd is None
    images *= np.exp(np.random.default_rng(3).normal(0, 0.5, COUNT))[:, None, None].astype("f4")
    table = table_with(tmp_path, images).with_columns({"optics_group": groups})
    assert not measure_images(table, box=BOX).has_even_noise


def two_groups(tmp_path, images, factor):
    """A third of the images is of a second optics group, and stronger."""
    images = images.copy()
    images[: COUNT // 3] *= factor
    names = np.where(np.arange(COUNT) < COUNT // 3, "b", "a").astype(object)
    return table_with(tmp_path, images).with_columns({"optics_group": names})


@pytest.mark.parametrize("factor", [8.0, 30.0, 1000.0])
def test_an_optics_group_of_another_scale_is_no_outlier(tmp_path, images, factor):
    table = two_groups(tmp_path, images, factor)
    found = measure_images(table, box=BOX)
    assert not found.outliers.any()
    warnings = found.warnings(np.arange(COUNT))
    if factor < 10:
        assert warnings == []
        assert found.correction.background_sd is None
    else:
        assert len(warnings) == 1
        assert "times larger in one optics group than in another" in warnings[0]
        assert found.correction.background_sd == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("factor", [8.0, 30.0, 1000.0])
def test_pixels_of_a_strong_optics_group_are_kept(tmp_path, images, factor):
    """Within each image nothing but the scale changes, whatever the scale of its group."""
    table = two_groups(tmp_path, images, factor)
    images[: COUNT // 3] *= factor
    found = measure_images(table, box=BOX).correction(images)
    ratio = found.std((1, 2)) / images.std((1, 2))
    np.testing.assert_allclose(found, images * ratio[:, None, None], rtol=1e-5, atol=1e-6)


def test_a_hot_pixel_in_a_strong_optics_group_is_found(tmp_path, images):
    images[3, 4, 5] = 500  # times 30
    images[40, 4, 5] = 500
    table = two_groups(tmp_path, images, 30)
    found = measure_images(table, box=BOX)
    assert np.flatnonzero(found.outliers).tolist() == [3, 40]
    assert "50 SD of their optics group" in found.warnings(np.arange(COUNT))[0]
    images[: COUNT // 3] *= 30
    corrected = found.correction(images)
    assert np.abs(corrected[[3, 40], 4, 5]).max() < 1


def test_the_scale_counts_all_optics_groups(tmp_path, images):
    table = two_groups(tmp_path, images, 30)
    correction = dataclasses.asdict(measure_images(table, box=BOX).correction)
    found = measure_scale(table, dataclasses.replace(ImageConfig(box=BOX), **correction))
    alike = measure_scale(table_with(tmp_path, images), ImageConfig(box=BOX, background_sd=1.0))
    assert found == pytest.approx(alike * correction["background_sd"], rel=0.01)


def test_a_fifth_of_strong_images_is_named(images):
    """As junk may be, which has its own strength and is not to lose it."""
    images[: COUNT // 5] *= 5
    found = ImageStatistics.of(images)
    (warning,) = found.warnings(np.arange(COUNT))
    assert "12 of 60 images examined are much stronger than others, too many" in warning
    assert found.correction.background_sd is None


def test_bad_images_do_not_count(images):
    images[3], images[4, 0, 0], images[17, 3, 4] = 7.0, np.nan, 1e6
    found = ImageStatistics.of(images)
    assert np.flatnonzero(found.bad).tolist() == [3, 4]
    assert np.flatnonzero(found.outliers).tolist() == [17]
    assert found.typical_sd == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("value", [1e6, 1e30, -3e38])
def test_a_hot_pixel_does_not_carry_the_scale(tmp_path, images, value, offset):
    config = ImageConfig(box=BOX, subtract_background=offset > 0)
    clean = measure_scale(table_with(tmp_path, images), config)
    images += np.float32(offset)
    images[17, 3, 4] = value
    found = measure_scale(table_with(tmp_path, images), config)
    assert found == pytest.approx(clean, rel=0.01)
    assert clean == pytest.approx(BOX, rel=0.02)  # Var H = N²σ² of white noise


def test_an_offset_is_subtracted_from_what_is_trained_on(tmp_path, images):
    """It would leak through the window to low frequencies, a hundred times the noise."""
    centred = without_background(images)
    raw = table_with(tmp_path, centred + 1000)
    assert not measure_images(raw, box=BOX).has_zero_mean
    (leaking,) = prepared_blocks(raw, ImageConfig(box=BOX, scale=BOX))
    (found,) = prepared_blocks(raw, ImageConfig(box=BOX, scale=BOX, subtract_background=True))
    table = table_with(tmp_path, centred)
    (wanted,) = prepared_blocks(table, ImageConfig(box=BOX, scale=BOX))
    assert np.abs(leaking.values - wanted.values).max() > 100 * wanted.values.std()
    # pixels near 1000 have steps of 6e-5
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-4)


def test_images_of_uneven_scale_are_trained_on_as_if_they_were_even(tmp_path, images):
    """RELION's normalisation: a background of one SD in each image."""
    even = with_background_sd(images, 1.0)
    factors = np.exp(np.random.default_rng(3).normal(0, 0.5, COUNT)).astype(np.float32)
    uneven = ImageStatistics.of(even * factors[:, None, None])
    sd = uneven.correction.background_sd
    assert sd == pytest.approx(np.median(factors), rel=1e-5)
    config = ImageConfig(box=BOX, scale=BOX * sd, background_sd=sd)
    (found,) = prepared_blocks(table_with(tmp_path, even * factors[:, None, None]), config)
    (wanted,) = prepared_blocks(table_with(tmp_path, even), ImageConfig(box=BOX, scale=BOX))
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-5)


def test_backgrounds_without_noise_are_left_as_they_are(images):
    """Simulated or masked images: what lies there is no measure of their scale."""
    x = np.arange(BOX) - BOX // 2
    images *= np.hypot(*np.meshgrid(x, x)) < 0.4 * BOX
    factors = np.exp(np.random.default_rng(3).normal(0, 1, COUNT)).astype(np.float32)
    for level in (0.0, 0.05):
        noise = level * factors[:, None, None] * np.ones_like(images)
        noise[:, ::2] *= -1
        assert ImageStatistics.of(images + noise).has_even_noise


def test_far_pixels_are_replaced_and_others_untouched(images):
    correct = ImageStatistics.of(images).correction
    assert not correct.subtract_background
    np.testing.assert_array_equal(correct(images), images)
    changed = images.copy()
    changed[17, 3, 4], changed[20] = 1e6, images[20] + 1000
    found = correct(changed)
    rows = np.delete(np.arange(COUNT), [17, 20])
    np.testing.assert_array_equal(found[rows], images[rows])
    others = np.arange(BOX * BOX) != 3 * BOX + 4
    np.testing.assert_allclose(found[17].ravel()[others], images[17].ravel()[others], atol=1e-6)
    assert found[17, 3, 4] == pytest.approx(np.median(images[17]), abs=0.05)
    np.testing.assert_allclose(found[20], images[20] - np.median(images[20]), atol=1e-3)


@pytest.mark.parametrize("value", [1e6, 1e20, -3e38])
def test_a_hot_pixel_is_not_trained_on(tmp_path, images, value):
    """Coefficients would be those of the pixel alone, and their loss ends training."""
    config = ImageConfig(box=BOX, scale=BOX, outlier_limit=50.0)
    (wanted,) = prepared_blocks(table_with(tmp_path, images), config)
    images[17, 3, 4] = value
    (found,) = prepared_blocks(table_with(tmp_path, images), config)
    assert np.abs(found.values - wanted.values).max() < 0.5
    rows = np.delete(np.arange(COUNT), 17)
    np.testing.assert_array_equal(found.values[rows], wanted.values[rows])


def test_a_defect_of_the_detector_in_all_images_does_not_carry_the_scale(tmp_path):
    images = images_of(20, box=64)
    config = ImageConfig(box=64)
    table = table_of(20, stacks=(write_mrc(tmp_path / "a.mrcs", images),), box=64)
    clean = measure_scale(table, config)
    images[:, 3, 4] = 1e6
    table = table_of(20, stacks=(write_mrc(tmp_path / "b.mrcs", images),), box=64)
    statistics = measure_images(table, box=64)
    assert not statistics.outliers.any()
    assert "20 of 20 images examined are much stronger" in statistics.warnings(np.arange(20))[0]
    correction = dataclasses.asdict(statistics.correction)
    found = measure_scale(table, dataclasses.replace(config, **correction))
    assert found == pytest.approx(clean, rel=0.02)


def test_what_is_left_out_is_named(tmp_path, images, caplog):
    images[3], images[17, 3, 4] = 7.0, 1e6
    table = table_with(tmp_path, images)
    with caplog.at_level(logging.WARNING):
        kept, statistics = leave_out_bad(table)
    assert kept.column("index").tolist() == [i for i in range(COUNT) if i not in (3, 17)]
    assert len(statistics) == len(kept)
    assert "constant: particles 3 (numbers from 0)" in caplog.text
    assert "particles 17 (a pixel of 1e+06)" in caplog.text
    assert "left out 2 of 60 images" in caplog.text
    with pytest.raises(InputError, match="None of the images"):
        leave_out_bad(table.select(np.array([3])))
