"""``raydrgn volumes``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import volumes as workflow
from raydrgn.workflows.volumes import VolumesSettings


@command(VolumesSettings)
def volumes(settings: VolumesSettings, executor: Executor, progress: Progress) -> None:
    """Decode density maps at chosen latents.

    Writes vol_000.mrc … and z_values.txt, the latents used, into the folder, and open.cxc, which
    shows all of them in ChimeraX at one contour level. --crop keeps the centre of each volume; the
    origin in its header is where the cube begins, so that it lies on the map that it is cut from.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    num_made = len(found.paths) - len(found.failures)
    result(f"{num_made:,} of {len(found.paths):,} volumes → {settings.out}")
    end_with(found.failures)
