"""Fourier shell correlation of any two maps, with and without a mask."""

import logging
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydrgn.errors import ConfigError, InputError
from raydrgn.fourier.resample import cropped
from raydrgn.fourier.shells import frequencies, resolution_at, shell_correlation
from raydrgn.inputs.resolution import within_mask
from raydrgn.io.masks import SAME_PIXEL_SIZE, is_same_grid, read_mask
from raydrgn.io.mrc import read_volume
from raydrgn.io.storage import Uri
from raydrgn.reporting.figures import fsc_figure
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

SEED = 0  # of the random phases

CLEAR_GAIN = 0.2
"""Mean correlation by which another hand or sign must be better."""

THRESHOLDS = (0.5, 0.143)
"""For maps of different data or a model, and for half maps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MapPair:
    """Two maps on one grid, and the mask to compare them in."""

    first: Float[np.ndarray, "d d d"]
    second: Float[np.ndarray, "d d d"]
    mask: Float[np.ndarray, "d d d"] | None
    pixel_size_angstrom: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MapCorrelation:
    """Correlation of two maps, an entry per shell."""

    pixel_size_angstrom: float
    curves: dict[str, Float[Tensor, " shells"]]
    """``unmasked``; with a mask also ``masked``, ``randomised`` (phases random beyond a shell: what
    the mask alone makes) and ``corrected`` (with that taken out)."""

    def resolution_angstrom(self, name: str, threshold: float) -> float | None:
        """Return where a curve falls below a threshold, in Å; None if it never does."""
        curve = self.curves[name].clone()
        curve[:2] = 1  # the zero frequency alone, where a correlation is 1 or −1
        if bool((curve >= threshold).all()):
            return None
        return resolution_at(
            curve, threshold=threshold, pixel_size_angstrom=self.pixel_size_angstrom
        )


def read_pair(
    first: Uri, second: Uri, mask: Uri | None, *, pixel_size_angstrom: float | None
) -> MapPair:
    """Read two maps and a mask, all on one grid.

    Args:
        first: A map.
        second: The other.
        mask: A mask with values from 0 to 1, whose pixel size may be that in the maps' headers.
        pixel_size_angstrom: Of the maps; that in their headers if not given.

    Of maps of one pixel size, such as a volume of ``volumes --crop`` and the whole map, the larger
    is cropped to the box of the other.

    Raises:
        InputError: If they are on different grids, or a map is empty.
        ConfigError: If the pixel size is not known.
    """
    a, header = read_volume(first)
    b, other = read_volume(second)
    sizes = (header.pixel_size_angstrom, other.pixel_size_angstrom)
    differ = all(sizes) and not math.isclose(*sizes, rel_tol=SAME_PIXEL_SIZE)
    if len(a) != len(b) and all(sizes) and not differ:
        box = min(len(a), len(b))
        log.info("the larger map is cropped to the box of the other, %d px", box)
        a, b = cropped(a, box)[0], cropped(b, box)[0]
    if len(a) != len(b) or (differ and pixel_size_angstrom is None):
        remedy = "give the pixel size of both with --pixel-size if that of a header is wrong"
        if len(a) != len(b):
            remedy = "bring both to one pixel size first"
            if math.isclose(len(a) * sizes[0], len(b) * sizes[1], rel_tol=SAME_PIXEL_SIZE):
                large = first if len(a) > len(b) else second
                box = min(len(a), len(b))
                remedy = (
                    "bring one to the box of the other (`raydrgn downsample "
                    f"{shlex.quote(large)} --is-volume -D {box} -o OUT.mrc`)"
                )
        raise InputError(
            f"{first} has {len(a)} px of {sizes[0]:.4g} Å, but {second} has {len(b)} px of "
            f"{sizes[1]:.4g} Å; {remedy}."
        )
    for uri, volume in ((first, a), (second, b)):
        if np.ptp(volume) == 0:
            raise InputError(f"{uri} is constant: there is nothing to correlate.")
    pixel_size = pixel_size_angstrom or max(sizes)
    if not pixel_size:
        raise ConfigError("Neither map contains its pixel size; give it with --pixel-size.")
    inside = None
    if mask is not None:
        known = [size for size in sizes if size]
        _check_mask(mask, len(a), [pixel_size, *known] if known else [0.0], what=first)
        inside, _ = read_volume(mask)
    return MapPair(first=a, second=b, mask=inside, pixel_size_angstrom=pixel_size)


def _check_mask(uri: Uri, box: int, sizes_angstrom: Sequence[float], *, what: str) -> None:
    """Refuse a mask that is not on the grid of the maps.

    Args:
        uri: The mask.
        box: Of the maps.
        sizes_angstrom: Pixel sizes that it may have: that of the maps, and those in their headers,
            since the mask's may be wrong as theirs are. 0 allows any.
        what: The map, as the message names it.
    """
    mask = read_mask(uri)
    own = (mask.box, mask.pixel_size_angstrom)
    if not any(is_same_grid((box, size), own) for size in sizes_angstrom):
        mask.check_grid(box, sizes_angstrom[0], what=what)


def correlate(pair: MapPair) -> MapCorrelation:
    """Return the Fourier shell correlation of two maps.

    Args:
        pair: The maps, and a mask if one is wanted.
    """
    a, b = torch.from_numpy(pair.first), torch.from_numpy(pair.second)
    curves = {"unmasked": shell_correlation(a, b)}
    if pair.mask is not None:
        found = within_mask(
            a,
            b,
            torch.from_numpy(pair.mask),
            unmasked=curves["unmasked"],
            generator=torch.Generator().manual_seed(SEED),
        )
        curves |= dict(zip(("masked", "randomised", "corrected"), found, strict=True))
    return MapCorrelation(pixel_size_angstrom=pair.pixel_size_angstrom, curves=curves)


def relation(pair: MapPair, found: MapCorrelation) -> str | None:
    """Return in words that maps agree but for sign or hand; None if they do not.

    The mean correlation of half of the shells tells, of the maps as they are and with the second
    one's z axis reversed.
    """
    plain = found.curves["unmasked"]
    shells = slice(1, max(len(plain) // 2, 2))
    mirrored = shell_correlation(
        torch.from_numpy(pair.first), torch.from_numpy(pair.second[::-1].copy())
    )
    as_is, mirror = (float(curve[shells].mean()) for curve in (plain, mirrored))
    words = []
    if abs(mirror) > abs(as_is) + CLEAR_GAIN:
        words.append("hand")
    if (mirror if words else as_is) < -CLEAR_GAIN:
        words.append("sign")
    if not words:
        return None
    best = mirror if "hand" in words else as_is
    changes = " and ".join({"hand": "`raydrgn flip`", "sign": "`raydrgn invert`"}[w] for w in words)
    return (
        f"The maps have the opposite {' and '.join(words)}: with that changed ({changes}) their "
        f"mean correlation to half of Nyquist is {abs(best):.2f}, not {as_is:.2f}."
    )


def describe(found: MapCorrelation) -> list[str]:
    """Return in words the resolution at each threshold of each curve that gives one."""
    lines = []
    nyquist = 2 * found.pixel_size_angstrom
    for name in ("unmasked", "corrected"):
        if name in found.curves:
            parts = []
            for threshold in THRESHOLDS:
                value = found.resolution_angstrom(name, threshold)
                where = f"{value:.2f} Å" if value else f"above it up to Nyquist, {nyquist:.2f} Å"
                parts.append(f"FSC {threshold:g}: {where}")
            title = "without a mask" if name == "unmasked" else "with the mask, its effect removed"
            lines.append(f"{title}: {'; '.join(parts)}")
    return lines


def write_correlation(found: MapCorrelation, folder: ResultFolder) -> None:
    """Write the curves as a table, a row per shell, and as a figure."""
    box = 2 * len(found.curves["unmasked"])
    frequency = frequencies(box).numpy()
    columns = [curve.tolist() for curve in found.curves.values()]
    rows = [
        (shell, f / found.pixel_size_angstrom, found.pixel_size_angstrom / f if f else "inf", *v)
        for shell, (f, *v) in enumerate(zip(frequency.tolist(), *columns, strict=True))
    ]
    head = ("shell", "frequency_per_angstrom", "resolution_angstrom")
    folder.write_table("fsc.csv", (*head, *(f"fsc_{name}" for name in found.curves)), rows)
    figure = fsc_figure(
        frequency,
        [(name, curve.numpy()) for name, curve in found.curves.items()],
        pixel_size_angstrom=found.pixel_size_angstrom,
    )
    axis = figure.axes[0]
    for threshold in THRESHOLDS:
        axis.axhline(threshold, color="0.4", linewidth=0.8, linestyle="--")
    folder.write_figure("fsc.png", figure)
