"""Images that other programs have changed, made what the microscope recorded."""

import numpy as np
import pytest

from phantoms import images_of, table_of, write_mrc
from raydrgn.data.restoration import SMALLEST_CTF
from raydrgn.data.source import ImageSource
from raydrgn.errors import InputError

BOX, PIXEL_SIZE, COUNT = 32, 3.0, 6
VOLTS, CS_MM, AMPLITUDE = 300e3, 2.7, 0.07
WAVELENGTH = 12.2639 / np.sqrt(VOLTS + 0.97845e-6 * VOLTS**2)
DEFOCUS_U = np.linspace(9000, 21000, COUNT)
DEFOCUS_V = DEFOCUS_U - 600
ANGLE_DEG = np.linspace(-40, 70, COUNT)


def frequencies():
    """x and y of the centred spectrum, 1/Å; the first row and column are Nyquist."""
    ticks = np.fft.fftshift(np.fft.fftfreq(BOX)) / PIXEL_SIZE
    return np.meshgrid(ticks, ticks)


def ctf():
    """The formula of conventions, in double precision and written with angles."""
    x, y = frequencies()
    s2, angle = x**2 + y**2, np.arctan2(y, x)
    u, v, a = (c[:, None, None] for c in (DEFOCUS_U, DEFOCUS_V, np.deg2rad(ANGLE_DEG)))
    defocus = 0.5 * (u + v + (u - v) * np.cos(2 * (angle - a)))
    gamma = (
        2 * np.pi * (-0.5 * defocus * WAVELENGTH * s2 + 0.25 * CS_MM * 1e7 * WAVELENGTH**3 * s2**2)
    )
    return np.sqrt(1 - AMPLITUDE**2) * np.sin(gamma) - AMPLITUDE * np.cos(gamma)


def spectra(images):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes)), axes)


def images_with(spectrum):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectrum, axes)), axes).real


def table_with(tmp_path, images, **columns):
    write_mrc(tmp_path / "stack.mrcs", images.astype(np.float32), pixel_size=PIXEL_SIZE)
    optics = {
        "defocus_u_angstrom": DEFOCUS_U,
        "defocus_v_angstrom": DEFOCUS_V,
        "defocus_angle_deg": ANGLE_DEG,
        "voltage_kv": np.full(COUNT, VOLTS / 1e3),
        "spherical_aberration_mm": np.full(COUNT, CS_MM),
        "amplitude_contrast": np.full(COUNT, AMPLITUDE),
        "phase_shift_deg": np.zeros(COUNT),
    }
    return table_of(
        COUNT,
        stacks=(str(tmp_path / "stack.mrcs"),),
        box=BOX,
        pixel_size=PIXEL_SIZE,
        **(optics | columns),
    )


@pytest.fixture
def recorded():
    """White noise without Nyquist, where an astigmatic CTF has two values."""
    x, y = frequencies()
    inside = np.maximum(abs(x), abs(y)) < 0.499 / PIXEL_SIZE
    return images_with(spectra(images_of(COUNT, box=BOX).astype(np.float64)) * inside)


def test_phases_that_were_flipped_are_flipped_back(tmp_path, recorded):
    flipped = images_with(spectra(recorded) * np.where(ctf() < 0, -1, 1))
    which = np.arange(COUNT) % 2 == 1  # only every second particle was flipped
    stored = np.where(which[:, None, None], flipped, recorded)
    table = table_with(tmp_path, stored, phase_flipped=which)
    np.testing.assert_allclose(ImageSource.of(table).read(), recorded, atol=2e-5)
    np.testing.assert_allclose(ImageSource.as_stored(table).read(), stored, atol=1e-6)


def test_a_multiplication_by_the_ctf_is_divided_out(tmp_path, recorded):
    transfer = ctf()
    table = table_with(
        tmp_path,
        images_with(spectra(recorded) * transfer),
        ctf_premultiplied=np.ones(COUNT, dtype=bool),
    )
    kept = np.abs(transfer) >= SMALLEST_CTF
    assert 0.8 < kept.mean() < 1
    wanted = images_with(spectra(recorded) * kept)
    np.testing.assert_allclose(ImageSource.of(table).read(), wanted, atol=1e-3)


def test_the_phase_of_a_tilted_beam_is_taken_off(tmp_path, recorded):
    x, y = frequencies()
    tilt = np.array([2.0, -1.5])  # mrad
    # RELION: 0.360·Cs·10⁷·λ²·|s|²·(s·τ) degrees, added to the phase of the image
    degrees = 0.360 * CS_MM * 1e7 * WAVELENGTH**2 * (x**2 + y**2) * (x * tilt[0] + y * tilt[1])
    assert np.abs(degrees).max() > 20
    tilted = images_with(spectra(recorded) * np.exp(-1j * np.deg2rad(degrees)))
    columns = {
        f"beam_tilt_{axis}_mrad": np.full(COUNT, value)
        for axis, value in zip("xy", tilt, strict=True)
    }
    table = table_with(tmp_path, tilted, **columns)
    np.testing.assert_allclose(ImageSource.of(table).read(), recorded, atol=1e-4)


def test_rows_and_parts_are_restored_alike(tmp_path, recorded):
    flipped = images_with(spectra(recorded) * np.where(ctf() < 0, -1, 1))
    source = ImageSource.of(table_with(tmp_path, flipped, phase_flipped=np.ones(COUNT, dtype=bool)))
    whole = source.read()
    np.testing.assert_array_equal(source.read(np.array([4, 1])), whole[[4, 1]])
    np.testing.assert_array_equal(source.part(2, 5).read(), whole[2:5])


def test_flags_that_are_not_set_change_no_bit(tmp_path, recorded):
    none = np.zeros(COUNT, dtype=bool)
    table = table_with(tmp_path, recorded, phase_flipped=none, ctf_premultiplied=none)
    assert ImageSource.of(table).restoration is None


def test_what_cannot_be_undone_is_refused(tmp_path, recorded):
    every = np.ones(COUNT, dtype=bool)
    both = table_with(tmp_path, recorded, phase_flipped=every, ctf_premultiplied=every)
    with pytest.raises(InputError, match="both phase-flipped and multiplied by the CTF"):
        ImageSource.of(both)
    table = table_with(tmp_path, recorded, phase_flipped=every)
    without = type(table)(table.table.drop_columns(["defocus_u_angstrom"]))
    with pytest.raises(InputError, match="but has no CTF parameters"):
        ImageSource.of(without)
