"""Statistics of single images: which cannot be used, and which are outliers of their data set.

An image is an outlier if a pixel is farther from the image's mean than ``FAR_SD`` standard
deviations of its optics group (a hot pixel, a cosmic ray), or if the whole image is more than
``STRONG_RATIO`` times as strong as others of its group. The SD of a group is the median of those of
its images, which outliers cannot carry; few images are compared with the whole data set.

Images are normalised where they have a mean near 0, and backgrounds of about the same SD within
each optics group. The background is what lies beyond the particle (``BACKGROUND_RADIUS``). Groups
may differ: by noise alone, as of thicker ice, or by the scale of their images. Beyond
``GROUP_RATIO`` it is the scale.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from raydrgn.data.preprocess import MAD_TO_SD, ImageCorrection, background_pixels, find_bad
from raydrgn.data.source import ImageSource, block_ends, rows_by_box
from raydrgn.errors import InputError
from raydrgn.io.particles import ParticleTable
from raydrgn.shapes import Bool, Float, Int

log = logging.getLogger(__name__)

FAR_SD = 50
"""SDs of the data set from the mean of its image from which a pixel is out of range."""

LARGE_OFFSET_SD = 10
"""Mean over SD of a typical image from which images are not normalised."""

UNEVEN_RATIO = 1.5
"""Third quartile over first of the backgrounds' SDs, over the median of the optics group, from
which images are not normalised alike."""

GROUP_RATIO = 10.0
"""Largest over smallest SD of the backgrounds of optics groups beyond which no ice explains it."""

FEWEST_OF_GROUP = 20
"""Usable images from which an optics group has a median of its own."""

NOISE_SHARE = 0.5
"""SD of the background over that of the image, of a typical image, from which it is noise."""

STRONG_RATIO = 3.0
"""Times the median from which the strength of an image is that of an outlier, if it also is …"""

STRONG_SPREADS = 10.0
"""… this many robust SDs of the logarithms of the strengths above it."""

MOST_FAR = 0.5
"""Share of images with far pixels beyond which they are no exceptions, but the data set."""

MOST_STRONG = 0.1
"""The same for strong images; at least one may always be strong."""

NAMED = 20
"""Images named in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageStatistics:
    """What is measured of each image of a data set or of a sample."""

    mean: Float[np.ndarray, " n"]
    sd: Float[np.ndarray, " n"]

    background_sd: Float[np.ndarray, " n"]
    """SD beyond ``BACKGROUND_RADIUS``, where there is no particle."""

    extreme: Float[np.ndarray, " n"]
    """Value of the pixel that is farthest from the mean of its image."""

    bad: Bool[np.ndarray, " n"]
    """Images that are constant or have a pixel that is not finite."""

    group: Int[np.ndarray, " n"]
    """Number of the optics group."""

    @classmethod
    def of(
        cls, images: Float[np.ndarray, "n h w"], *, group: Int[np.ndarray, " n"] | None = None
    ) -> "ImageStatistics":
        """Measure images, by default of one optics group."""
        bad = find_bad(images)
        flat = np.where(bad[:, None, None], np.float32(0), images) if bad.any() else images
        flat = flat.reshape(len(images), -1)
        mean = flat.mean(axis=1, dtype=np.float64)
        power = np.einsum("ni,ni->n", flat, flat, dtype=np.float64) / flat.shape[1]
        low, high = flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64)
        return cls(
            mean=mean,
            sd=np.sqrt(np.maximum(power - mean**2, 0.0)),
            background_sd=background_pixels(flat.reshape(images.shape)).std(
                axis=1, dtype=np.float64
            ),
            extreme=np.where(high - mean > mean - low, high, low),
            bad=bad,
            group=np.zeros(len(images), dtype=np.int64) if group is None else group,
        )

    @classmethod
    def joined(cls, parts: Sequence["ImageStatistics"]) -> "ImageStatistics":
        """Return the statistics of all images of the parts."""
        columns = [f.name for f in fields(cls)]
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        )

    def __len__(self) -> int:
        return len(self.bad)

    @property
    def typical_sd(self) -> float:
        """Median of the SDs of usable images; 0 if there are none."""
        usable = self.sd[~self.bad]
        return float(np.median(usable)) if len(usable) else 0.0

    @property
    def typical_offset(self) -> float:
        """Median of the absolute means of usable images; 0 if there are none."""
        usable = np.abs(self.mean[~self.bad])
        return float(np.median(usable)) if len(usable) else 0.0

    @property
    def has_zero_mean(self) -> bool:
        """Whether the means of images are no more than a few SDs from zero."""
        return self.typical_offset <= LARGE_OFFSET_SD * self.typical_sd

    @property
    def typical_background_sd(self) -> float:
        """Median of the backgrounds' SDs of usable images; 0 if there are none."""
        usable = self.background_sd[~self.bad]
        return float(np.median(usable)) if len(usable) else 0.0

    @property
    def background_quartiles(self) -> tuple[float, float]:
        """Quartiles of the backgrounds' SDs over the median of the group, of usable images.

        1 where the backgrounds are something else than noise.
        """
        middle = self.typical_background_sd
        if middle == 0 or middle < NOISE_SHARE * self.typical_sd:
            return 1.0, 1.0
        relative = []
        for rows in self._usable_rows():
            sd = self.background_sd[rows]
            if len(sd) and (median := np.median(sd)) > 0:
                relative.append(sd / median)
        low, high = np.percentile(np.concatenate(relative), [25, 75])
        return float(low), float(high)

    @property
    def group_ratio(self) -> float:
        """Largest over smallest median of the backgrounds' SDs of optics groups.

        1 where the backgrounds are something else than noise.
        """
        if self.typical_background_sd < NOISE_SHARE * self.typical_sd:
            return 1.0
        levels = self._of_groups(self.background_sd)[~self.bad]
        levels = levels[levels > 0]
        return float(levels.max() / levels.min()) if len(levels) else 1.0

    @property
    def has_even_noise(self) -> bool:
        """Whether backgrounds have about the same SD within and, roughly, between optics groups."""
        low, high = self.background_quartiles
        return high <= UNEVEN_RATIO * low and self.group_ratio <= GROUP_RATIO

    @property
    def correction(self) -> ImageCorrection:
        """What is corrected in images of this data set before they are used."""
        return ImageCorrection(
            subtract_background=not self.has_zero_mean,
            background_sd=None if self.has_even_noise else self.typical_background_sd,
            outlier_limit=FAR_SD * self._limiting_sd or None,
        )

    @property
    def _limiting_sd(self) -> float:
        """SD that far pixels are measured by: of the strongest group, if images are not scaled."""
        if self.has_even_noise and not self.bad.all():
            return float(self._of_groups(self.sd)[~self.bad].max())
        return self.typical_sd

    def _of_groups(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return for each usable image the median of those of its group; of all for small groups.

        Of images that cannot be used it is the median of all others, 0 if there are none.
        """
        usable = ~self.bad
        found = np.full(len(self), np.median(values[usable]) if usable.any() else 0.0)
        for rows in self._usable_rows():
            if len(rows) >= FEWEST_OF_GROUP:
                found[rows] = np.median(values[rows])
        return found

    def _usable_rows(self) -> list[Int[np.ndarray, " k"]]:
        """Return the usable images of each optics group; there may be thousands of groups."""
        order = np.argsort(self.group, kind="stable")
        order = order[~self.bad[order]]
        return np.split(order, np.flatnonzero(np.diff(self.group[order])) + 1)

    @property
    def far(self) -> Bool[np.ndarray, " n"]:
        """Usable images with a pixel more than ``FAR_SD`` SDs of their group from their mean."""
        limit = FAR_SD * self._of_groups(self.sd)
        return ~self.bad & (np.abs(self.extreme - self.mean) > limit)

    @property
    def strong(self) -> Bool[np.ndarray, " n"]:
        """Usable images much stronger than the median of their group.

        The strength is √(mean² + SD²), to which an image's Hartley values are proportional; of
        images that are not normalised, and have their background subtracted, it is the SD.
        """
        usable = ~self.bad
        if not usable.any():
            return usable
        offset = self.mean if self.has_zero_mean else 0.0
        strength = np.hypot(offset, self.sd)
        levels = np.log(np.where(usable, strength, 1.0))
        levels -= self._of_groups(levels)
        spread = MAD_TO_SD * np.median(np.abs(levels[usable]))
        return usable & (levels > max(np.log(STRONG_RATIO), STRONG_SPREADS * spread))

    @property
    def outliers(self) -> Bool[np.ndarray, " n"]:
        """Images that are exceptions of the data set: far pixels, or strong as a whole."""
        usable = int((~self.bad).sum())
        found = np.zeros(len(self), dtype=bool)
        for mask, most in ((self.far, MOST_FAR * usable), (self.strong, MOST_STRONG * usable)):
            if mask.sum() <= max(most, 1):
                found |= mask
        return found

    def rows(self, kept: Bool[np.ndarray, " n"] | Int[np.ndarray, " k"]) -> "ImageStatistics":
        """Return the statistics of some images, by a mask or by rows."""
        return ImageStatistics(**{f.name: getattr(self, f.name)[kept] for f in fields(self)})

    def warnings(self, numbers: Int[np.ndarray, " n"]) -> list[str]:
        """Return sentences on outliers and normalisation.

        Args:
            numbers: Of the images in the original set, to name them by.
        """
        rows = np.flatnonzero(self.outliers).tolist()
        outliers = [self._outlier_warning(rows, numbers)] if rows else []
        return [*outliers, *self._normalisation_warnings()]

    def _outlier_warning(self, rows: list[int], numbers: Int[np.ndarray, " n"]) -> str:
        """Return a sentence that names the outliers."""
        far = self.far
        named = ", ".join(
            f"{numbers[row]} (a pixel of {self.extreme[row]:.4g})"
            if far[row]
            else f"{numbers[row]} (mean {self.mean[row]:.4g}, SD {self.sd[row]:.4g})"
            for row in rows[:NAMED]
        )
        one_group = len(np.unique(self.group)) == 1
        where = f"the data set ({self.typical_sd:.4g})" if one_group else "their optics group"
        return (
            f"{len(rows):,} of {len(self):,} images examined are outliers, with values farther "
            f"from the mean of their image than {FAR_SD} SD of {where}, or "
            f"more than {STRONG_RATIO:g} times as strong as others: particles {named}"
            f"{', …' if len(rows) > NAMED else ''} (numbers from 0)."
        )

    def _normalisation_warnings(self) -> list[str]:
        """Return sentences on images that differ in scale, and on those with a mean beside 0."""
        found = []
        uneven = int(((self.far | self.strong) & ~self.outliers).sum())
        if self.group_ratio > GROUP_RATIO:
            found.append(
                f"The SD of the background is {self.group_ratio:.3g} times larger in one optics "
                "group than in another: the groups are not normalised alike. Extract the particles "
                "of all groups with normalisation."
            )
        elif not self.has_even_noise:
            low, high = self.background_quartiles
            found.append(
                f"The noise of the images differs: of half of them the SD of the background is "
                f"below {low:.2g} or above {high:.2g} times that of their optics group. The images "
                "are not normalised alike. Extract the particles again with normalisation."
            )
        elif uneven:
            found.append(
                f"{uneven} of {len(self):,} images examined are much stronger than others, too "
                "many to be exceptions: the images are not normalised alike. Extract the particles "
                "again with normalisation."
            )
        if not self.has_zero_mean:
            found.append(
                f"The mean of an image ({self.typical_offset:.4g}) is much larger than its SD "
                f"({self.typical_sd:.4g}): the images are not normalised. Extract the particles "
                "again with normalisation."
            )
        return found


def measure_images(table: ParticleTable, *, box: int) -> ImageStatistics:
    """Read all images of a table, and measure each."""
    source = ImageSource.of(table)
    found = ImageStatistics.joined(
        [
            ImageStatistics.of(source.part(start, stop).read())
            for start, stop in block_ends(0, len(table), box=box)
        ]
    )
    return replace(found, group=group_numbers(table))


def _measure_boxes(table: ParticleTable) -> ImageStatistics:
    """Read all images of a table, which may have several boxes, and measure each."""
    boxes = table.column("box")
    alike = rows_by_box(boxes)
    parts = [measure_images(table.select(rows), box=int(boxes[rows[0]])) for rows in alike]
    found = ImageStatistics.joined(parts).rows(np.argsort(np.concatenate(alike)))
    return replace(found, group=group_numbers(table))


def group_numbers(table: ParticleTable) -> Int[np.ndarray, " n"]:
    """Return the optics group of each particle as a number from 0, by the order of the names."""
    return np.unique(table.optics_groups(), return_inverse=True)[1]


def leave_out_bad(table: ParticleTable) -> tuple[ParticleTable, ImageStatistics]:
    """Read all images; return the particles without bad images and outliers, and their statistics.

    What is left out is logged by number.

    Raises:
        InputError: If none is left.
    """
    statistics = _measure_boxes(table)
    kept = ~(statistics.bad | statistics.outliers)
    if not kept.any():
        raise InputError("None of the images is usable: each is constant or not finite.")
    numbers = table.column("index")
    bad = numbers[statistics.bad]
    if len(bad):
        log.warning(
            "%s images have pixels that are not finite, or are constant: particles %s%s (numbers "
            "from 0)",
            f"{len(bad):,}",
            ", ".join(map(str, bad[:NAMED])),
            ", …" if len(bad) > NAMED else "",
        )
    for warning in statistics.warnings(numbers):
        log.warning("%s", warning)
    if kept.all():
        return table, statistics
    left = f"{int((~kept).sum()):,} of {len(table):,}"
    log.warning("left out %s images by --drop-bad", left)
    return table.select(np.flatnonzero(kept)), statistics.rows(kept)
