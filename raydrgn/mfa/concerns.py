"""Warnings about a fit: its images, poses and components."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from raydrgn.mfa.config import SHOWS_NOTHING, WEAK
from raydrgn.mfa.latents import UNDETERMINED
from raydrgn.mfa.model import FactorModel, with_density
from raydrgn.mfa.noise import observed
from raydrgn.mfa.start import LEAST_EVIDENCE
from raydrgn.mfa.trials import PoseWidths
from raydrgn.shapes import Float
from raydrgn.wording import counted

LEAST_OF_ORIENTATIONS = 0.25
"""Of what the mean of others explains of images, that given orientations do beyond random ones.

The same or more is usual; where they are random, the mean is that of a ball, and it is next to 0.
"""

WIDE_ROTATIONS = math.radians(6)
"""SD of rotations about an axis, from which on they are refined in part: 15 degrees to 7, say."""

WIDE_SHIFTS_PX = 1.2
"""SD of shifts along an axis, likewise: 1 px is refined to 0.14 px, but 3 px to 0.8 px."""

IN_PART = (
    "and a fit corrects such errors only in part. Unless a warning says that poses or mask are "
    "wrong, refine them further from those of this fit: `raydrgn train PARTICLES --method mfa "
    "--poses-from RUN -o OUT`."
)

FAINT, MOST_FAINT = 0.1, 0.05
"""Contrast that is next to none, over the mean; and the share of such images that is too large."""

FEWEST_OF_GROUP, MOST_OF_GROUPS = 20, 1.5
"""Images of an optics group whose mean contrast counts; and how far means may be apart."""

MOST_OUTSIDE = 0.1
"""Share of the mean's density outside of a mask, above which the mask is too small."""


MOST_CUT_OFF = 0.1
"""Mobile density outside of a mask over that inside, above which the mask is too small."""


def mask_concern(share_outside: float) -> str | None:
    """Return a warning if too large a share of the mean's density is outside of a given mask."""
    if share_outside <= MOST_OUTSIDE:
        return None
    return (
        f"The mask leaves out {100 * share_outside:.0f} % of the density of the mean: "
        "start a new run with another mask, or with --mask auto."
    )


def orientation_concern(gain: float, evidence: float) -> str | None:
    """Return a warning if given orientations explain the images hardly better than random ones.

    Args:
        gain: What they explain beyond those of other particles, nats for each image.
        evidence: What the mean explains of an image.
    """
    if evidence < LEAST_EVIDENCE or gain >= LEAST_OF_ORIENTATIONS * evidence:
        return None
    return (
        f"The given orientations explain only {max(gain, 0):.1f} nats more of each image than "
        f"random ones, while the mean explains {evidence:.0f} in all: unless the particles are "
        "nearly round, the poses are wrong, or belong to other images. Check them with `raydrgn "
        "backproject`."
    )


def search_note(widths: PoseWidths) -> str | None:
    """Return what is written of a search of poses, if there was one."""
    parts = []
    if widths.rotation is not None:
        parts.append(f"orientations by {counted(round(math.degrees(widths.rotation)), 'degree')}")
    if widths.shift_px is not None:
        parts.append(f"shifts by {widths.shift_px:.1f} px")
    if not parts:
        return None
    return (
        f"The given poses are off: {' and '.join(parts)} (SD along each axis). The fit "
        "searches around them first; `raydrgn train PARTICLES --method mfa --no-rotations "
        "--no-shifts -o OUT` keeps them as they are."
    )


def unobserved_note(noise: Float[Tensor, "groups shells"], groups: Sequence[str]) -> str | None:
    """Return what is written of images without high frequencies, if there are any.

    Args:
        noise: By optics group and shell; the last shell is that of the Nyquist frequency.
        groups: Names of the optics groups, one for each row.
    """
    shells = noise.shape[1] - 1
    last = [int(seen.nonzero().max()) for seen in observed(noise)]
    parts = [
        f"of optics group {name} show nothing above {number / shells:.2f} of the Nyquist frequency"
        for name, number in zip(groups, last, strict=True)
        if number < shells
    ]
    if not parts:
        return None
    return (
        f"Images {', '.join(parts)}, for example because they were low-passed or scaled up: they "
        "are not used beyond that frequency."
    )


