"""Positional encodings: sines and cosines of Fourier points, which a perceptron can tell apart.

Points are in cycles per pixel, between −0.5 and 0.5. The frequencies, and the order of the
features, are cryoDRGN's, so that its weights can be used.

References:
    Zhong, Bepler, Berger & Davis (2021), Nat. Methods 18:176 (the geometric series);
    Tancik et al. (2020), arXiv:2006.10739 (Gaussian features).
"""

import math

import torch
from torch import Tensor

from raydrgn.model.config import Encoding
from raydrgn.shapes import Float


def projection_waves(
    points: Float[Tensor, "*b n 3"],
    frequencies: Float[Tensor, "f 3"],
    *,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*b n g"]:
    """Return sines, then cosines, of the points' products with frequency vectors; g = 2f.

    Args:
        points: Points; no gradient goes to them.
        frequencies: Frequency vectors, radians × pixels.
        dtype: Type of what is returned; that of the points by default.
    """
    return _waves(points @ frequencies.t(), dtype)


def axis_waves(
    points: Float[Tensor, "*b n 3"],
    series: Float[Tensor, " f"],
    *,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*b n g"]:
    """Return sines, then cosines, of x times each frequency, then of y, then of z; g = 6f.

    Args:
        points: Points; no gradient goes to them.
        series: Frequencies, radians × pixels.
        dtype: Type of what is returned; that of the points by default.
    """
    return _waves(points[..., None] * series, dtype).flatten(-2)  # phases: (*b n 3 f)


@torch.no_grad()
def _waves(phase: Float[Tensor, "*b f"], dtype: torch.dtype | None) -> Float[Tensor, "*b g"]:
    """Return sines, then cosines, which are never written in another type than the wanted one."""
    sines, cosines = (torch.empty_like(phase, dtype=dtype) for _ in range(2))
    torch.sin(phase, out=sines)
    torch.cos(phase, out=cosines)
    return torch.cat([sines, cosines], dim=-1)


def series_frequencies(kind: Encoding, box: int, dim: int) -> Float[Tensor, " f"]:
    """Return the ``dim`` frequencies of a named series, in radians × pixels.

    The geometric ones run from short to long wavelengths, ``linear_lowf`` from long to short.
    """
    half = box // 2
    ramp = torch.arange(dim, dtype=torch.float32) / max(dim - 1, 1)
    if kind == "geom_ft":
        return box * math.pi * (2 / box) ** ramp
    if kind == "geom_full":
        return box * math.pi * (1 / (box * math.pi)) ** ramp
    if kind == "geom_lowf":
        return half * (1 / half) ** ramp
    if kind == "geom_nohighf":
        return half * (2 * math.pi / half) ** ramp
    return torch.arange(1, dim + 1, dtype=torch.float32)
