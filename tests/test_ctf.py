"""The contrast transfer function: printed values, limits, symmetries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phantoms import OPTICS
from raydrgn.ctf import CTFParameters, b_factor_envelope, contrast_transfer, electron_wavelength
from raydrgn.io.particles import CTF_COLUMNS

FREQUENCIES = [(0, 0), (0.05, 0), (0, 0.1), (0.1, 0.1), (-0.1, 0.1)]


def params(dtype=torch.float64, **changes):
    """Optics of the first particle of EMPIAR-10076, with changes."""
    return CTFParameters(
        **{name: torch.tensor([float(v)], dtype=dtype) for name, v in (OPTICS | changes).items()}
    )


def transfer(points, dtype=torch.float64, **changes):
    freqs = torch.tensor(points, dtype=dtype).reshape(1, -1, 2)
    return contrast_transfer(freqs, params(dtype, **changes))[0]


@pytest.mark.parametrize(("voltage_kv", "expected"), [(200.0, 0.02508), (300.0, 0.01969)])
def test_wavelength_agrees_with_textbook(voltage_kv, expected):
    # Williams & Carter (2009), table 1.2, in Å; printed to four digits.
    found = electron_wavelength(torch.tensor(voltage_kv)).item()
    assert found == pytest.approx(expected, abs=5e-6)


def test_wavelength_agrees_with_the_constants_of_nature():
    from scipy.constants import c, e, h, m_e

    volts = np.array([100e3, 200e3, 300e3])
    exact = h / np.sqrt(2 * m_e * e * volts * (1 + e * volts / (2 * m_e * c**2))) * 1e10
    found = electron_wavelength(torch.tensor(volts / 1e3))
    np.testing.assert_allclose(found, exact, rtol=3e-5)  # cryoDRGN's are 3e-5 lower


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 5e-6), (torch.float32, 1.5e-5)], ids=["f64", "f32"]
)
def test_values_of_another_program(dtype, tolerance):
    # conventions.md, 2.10: cryoDRGN, printed to five digits.
    expected = [-0.07, -0.65046, -0.15883, 0.17537, 0.26046]
    np.testing.assert_allclose(transfer(FREQUENCIES, dtype), expected, atol=tolerance)


def test_the_formula_as_it_is_written(generator):
    # conventions.md, 2.10, with angles, which the module avoids
    points = (torch.rand(50, 2, generator=generator, dtype=torch.float64) - 0.5) / 2
    phase, w = math.radians(35.0), 0.1
    found = transfer(points.tolist(), phase_shift_deg=35.0, amplitude_contrast=w)
    u, v, angle = (OPTICS[name] for name in CTF_COLUMNS[:3])
    s2 = points.square().sum(-1)
    alpha = torch.atan2(points[:, 1], points[:, 0])
    defocus = 0.5 * (u + v + (u - v) * torch.cos(2 * (alpha - math.radians(angle))))
    wavelength = 12.2639 / math.sqrt(300e3 + 0.97845e-6 * 300e3**2)
    gamma = (
        2 * math.pi * (-0.5 * defocus * wavelength * s2 + 0.25 * 2.7e7 * wavelength**3 * s2**2)
        - phase
    )
    expected = math.sqrt(1 - w**2) * torch.sin(gamma) - w * torch.cos(gamma)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("amplitude_contrast", [0.0, 0.07, 0.1, 0.5])
def test_transfer_at_zero_frequency_is_minus_amplitude_contrast(amplitude_contrast):
    found = transfer([(0, 0)], amplitude_contrast=amplitude_contrast)
    assert found.item() == pytest.approx(-amplitude_contrast, abs=1e-15)


def test_a_phase_plate_of_90_degrees_gives_full_contrast_at_zero_frequency():
    found = transfer([(0, 0)], amplitude_contrast=0.0, phase_shift_deg=90.0)
    assert found.item() == pytest.approx(-1.0, abs=1e-15)


def test_first_zero_without_aberration():
    # Cs = w = φ = 0 leaves sin(−π·λ·Δf·s²), which vanishes at s = 1/√(λ·Δf).
    plain = {
        "defocus_u_angstrom": 15_000.0,
        "defocus_v_angstrom": 15_000.0,
        "spherical_aberration_mm": 0.0,
        "amplitude_contrast": 0.0,
    }
    wavelength = electron_wavelength(torch.tensor(300.0, dtype=torch.float64)).item()
    first_zero = 1 / math.sqrt(wavelength * 15_000.0)
    at, before, after = transfer([(first_zero * f, 0) for f in (1, 0.99, 1.01)], **plain)
    assert abs(at.item()) < 1e-12
    assert before < 0 < after


finite = st.floats(-0.5, 0.5)


@given(x=finite, y=finite, u=st.floats(-1e4, 5e4), v=st.floats(-1e4, 5e4), angle=st.floats(0, 360))
def test_transfer_is_centrosymmetric_bounded_and_axes_may_be_swapped(x, y, u, v, angle):
    def at(u, v, angle):
        return transfer(
            [(x, y), (-x, -y)],
            defocus_u_angstrom=u,
            defocus_v_angstrom=v,
            defocus_angle_deg=angle,
        )

    here, opposite = at(u, v, angle)
    assert here == opposite
    assert abs(here) <= 1
    # the minor axis is the major one turned by a quarter; phases reach thousands of radians
    torch.testing.assert_close(at(v, u, angle + 90)[0], here, rtol=0, atol=1e-7)
    torch.testing.assert_close(at(u, v, angle + 180)[0], here, rtol=0, atol=1e-7)


def test_without_astigmatism_the_transfer_is_round():
    angles = np.linspace(0, 2 * np.pi, 13)
    ring = 0.2 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    found = transfer(ring.tolist(), defocus_v_angstrom=OPTICS["defocus_u_angstrom"])
    torch.testing.assert_close(found, found[:1].expand(13), rtol=0, atol=1e-10)


def test_the_major_axis_lies_counter_clockwise_from_x():
    # along the major axis the defocus is U, so astigmatism makes no difference there
    direction = (0.1 * math.cos(math.radians(30)), 0.1 * math.sin(math.radians(30)))
    optics = {"defocus_u_angstrom": 2e4, "defocus_angle_deg": 30.0}
    with_astigmatism = transfer([direction], defocus_v_angstrom=1e4, **optics)
    without = transfer([direction], defocus_v_angstrom=2e4, **optics)
    torch.testing.assert_close(with_astigmatism, without, rtol=0, atol=1e-11)


def test_a_batch_is_its_particles_one_by_one(generator):
    freqs = torch.rand(3, 7, 2, generator=generator) - 0.5
    rows = torch.tensor(list(OPTICS.values())) * (1 + torch.rand(3, 7, generator=generator))
    batch = contrast_transfer(freqs, CTFParameters.from_columns(rows))
    assert batch.shape == (3, 7)
    for i in range(3):
        single = contrast_transfer(freqs[i : i + 1], CTFParameters.from_columns(rows[i : i + 1]))
        torch.testing.assert_close(batch[i : i + 1], single, rtol=0, atol=1e-6)


def test_columns_are_those_of_the_particle_table():
    found = CTFParameters.from_columns(torch.arange(7.0)[None])
    assert [getattr(found, name).item() for name in CTF_COLUMNS] == list(range(7))


def test_the_envelope_of_a_b_factor_is_that_of_gaussian_motion():
    # B = 8π²⟨u²⟩: motion of SD u along a line blurs with a Gaussian, exp(−2π²u²s²) in Fourier space
    spread = 1.3
    freqs = torch.tensor(FREQUENCIES, dtype=torch.float64)
    expected = torch.exp(-2 * math.pi**2 * spread**2 * freqs.square().sum(-1))
    found = b_factor_envelope(freqs, 8 * math.pi**2 * spread**2)
    torch.testing.assert_close(found, expected)
    batch = b_factor_envelope(freqs.expand(2, -1, -1), 8 * math.pi**2 * spread**2)
    torch.testing.assert_close(batch, expected.expand(2, -1))
    assert (b_factor_envelope(freqs, 0.0) == 1).all()
