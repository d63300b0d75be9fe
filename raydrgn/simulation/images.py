"""The forward model of single-particle images.

An image is the projection of a volume along a random direction, moved by a random shift, filtered
by the contrast transfer function and the envelope of a B-factor, with contrast inverted so that
particles are bright (as particles are extracted), multiplied by the particle's contrast, and white
Gaussian noise. The signal-to-noise ratio is the variance of the filtered projections over that of
the noise, over all pixels, at a contrast of 1. An image of junk has a picture without a particle in
the place of the projection, and a contrast of its own.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch

from raydrgn.ctf import CTFParameters, b_factor_envelope, contrast_transfer
from raydrgn.fourier.slices import SliceSampler
from raydrgn.fourier.transforms import disc_coefficients, images_from_disc
from raydrgn.geometry.lattice import half_disc, plane_coordinates
from raydrgn.shapes import Float
from raydrgn.simulation.acquisition import Acquisition
from raydrgn.simulation.ensemble import Ensemble
from raydrgn.simulation.junk import draw_junk

BLOCK = 2000
NOISE_SAMPLE = 2000  # images from which the signal's variance is measured

Filtered = tuple[Float[np.ndarray, "b h w"], Float[np.ndarray, " b"]]
"""Images before any contrast is applied, and the contrast of those of junk."""


class ForwardModel:
    """Makes images of an ensemble; one instance holds the volumes' transforms."""

    def __init__(self, ensemble: Ensemble, acquisition: Acquisition) -> None:
        self._ensemble = ensemble
        self._acquisition = acquisition
        self._box = ensemble.volumes.shape[-1]
        self._points = half_disc(self._box)
        self._plane = plane_coordinates(self._points, self._box)
        self._is_junk = ensemble.is_junk()
        self._measured: dict[tuple[int, int], Filtered] = {}
        """By their rows: those that the signal's variance was measured on, until they are taken."""

    def clean(self, start: int, stop: int) -> Float[np.ndarray, "b h w"]:
        """Return images without noise, particles bright."""
        measured = self._measured.pop((start, stop), None)
        images, strength = measured or self._filtered(start, stop)
        rows = self._is_junk[start:stop]
        if self._acquisition.contrast is not None:
            factor = np.where(rows, 1, self._acquisition.contrast[start:stop])
            images *= factor[:, None, None].astype(np.float32)
        if rows.any():
            size = strength[rows] * np.sqrt(self._variance) / images[rows].std(axis=(1, 2))
            images[rows] *= size[:, None, None].astype(np.float32)
        return images

    def _filtered(self, start: int, stop: int) -> Filtered:
        """Return images before any contrast is applied, and that of junk."""
        rotations = torch.from_numpy(self._acquisition.rotations[start:stop])
        points = self._plane @ rotations * self._box  # (b n 3), lattice units
        values = torch.empty(*points.shape[:2], 2)
        shown = self._ensemble.shown[start:stop]
        for number in np.unique(shown):
            rows = torch.from_numpy(np.flatnonzero(shown == number))
            volume = torch.from_numpy(self._ensemble.volumes[number])
            values[rows] = SliceSampler(volume).at(points[rows])
        strength = np.ones(stop - start)
        for row in np.flatnonzero(self._is_junk[start:stop]).tolist():
            kind = int(self._ensemble.labels[start + row]) - (self._ensemble.junk_from or 0)
            generator = np.random.default_rng((self._ensemble.junk_seed, start + row))
            picture, strength[row] = draw_junk(kind, self._box, generator=generator)
            values[row] = disc_coefficients(torch.from_numpy(picture)[None], self._points)[0]

        freqs = self._plane[:, :2] / self._ensemble.pixel_size_angstrom
        freqs = freqs.expand(len(rotations), -1, -1)
        params = CTFParameters.from_columns(torch.from_numpy(self._acquisition.ctf[start:stop]))
        # The stored shift centres the particle, so the particle lies at minus the shift.
        shifts = torch.from_numpy(self._acquisition.shifts_fraction[start:stop])
        turns = -shifts @ self._points.float().t()  # (b n)
        phase = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
        filtered = torch.view_as_complex(values) * phase * -contrast_transfer(freqs, params)
        if self._acquisition.b_factor_angstrom2:
            filtered = filtered * b_factor_envelope(freqs, self._acquisition.b_factor_angstrom2)
        images = images_from_disc(torch.view_as_real(filtered), self._points, box=self._box)
        return images.numpy(), strength

    @cached_property
    def _variance(self) -> float:
        """Return the variance of the particles' images, at a contrast of 1."""
        count = min(len(self._ensemble.labels), NOISE_SAMPLE)
        filtered = self._filtered(0, count)
        self._measured[0, count] = filtered
        return float(filtered[0][~self._is_junk[:count]].var())

    def noise_sd(self, snr: float) -> float:
        """Return the SD of the noise that gives a signal-to-noise ratio."""
        return float(np.sqrt(self._variance / snr))

    def noisy(
        self, *, noise_sd: float, generator: np.random.Generator
    ) -> Iterator[Float[np.ndarray, "b h w"]]:
        """Yield all images with noise, in blocks."""
        total = len(self._ensemble.labels)
        for start in range(0, total, BLOCK):
            images = self.clean(start, min(start + BLOCK, total))
            noise = generator.standard_normal(images.shape, dtype=np.float32)
            yield images + noise_sd * noise
