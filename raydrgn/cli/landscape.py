"""``raydrgn landscape``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import landscape as workflow
from raydrgn.workflows.landscape import LandscapeSettings


@command(LandscapeSettings)
def landscape(settings: LandscapeSettings, executor: Executor, progress: Progress) -> None:
    """Find states and components in the space of volumes, and every particle along them.

    Writes RUN/landscape.N. A sketch of on-data volumes (k-means) gives a mask, the principal
    components of the density in it, and states, each with its mean and SD map and its particles.
    The volumes of a sample of particles give their coordinates along the components; a regression
    from latents predicts those of all others. The density of particles is drawn as a pseudo free
    energy. Volumes are of 64 px unless --box is given. The sketch is kept in a temporary file
    (TMPDIR) during the work: 1 GB for 1000 volumes of 64 px.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    num_states = found.sketch.num_states
    result(
        f"{len(found.sketch.labels):,} volumes, {num_states} states, "
        f"{len(found.particles.coordinates):,} particles → {found.folder.at('report.html')}"
    )
    end_with(found.failures)
