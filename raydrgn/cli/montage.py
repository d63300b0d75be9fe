"""``raydrgn montage``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.workflows import montage as workflow
from raydrgn.workflows.montage import MontageSettings


@command(MontageSettings)
def montage(settings: MontageSettings) -> None:
    """Draw particle images in rows, each under its number in the original set.

    Particles are bright, low-pass filtered, and, where the CTF is known, their phases are flipped;
    all images have one grey scale. Which particles are drawn is the same at every call: with
    `select random` or the selections of `filter`, choose others by --ind.
    """
    made = workflow.run(settings)
    how = "as recorded" if settings.raw else "phases flipped" if made.flips_phases else "no CTF"
    result(f"{len(made.numbers):,} of {made.num_particles:,} particles ({how}) → {made.out}")
