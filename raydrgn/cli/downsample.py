"""``raydrgn downsample``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import downsample as workflow
from raydrgn.workflows.downsample import DownsampleSettings


@command(DownsampleSettings, are_tasks=True, uses_gpus=False)
def downsample(settings: DownsampleSettings, executor: Executor, progress: Progress) -> None:
    """Bring particle images, or a map, to a smaller box by Fourier cropping.

    The order of the particles is kept. Pixel size, image size and shifts in pixels follow in .star
    and .parquet outputs; other columns stay. The same command goes on where it was interrupted:
    what is finished is listed in OUT.downsample.json.
    """
    made = workflow.run(settings, executor=executor, progress=progress)
    if made.particles is None:
        size = made.pixel_size_angstrom
        known = f"{size:.4f} Å/px" if size else "pixel size unknown, as in the original"
        result(f"map of {made.box} px, {known} → {made.out}")
    else:
        result(f"{len(made.particles):,} particles of {made.box} px → {made.out}")
