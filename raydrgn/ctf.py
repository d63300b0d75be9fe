"""Contrast transfer function of a bright-field electron microscope.

Units are those of RELION's STAR columns: defocus in Å, angles in degrees, voltage in kV, spherical
aberration in mm. Positive defocus is underfocus. The CTF at zero frequency is minus the
amplitude contrast; RELION's own function has the opposite sign, and wants particles of inverted
contrast.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from raydrgn.shapes import Float


@dataclass(frozen=True, kw_only=True)
class CTFParameters:
    """Optics of a batch of particles, one value per particle in every field."""

    defocus_u_angstrom: Float[Tensor, "*b"]
    """Defocus along the major axis; positive is underfocus."""

    defocus_v_angstrom: Float[Tensor, "*b"]
    """Defocus along the minor axis."""

    defocus_angle_deg: Float[Tensor, "*b"]
    """Angle of the major axis to x, counter-clockwise."""

    voltage_kv: Float[Tensor, "*b"]
    """Acceleration voltage."""

    spherical_aberration_mm: Float[Tensor, "*b"]
    """Third-order spherical aberration, Cs."""

    amplitude_contrast: Float[Tensor, "*b"]
    """Fraction of amplitude contrast, w in [0, 1)."""

    phase_shift_deg: Float[Tensor, "*b"]
    """Extra phase from a phase plate; 0 without one."""

    @classmethod
    def from_columns(cls, columns: Float[Tensor, "*b 7"]) -> "CTFParameters":
        """Name the columns of a table, in the order of the fields."""
        return cls(
            **{f.name: column for f, column in zip(fields(cls), columns.unbind(-1), strict=True)}
        )


def electron_wavelength(voltage_kv: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Return the relativistic de Broglie wavelength of the electrons, in Å.

    λ = 12.2639 / √(V + 0.97845e-6 V²), V in volts. The constants are those of cryoDRGN, so that
    its CTFs and these agree; of CODATA's, 12.2643 and 0.978476e-6, λ is 3e-5 longer.

    References:
        Reimer & Kohl (2008), Transmission Electron Microscopy, 5th ed., section 2.1.
    """
    volts = voltage_kv * 1e3  # kV -> V
    return 12.2639 / torch.sqrt(volts + 0.97845e-6 * volts.square())


def contrast_transfer(
    freqs: Float[Tensor, "*b n 2"], params: CTFParameters
) -> Float[Tensor, "*b n"]:
    """Evaluate the contrast transfer function at in-plane spatial frequencies.

    With γ(s) = 2π(−½·λ·Δf(θ)·s² + ¼·Cs·λ³·s⁴) − φ, the CTF is √(1−w²)·sin γ − w·cos γ, which
    is sin(γ − arcsin w). No envelope is applied; see ``b_factor_envelope``. The phase passes 300
    rad at 2 Å and 2 µm defocus (300 kV), where neighbouring bfloat16 numbers are 2 rad apart:
    single precision at least.

    Args:
        freqs: Spatial frequencies (x, y) in 1/Å, not in cycles per pixel.
        params: Optics of each particle of the batch.

    Returns:
        CTF, in [−1, 1].

    References:
        Mindell & Grigorieff (2003), J. Struct. Biol. 142:334, where χ = −γ.
    """
    x, y = freqs.unbind(-1)  # (*b n) each
    x2, y2 = x.square(), y.square()
    s2 = x2 + y2
    wavelength = electron_wavelength(params.voltage_kv)
    angle = torch.deg2rad(2 * params.defocus_angle_deg)
    mean = (params.defocus_u_angstrom + params.defocus_v_angstrom) / 2
    half_difference = (params.defocus_u_angstrom - params.defocus_v_angstrom) / 2

    # s²·Δf(θ), with s² cos 2θ = x² − y² and s² sin 2θ = 2xy, so that no angle is computed
    s2_defocus = (
        mean[..., None] * s2
        + (half_difference * torch.cos(angle))[..., None] * (x2 - y2)
        + (half_difference * torch.sin(angle))[..., None] * (2 * x * y)
    )
    cs = params.spherical_aberration_mm * 1e7  # mm -> Å
    fourth = (0.25 * cs * wavelength**3)[..., None] * s2.square()
    gamma = 2 * math.pi * (fourth - (0.5 * wavelength)[..., None] * s2_defocus)
    offset = torch.deg2rad(params.phase_shift_deg) + torch.asin(params.amplitude_contrast)
    return torch.sin(gamma - offset[..., None])


def b_factor_envelope(
    freqs: Float[Tensor, "*b n 2"], b_factor_angstrom2: float
) -> Float[Tensor, "*b n"]:
    """Return exp(−B s²/4), the envelope of a B-factor, at spatial frequencies in 1/Å.

    It multiplies amplitudes; power falls off by exp(−B s²/2).

    References:
        Rosenthal & Henderson (2003), J. Mol. Biol. 333:721.
    """
    return torch.exp(-b_factor_angstrom2 / 4 * freqs.square().sum(-1))
