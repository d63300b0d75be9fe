"""How a map relates to a reference: its handedness, its sign, its offset."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydrgn.errors import InputError
from raydrgn.fourier.masks import soft_sphere
from raydrgn.fourier.resample import cropped, resample
from raydrgn.fourier.shells import resolution_at, shell_correlation, shell_index
from raydrgn.fourier.slices import SliceSampler
from raydrgn.fourier.transforms import ifft_centred
from raydrgn.inputs.resolution import Resolution
from raydrgn.io.mrc import read_volume
from raydrgn.io.storage import Uri
from raydrgn.shapes import Complex, Float

LARGEST_BOX = 96
"""Maps are compared at this box or smaller: it is enough to tell handedness."""

MATCH = 0.5
"""Weighted mean correlation with the reference from which a map matches it."""

SAME_WIDTH = 1e-3
"""Pixels by which a field may be less wide than another and still be as wide."""

ORIENTATIONS: dict[str, tuple[int, ...]] = {
    "as is": (),
    "its mirror image": (-3,),
    "its mirror image, turned by 180° about x": (-2,),
    "its mirror image, turned by 180° about y": (-1,),
    "its mirror image, turned by 180° about the diagonal of all axes": (-3, -2, -1),
}
"""Axes (z, y, x) that are reversed; ``--flip`` reverses z."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How a map relates to a reference."""

    name: str
    """One of ``ORIENTATIONS``."""

    score: float
    """Mean Fourier shell correlation up to the map's resolution, weighted by its half maps'."""

    offset_px: tuple[float, float, float]
    """Where the map lies from the reference, (x, y, z), in pixels of the map."""

    is_negative: bool
    """Whether the match is with the reference's negative."""

    resolution_angstrom: float
    """Where the correlation with the reference, as it matches, falls below 0.5."""

    matched: Float[Tensor, "d d d"]
    """The reference on the lattice of the map or a coarser one, brought to match it if it does."""


def read_reference(uri: Uri) -> tuple[Float[np.ndarray, "r r r"], float]:
    """Return the density of a reference and its pixel size, Å.

    Raises:
        InputError: If it is no map, has no pixel size, or the same density everywhere.
    """
    density, header = read_volume(uri)
    if not header.pixel_size_angstrom:
        raise InputError(
            f"{uri} has no pixel size in its header. Set it, in ChimeraX for instance: volume #1 "
            "voxelSize 1.5, and save the map."
        )
    if density.min() == density.max():
        raise InputError(f"{uri} has the same density in every voxel; give the refined map.")
    return density, header.pixel_size_angstrom


def compare(
    volume: Float[np.ndarray, "d d d"],
    reference: Float[np.ndarray, "r r r"],
    resolution: Resolution,
    *,
    reference_pixel_size_angstrom: float,
) -> Comparison:
    """Find out whether a map is its reference, or a mirror image of it.

    Both are brought to one lattice. A small offset between them is found and reported, a rotation
    is not searched for.

    Args:
        volume: Map.
        reference: Map from elsewhere; its box and pixel size may be others.
        resolution: Of the map.
        reference_pixel_size_angstrom: Pixel size of the reference.
    """
    box, pixel_size = volume.shape[-1], resolution.pixel_size_angstrom
    small = min(box, LARGEST_BOX)
    sphere = torch.from_numpy(soft_sphere(small))
    own = resample(torch.from_numpy(volume), box=small, ndim=3) * sphere
    density = torch.from_numpy(reference)
    scale = box * pixel_size / (reference.shape[-1] * reference_pixel_size_angstrom)
    given = on_lattice(density, scale=scale, box=small)
    correlator = Correlator(own, shell_weights(resolution, small))
    name, score, offset = best_orientation(correlator, given, sphere)
    axes = ORIENTATIONS[name]
    matched = given.flip(axes) if axes else given
    moved = torch.roll(matched, tuple(offset.tolist()), (0, 1, 2)) * (1.0 if score > 0 else -1.0)
    curve = shell_correlation(own, moved * sphere)
    curve[:2] = 1
    return Comparison(
        name=name,
        score=abs(score),
        offset_px=tuple(float(v) * box / small for v in reversed(offset.tolist())),
        is_negative=score < 0,
        resolution_angstrom=resolution_at(
            curve, threshold=0.5, pixel_size_angstrom=pixel_size * box / small
        ),
        matched=moved if abs(score) >= MATCH else given,
    )


