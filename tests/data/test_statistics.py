"""The scale of the images: cryoDRGN's definition, and images that cannot be measured."""

import numpy as np
import pytest

from phantoms import images_of, table_of, write_mrc
from raydrgn.data import statistics
from raydrgn.data.config import ImageConfig
from raydrgn.data.statistics import measure_scale
from raydrgn.errors import InputError

BOX = 8
CONFIG = ImageConfig(box=BOX)


def table_with(tmp_path, images):
    uri = write_mrc(tmp_path / "a.mrcs", images)
    return table_of(len(images), stacks=(uri,), box=images.shape[-1])


def deviation(images):
    """The deviation over symmetrised Hartley transforms (conventions.md, 2.8 and 2.9)."""
    shifted = np.fft.fftshift(images.astype(np.float64), (1, 2))
    spectrum = np.fft.fftshift(np.fft.fft2(shifted), (1, 2))
    hartley = spectrum.real - spectrum.imag
    closed = np.pad(hartley, ((0, 0), (0, 1), (0, 1)), mode="wrap")
    return closed.std()


def test_the_scale_is_the_deviation_over_all_values(tmp_path):
    images = images_of(20, box=BOX) * 3 + 0.1
    found = measure_scale(table_with(tmp_path, images), CONFIG)
    assert found == pytest.approx(deviation(images), rel=1e-6)


def test_white_noise_has_the_scale_of_its_power(tmp_path):
    # Var H = N² σ² for white noise: 8 × 3 = 24, known to 1/√(2·400·64)
    images = 3 * images_of(400, box=BOX)
    found = measure_scale(table_with(tmp_path, images), CONFIG)
    assert found == pytest.approx(24, rel=0.02)


@pytest.mark.parametrize(("count", "step"), [(7, 1), (10, 1), (19, 1), (20, 2), (35, 3)])
def test_images_are_taken_evenly(tmp_path, monkeypatch, count, step):
    # conventions.md, 2.8: stride N // min(1000, N), here with 10 for 1000
    monkeypatch.setattr(statistics, "SAMPLE", 10)
    images = images_of(count, box=BOX)
    images[np.arange(count) % step > 0] *= 100
    found = measure_scale(table_with(tmp_path, images), CONFIG)
    assert found == pytest.approx(deviation(images[::step]), rel=1e-6)


def test_blocks_make_no_difference(tmp_path, monkeypatch):
    table = table_with(tmp_path, images_of(20, box=BOX))
    expected = measure_scale(table, CONFIG)
    monkeypatch.setattr("raydrgn.data.source.BLOCK_BYTES", 3 * 4 * BOX * BOX)
    assert measure_scale(table, CONFIG) == pytest.approx(expected, rel=1e-12)


def test_sign_and_window_make_none(tmp_path):
    table = table_with(tmp_path, images_of(20, box=BOX))
    other = ImageConfig(box=BOX, invert=False, window=False, scale=7.0)
    assert measure_scale(table, other) == measure_scale(table, CONFIG)


def test_bad_images_are_left_out(tmp_path):
    images = images_of(20, box=BOX)
    broken = images.copy()
    broken[3] = 5.0
    broken[7, 0, 0] = np.nan
    good = np.delete(images, [3, 7], axis=0)
    found = measure_scale(table_with(tmp_path, broken), CONFIG)
    assert found == pytest.approx(deviation(good), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan])
def test_images_without_contrast_are_refused(tmp_path, value):
    images = np.full((5, BOX, BOX), value, dtype=np.float32)
    with pytest.raises(InputError, match=r"None of 5 images .* has any contrast"):
        measure_scale(table_with(tmp_path, images), CONFIG)


def test_the_field_s_images_have_the_scale_of_another_program(empiar):
    """Their deviation, from the definition with NumPy."""
    import mrcfile

    images = mrcfile.read(empiar / "empiar_10076_7.mrc")
    table = table_of(7, stacks=(str(empiar / "empiar_10076_7.mrc"),), box=320)
    found = measure_scale(table, ImageConfig(box=320))
    assert found == pytest.approx(deviation(images), rel=1e-6)
