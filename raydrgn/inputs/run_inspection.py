"""What a run contains: network, epochs, latents and particles."""

from collections.abc import Sequence

import numpy as np

from raydrgn.decoding.contrast import contrast_of_run
from raydrgn.inputs.inspection import Inspection
from raydrgn.inputs.particle_inspection import describe_table
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_latents
from raydrgn.io.storage import Uri
from raydrgn.mfa.config import WEAK
from raydrgn.mfa.latents import UNDETERMINED, component_norms, determine_latents
from raydrgn.run.reader import open_run
from raydrgn.run.relocation import relocation_command
from raydrgn.shapes import Float

SAME = 1e-3
"""SD of the latents' norms, below which all latents are the same."""


def inspect_run(uri: Uri) -> Inspection:
    """Describe a run of raydrgn or cryoDRGN."""
    run = open_run(uri)
    found = Inspection(uri, f"run of {'cryoDRGN' if run.is_foreign else 'raydrgn'}")
    model = run.model
    has_particles = not run.is_foreign and storage.exists(run.files.particles)
    if not has_particles:  # else among the facts of the particles
        size = run.pixel_size_angstrom
        found.add("box (px)", run.box)
        found.add("pixel size (Å)", f"{size:.6g}" if size else "–")
    found.add("latent dimension", run.zdim)
    if model is None:
        found.add("method", "mixture of factor analysers")
    else:
        found.add("encoder", f"{model.encoder_width} × {model.encoder_layers}")
        found.add("decoder", f"{model.decoder_width} × {model.decoder_layers}, {model.encoding}")
    epochs = run.files.epochs()
    found.add("epochs finished", _finished(epochs, run.files.latent_epochs()))
    if not run.pixel_size_angstrom:
        found.concerns.append(
            "The pixel size is not known; give it to `raydrgn volumes` with --pixel-size."
        )
    if not epochs:
        found.concerns.append("No epoch is finished.")
    else:
        norms = _describe_latents(run.latents(epochs[-1]), found)
        if model is None:
            _describe_components(run.latents_uri(epochs[-1]), found)
        elif norms.size and norms.std() < SAME:
            found.concerns.append("All latents are the same: the run has learned no heterogeneity.")
        if norms.size and (problem := contrast_of_run(run, epochs[-1])):
            found.concerns.append(problem)
    if has_particles:
        table = run.particles()
        describe_table(table, found)
        missing = [stack for stack in table.stacks if not storage.is_at_hand(stack)]
        if missing:
            found.concerns.append(
                f"{len(missing)} stacks are missing, the first is {missing[0]}. If they have "
                f"moved, run: {relocation_command(run.files.root)} FOLDER"
            )
    return found


def _finished(epochs: Sequence[int], with_latents: Sequence[int]) -> str:
    """Return how many epochs are finished, and which have weights if some were deleted."""
    if not epochs:
        return "none"
    finished = [epoch for epoch in with_latents if epoch <= epochs[-1]]  # later ones are begun
    if len(finished) == len(epochs):
        return f"{len(epochs)}, the last {epochs[-1]}"
    return f"{len(finished)}, with weights: {', '.join(map(str, epochs))}"


def _describe_latents(
    latents: Float[np.ndarray, "n zdim"], found: Inspection
) -> Float[np.ndarray, " m"]:
    """Describe latents, and return the norms of those that are finite."""
    finite = np.isfinite(latents).all(axis=1)
    found.add("latents", f"{len(latents):,}")
    if not finite.all():
        found.concerns.append(f"{int((~finite).sum())} latents are not finite.")
    norms = np.linalg.norm(latents[finite], axis=1)
    if finite.any():
        found.add("‖z‖", f"{norms.mean():.3g} ± {norms.std():.3g}, at most {norms.max():.3g}")
    return norms


def _describe_components(uri: Uri, found: Inspection) -> None:
    """Count the components that have density, by the variance of the latents."""
    mean, logvar = read_latents(uri)
    assert logvar is not None  # which all runs of raydrgn's have
    if not determine_latents(mean, logvar):
        found.concerns.append(UNDETERMINED)
        return
    norms = component_norms(mean, logvar)
    kept = int((norms >= WEAK * norms.max()).sum())
    found.add("components with density", f"{kept} of {len(norms)}")
    if kept < len(norms):
        found.concerns.append(
            f"The density of {len(norms) - kept} of {len(norms)} components is below "
            f"{100 * WEAK:.0f} % of the strongest one's. Their latents are next to 0, and change "
            "neither distances nor volumes."
        )
