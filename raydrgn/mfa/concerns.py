"""Warnings about a fit: its images, poses and components."""

from raydrgn.mfa.model import FactorModel

WEAK = 0.02
"""Norm of a component, over that of the strongest, below which it is without density."""

LEAST_EVIDENCE = 1.0
"""Nats per image; below, the mean explains no more than its own noise."""


MOST_OUTSIDE = 0.1
"""Share of the mean's density outside of a mask, above which the mask is too small."""


def mask_concern(share_outside: float) -> str | None:
    """Return a warning if too large a share of the mean's density is outside of a given mask."""
    if share_outside <= MOST_OUTSIDE:
        return None
    return (
        f"The mask leaves out {100 * share_outside:.0f} % of the density of the mean: "
        "start a new run with another mask, or with --mask auto."
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
            f"The mean explains the images hardly better than noise ({model.evidence:.1f} nats "
            "each): check poses and CTF with `raydrgn backproject`."
        )
    return found


def last_concerns(model: FactorModel) -> list[str]:
    """Return warnings about the components, after the last epoch."""
    weak = int((model.latent_scale() < WEAK).sum())
    if not weak:
        return []
    kept = model.num_components - weak
    return [
        f"{weak} of {model.num_components} components have less than {100 * WEAK:.0f} % of the "
        f"strongest one's density: the images support {kept}. Their latents are next to 0."
    ]
