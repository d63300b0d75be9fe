"""Images as the microscope recorded them, from images that another program has changed.

Phases that were flipped are flipped back, a multiplication by the CTF is divided out, and the phase
error of a tilted beam is taken off. Done once, when an image is read, all that follows (training,
back-projection, pictures) has one kind of image with white noise, and one CTF.

A phase-flipped image is |c|·V, a premultiplied one c²·V plus noise of power c², for a CTF c and a
projection V: times sign c, and over c, both are c·V again, with the noise as it was recorded.
"""

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydrgn.ctf import CTFParameters, contrast_transfer, electron_wavelength
from raydrgn.errors import InputError
from raydrgn.fourier.transforms import fft_centred, ifft_centred
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)

SMALLEST_CTF = 0.05
"""Where |CTF| is below, a premultiplied image has nothing to divide out, and is set to zero.

Such frequencies have less than 0.25 % of the weight of others, and rounding and cropping in the
program that multiplied would be amplified more than twentyfold.
"""

FLAGS = {
    "phase_flipped": "have flipped phases",
    "ctf_premultiplied": "are multiplied by their CTF",
}
TILT = ("beam_tilt_x_mrad", "beam_tilt_y_mrad")


@dataclass(frozen=True, slots=True)
class Restoration:
    """What has to be undone for each row of a table."""

    columns: dict[str, np.ndarray]
    """Optics, ``pixel_size_angstrom``, and those of FLAGS and TILT that there are."""

    @classmethod
    def of(cls, table: ParticleTable) -> "Restoration | None":
        """Return what a table needs, or None if its images are as recorded.

        Raises:
            InputError: If images were changed by a CTF that the table does not have.
        """
        names = [name for name in (*FLAGS, *TILT) if name in table.table.column_names]
        columns = {name: table.column(name) for name in names}
        if not any(values.any() for values in columns.values()):
            return None
        if not table.has_ctf:
            raise InputError(
                "The particle file marks particles as phase-flipped, multiplied by the CTF or "
                "recorded with a tilted beam, but has no CTF parameters, so that this cannot be "
                "undone. Use a particle file with CTF parameters, or give them to `raydrgn train` "
                "with --ctf."
            )
        flags = [columns.get(name, np.zeros(len(table))) != 0 for name in FLAGS]
        both = np.flatnonzero(np.all(flags, axis=0))
        if both.size:
            raise InputError(
                f"Particle {both[0]} is marked as both phase-flipped and multiplied by the CTF, "
                "so that its sign is not known. Correct the optics table of the particle file."
            )
        optics = {name: table.column(name) for name in (*CTF_COLUMNS, "pixel_size_angstrom")}
        return cls(columns | optics)

    def rows(self, rows: Int[np.ndarray, " k"] | slice) -> "Restoration":
        """Return the restoration of some rows."""
        return Restoration({name: values[rows] for name, values in self.columns.items()})

    def __call__(self, images: Float[np.ndarray, "k h w"]) -> Float[np.ndarray, "k h w"]:
        """Return the images of all rows as they were recorded; images as recorded stay the same."""
        names = [name for name in (*FLAGS, *TILT) if name in self.columns]
        changed = np.flatnonzero(np.any([self.columns[name] != 0 for name in names], axis=0))
        if not changed.size:
            return images
        part = self.rows(changed)
        restored = images.copy()
        spectrum = fft_centred(torch.from_numpy(images[changed]), ndim=2)
        restored[changed] = ifft_centred(spectrum * part._factor(images.shape[-1]), ndim=2).numpy()
        return restored

    def _factor(self, box: int) -> Tensor:
        """Return what spectra are multiplied with, (k h w), complex."""
        pixel_size = _tensor(self.columns["pixel_size_angstrom"])
        ticks = torch.arange(-(box // 2), box // 2) / box
        y, x = torch.meshgrid(ticks, ticks, indexing="ij")
        freqs = torch.stack([x, y], dim=-1).reshape(1, -1, 2) / pixel_size[:, None, None]
        optics = np.stack([self.columns[name] for name in CTF_COLUMNS], axis=-1)
        params = CTFParameters.from_columns(_tensor(optics))
        ctf = contrast_transfer(freqs, params)
        factor = torch.ones_like(ctf)
        if "phase_flipped" in self.columns:
            flipped = torch.from_numpy(self.columns["phase_flipped"] != 0)[:, None]
            factor = torch.where(flipped, torch.where(ctf < 0, -1.0, 1.0), factor)
        if "ctf_premultiplied" in self.columns:
            multiplied = torch.from_numpy(self.columns["ctf_premultiplied"] != 0)[:, None]
            divided = torch.where(ctf.abs() < SMALLEST_CTF, 0.0, 1 / ctf)
            factor = torch.where(multiplied, divided, factor)
        phase = torch.zeros_like(ctf)
        if TILT[0] in self.columns:
            tilt = [_tensor(self.columns[name]) for name in TILT]
            phase = beam_tilt_phase(freqs, params, *tilt)
        return torch.polar(factor.abs(), phase + math.pi * (factor < 0)).reshape(-1, box, box)


def log_restoration(table: ParticleTable) -> None:
    """Log in one line what is undone in the images of a table; nothing if they are as recorded."""
    restoration = Restoration.of(table)
    if restoration is None:
        return
    columns = restoration.columns
    found = {what: columns[name] != 0 for name, what in FLAGS.items() if name in columns}
    if TILT[0] in columns:
        tilted = np.any([columns[name] != 0 for name in TILT], axis=0)
        found["were recorded with a tilted beam"] = tilted
    log.info(
        "%s; this is undone when images are read",
        ", ".join(f"{mask.sum():,} images {what}" for what, mask in found.items() if mask.any()),
    )


def beam_tilt_phase(
    freqs: Float[Tensor, "b n 2"],
    params: CTFParameters,
    tilt_x_mrad: Float[Tensor, " b"],
    tilt_y_mrad: Float[Tensor, " b"],
) -> Float[Tensor, "b n"]:
    """Return the phase, in radians, by which a spectrum is turned to undo a tilt of the beam.

    2π·Cs·λ²·|s|²·(s·τ), with the tilt τ as RELION refines it (``rlnBeamTiltX/Y``), in mrad.

    Args:
        freqs: Spatial frequencies s = (x, y), 1/Å.
        params: Optics of each particle.
        tilt_x_mrad: Tilt along x.
        tilt_y_mrad: Tilt along y.

    References:
        Zivanov, Nakane & Scheres (2020), IUCrJ 7:253, coma as the antisymmetric aberration.
    """
    wavelength = electron_wavelength(params.voltage_kv)
    scale = 2 * math.pi * params.spherical_aberration_mm * 1e7 * wavelength.square() * 1e-3
    x, y = freqs.unbind(-1)
    along = x * tilt_x_mrad[:, None] + y * tilt_y_mrad[:, None]
    return scale[:, None] * freqs.square().sum(-1) * along


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