class Correlator:
    """Weighted correlations of one volume with others over all offsets.

    Each shell counts by its weight and its number of points, whatever its power.
    """

    def __init__(self, volume: Float[Tensor, "d d d"], weights: Float[Tensor, " shells"]) -> None:
        self._box = box = volume.shape[-1]
        half = torch.fft.ifftshift(shell_index(box))[..., : box // 2 + 1]
        self._index = half.contiguous()
        times = torch.full((box // 2 + 1,), 2.0, dtype=torch.float64)  # with the other half
        times[0] = times[-1] = 1
        self._times = times.expand(half.shape).contiguous()
        self._weights = weights.double()
        self._counts = self._sums(self._times)
        self._total = max(float((self._weights * self._counts).sum()), 1e-30)
        self._spectrum = _half_spectrum(volume)
        self._power = self._power_of(self._spectrum)

    def largest(self, other: Float[Tensor, "d d d"]) -> tuple[float, Tensor]:
        """Return the largest correlation with a volume, with its sign and offset (z, y, x)."""
        spectrum = _half_spectrum(other)
        factor = (self._weights / (self._power * self._power_of(spectrum)).sqrt()).float()
        cross = self._spectrum * spectrum.conj() * factor[self._index]
        surface = torch.fft.irfftn(cross, other.shape) * (self._box**3 / self._total)
        best = surface.abs().argmax()
        offset = torch.stack(torch.unravel_index(best, surface.shape))
        half = self._box // 2
        return float(surface.flatten()[best]), (offset + half) % self._box - half

    def _power_of(self, spectrum: Complex[Tensor, "d d h"]) -> Float[Tensor, " shells"]:
        power = torch.view_as_real(spectrum).square().sum(-1)
        return (self._sums(power * self._times) / self._counts).clamp(min=1e-30)

    def _sums(self, values: Float[Tensor, "d d h"]) -> Float[Tensor, " shells"]:
        return torch.bincount(self._index.flatten(), values.flatten(), minlength=self._box // 2)


def _half_spectrum(volume: Float[Tensor, "d d d"]) -> Complex[Tensor, "d d h"]:
    """Return the transform of a volume about its centre, not shifted back, at kx >= 0."""
    return torch.fft.rfftn(torch.fft.ifftshift(volume))


def best_orientation(
    correlator: Correlator, given: Float[Tensor, "d d d"], sphere: Float[Tensor, "d d d"]
) -> tuple[str, float, Tensor]:
    """Return the name of the orientation that matches best, its correlation and its offset."""
    found = {
        name: correlator.largest((given.flip(axes) if axes else given) * sphere)
        for name, axes in ORIENTATIONS.items()
    }
    name = max(found, key=lambda name: abs(found[name][0]))
    if abs(found["as is"][0]) > 0.95 * abs(found[name][0]):
        name = "as is"  # a map that is its own mirror image needs no flip
    return name, *found[name]


def on_lattice(volume: Float[Tensor, "r r r"], *, scale: float, box: int) -> Float[Tensor, "d d d"]:
    """Return a volume on a lattice of another box whose field is ``scale`` times as wide.

    Its transform is evaluated where the new lattice has its points; about the same centre.
    """
    old = volume.shape[-1]
    if abs(scale - 1) * old < 0.05:  # of a pixel, over the whole field
        return resample(volume, box=box, ndim=3)
    return sample_lattice(SliceSampler(volume), scale=scale, box=box)


def sample_lattice(sampler: SliceSampler, *, scale: float, box: int) -> Float[Tensor, "d d d"]:
    """Return ``on_lattice`` of the sampler's volume, whatever the scale.

    Where the new field is less wide than the volume's, the transform is sampled for one that is as
    wide, and cropped: coarser samples would fold into the box what lies outside.
    """
    wide = max(2 * math.ceil(box / scale / 2 - SAME_WIDTH), box)
    ticks = torch.arange(-(wide // 2), wide // 2).float() * (box / (scale * wide))
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    values = torch.view_as_complex(sampler.at(points)).reshape(wide, wide, wide)
    return torch.from_numpy(cropped(ifft_centred(values, ndim=3).numpy(), box)[0])


def shell_weights(resolution: Resolution, box: int) -> Float[Tensor, " shells"]:
    """Return the weight of each shell: what its half maps share, to where they part."""
    full = 2 * len(resolution.masked)
    field = full * resolution.pixel_size_angstrom
    weights = resolution.masked[: box // 2].clamp(min=0)
    limit = int(field / resolution.at(0.143)) + 1
    weights = torch.where(torch.arange(len(weights)) <= limit, weights, 0.0)
    weights[:2] = 0  # the zero frequency depends neither on position nor on handedness
    return weights
