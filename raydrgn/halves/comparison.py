"""The volumes of all states by both halves, compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raydrgn.halves import agreement as measures
from raydrgn.halves.agreement import (
    JUDGEMENTS,
    OF_AUTOENCODER,
    PARTLY,
    REPRODUCED,
    Limits,
    StateAgreement,
)
from raydrgn.halves.splitting import HALVES
from raydrgn.halves.states import States
from raydrgn.remote.progress import Progress
from raydrgn.shapes import Float

SEED = 0
"""Of the random phases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How the volumes of the two halves of a run agree."""

    states: States
    found: Sequence[StateAgreement]
    """Of each state."""

    mask: Float[np.ndarray, "d d d"]
    local_resolution: Float[np.ndarray, "d d d"]
    """Of the mean volume, Å; 0 outside the mask."""

    pixel_size_angstrom: float
    limits: Limits

    @property
    def summary(self) -> str:
        """The answer in a sentence or two."""
        judged = [state.judgement for state in self.found]
        counts = {word: judged.count(word) for word in JUDGEMENTS if word in judged}
        text = f"The difference from the mean volume, of {len(judged)} states: " + ", ".join(
            f"{word} in {count}" for word, count in counts.items()
        )
        text += "."
        if not {REPRODUCED, PARTLY} & set(judged):
            text += " No clear heterogeneity that this run shows is reproduced in both halves."
        if self.limits == OF_AUTOENCODER:
            least = f"{100 * self.limits.least_amplitude:g} % of the density"
            text += (
                f" Differences below {least} are not judged: autoencoders make such of noise, and "
                "the same in both halves. `raydrgn train PARTICLES --method mfa -o OUT`, and its "
                "halves, show which are real."
            )
        return text


def compare_halves(
    states: States,
    volume: Callable[[int, int], Float[np.ndarray, "d d d"]],
    *,
    pixel_size_angstrom: float,
    limits: Limits,
    progress: Progress,
) -> Agreement:
    """Compare the volumes of each state, and the mean volumes, of the two halves.

    Args:
        states: Those that both halves have.
        volume: Returns the volume that a half, 1 or 2, has of a state; called twice for each.
        pixel_size_angstrom: Edge of a voxel.
        limits: By which states are judged.
        progress: Called with the states that are done.
    """
    shares = states.sizes.sum(axis=1) / states.sizes.sum()
    first, second = (_mean(volume, half, shares) for half in HALVES)
    means = first, second
    mask = measures.mask_of(means, pixel_size_angstrom=pixel_size_angstrom)
    generator = torch.Generator().manual_seed(SEED)
    found = []
    for state in range(len(shares)):
        found.append(
            measures.compare_state(
                (volume(1, state), volume(2, state)),
                means,
                mask=mask,
                pixel_size_angstrom=pixel_size_angstrom,
                limits=limits,
                generator=generator,
            )
        )
        progress("comparing states", state + 1, len(shares), unit="states")
    return Agreement(
        states=states,
        found=found,
        mask=mask,
        local_resolution=measures.local_resolution(
            first, second, inside=mask > 0.5, pixel_size_angstrom=pixel_size_angstrom
        ),
        pixel_size_angstrom=pixel_size_angstrom,
        limits=limits,
    )


def _mean(
    volume: Callable[[int, int], Float[np.ndarray, "d d d"]],
    half: int,
    shares: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "d d d"]:
    """Return the mean volume of a half, states weighted by their particles."""
    total = np.zeros_like(volume(half, 0), dtype=np.float64)
    for state, share in enumerate(shares):
        total += share * volume(half, state)
    return total.astype(np.float32)
