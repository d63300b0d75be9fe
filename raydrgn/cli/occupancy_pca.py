"""``raydrgn occupancy pca``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import occupancy_pca as workflow
from raydrgn.workflows.occupancy_pca import PcaSettings


@command(PcaSettings)
def pca(settings: PcaSettings, executor: Executor, progress: Progress) -> None:
    """Find how density varies within one mask: principal components, voxel by voxel.

    Needs no model. Writes the variance that components explain, their maps, the coordinates of
    volumes and particles, the latent space coloured by them, and volumes along the first three.
    Volumes of a run are decoded in the mask's box.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    result(
        f"{len(found.names):,} volumes; the first component explains "
        f"{100 * found.components.explained[0]:.0f} % of the variance within the mask → "
        f"{found.folder.at('report.html')}"
    )
    end_with(found.failures)
