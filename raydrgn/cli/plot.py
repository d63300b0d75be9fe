"""``raydrgn plot``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.workflows import plot as workflow
from raydrgn.workflows.plot import PlotSettings


@command(PlotSettings)
def plot(settings: PlotSettings) -> None:
    """Draw the latent space, particles coloured by any value or label.

    On the UMAP of analyze, or on principal components. Values of the particles are cluster, z_norm,
    z_score, z0 …, pc1 …, columns of the run's particles such as defocus_u_angstrom, and what a run
    of --method mfa has estimated. Files are matched by the numbers of the particles in the original
    set, if they have a column of these, or else by their order.
    """
    made = workflow.run(settings)
    some = f"{made.num_coloured:,} of " if made.num_coloured < made.num_particles else ""
    result(f"{some}{made.num_particles:,} particles by {settings.by} → {made.out}")