def first_concerns(model: FactorModel) -> list[str]:
    """Return warnings about images and poses by the mean, after the first epoch."""
    found = []
    mean = model.volumes[0]
    if -float(mean.min()) > float(mean.max()):
        found.append(
            "The negative density of the mean is stronger than the positive one, so the images "
            "seem to have the other sign: --uninvert-data changes it. `raydrgn backproject` shows "
            "which is right."
        )
    if model.evidence < LEAST_EVIDENCE:
        found.append(
            f"The mean explains the images hardly better than noise ({max(model.evidence, 0):.1f} "
            "nats each): check poses and CTF with `raydrgn backproject`."
        )
    return found


def concerns_of_contrast(
    contrast: Float[np.ndarray, " n"], null: Float[np.ndarray, " n"], groups: Sequence[str]
) -> list[str]:
    """Return warnings about images of another sign, and optics groups of another scale.

    Args:
        contrast: Of each image, as it is estimated.
        null: Probability that it shows nothing.
        groups: Optics group of each image.
    """
    found: list[str] = []
    shown = null < SHOWS_NOTHING
    if not shown.any():
        return found
    faint = float((contrast[shown] < FAINT * contrast[shown].mean()).mean())
    if faint > MOST_FAINT:
        found.append(
            f"{100 * faint:.0f} % of the images that seem to show a particle have a contrast near "
            "0: they may have the opposite sign of the others, for example where bright and "
            "dark stacks were joined. `raydrgn montage` shows images."
        )
    names = np.array(groups)
    means = {
        str(name): float(contrast[members].mean())
        for name in np.unique(names)
        if (members := shown & (names == name)).sum() >= FEWEST_OF_GROUP
    }
    if len(means) > 1 and max(means.values()) > MOST_OF_GROUPS * min(means.values()):
        listed = ", ".join(f"{name}: {mean:.2f}" for name, mean in means.items())
        found.append(
            f"Optics groups differ in scale (mean contrast of {listed}), and so do the contrasts "
            "of their particles. Normalise the images of each group alike."
        )
    return found


def last_concerns(
    model: FactorModel, *, null_class: bool, cut_off: float, has_latents: bool
) -> list[str]:
    """Return warnings about junk, mask, poses and components, after the last epoch.

    Args:
        model: At the end.
        null_class: Whether junk was to be looked for.
        cut_off: Mobile density outside of the mask, as a share of that inside.
        has_latents: Whether the images determine any latent.
    """
    found = [] if has_latents else [UNDETERMINED]
    if cut_off > MOST_CUT_OFF:
        found.append(
            f"The mask cuts off mobile density: outside of it is {100 * cut_off:.0f} % of what is "
            "inside. `raydrgn analyze` shows the mask; start a new run with a larger one "
            "(--mask MAP), or with --mask none."
        )
    if null_class and model.priors.null_share == 0:
        found.append(
            "Images without a particle were not looked for, and all null probabilities are 0: the "
            f"mean explains so little of an image that it was not made from ({model.evidence:.1f} "
            "nats) that particles would be taken for junk. It explains more with more particles, "
            "in larger boxes, or at higher SNR."
        )
    rotation_sd, shift_sd = model.priors.rotation_sd, model.priors.shift_sd_px
    if rotation_sd > WIDE_ROTATIONS:
        found.append(
            f"The orientations are off by {math.degrees(rotation_sd):.0f} degrees (SD about each "
            f"axis), {IN_PART}"
        )
    if shift_sd > WIDE_SHIFTS_PX:
        found.append(f"The shifts are off by {shift_sd:.1f} px (SD along each axis), {IN_PART}")
    weak = int((~with_density(model.volumes)).sum())
    if weak and has_latents:
        kept = model.num_components - weak
        found.append(
            f"The density of {weak} of {model.num_components} components is below "
            f"{100 * WEAK:.0f} % of the strongest one's: the images support {kept}. Their latents "
            "are next to 0, and change neither distances nor volumes."
        )
    return found
