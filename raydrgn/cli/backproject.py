"""``raydrgn backproject``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import backproject as workflow
from raydrgn.workflows.backproject import BackprojectSettings


@command(BackprojectSettings, are_tasks=True, uses_gpus=False)
def backproject(settings: BackprojectSettings, executor: Executor, progress: Progress) -> None:
    """Back-project particles with their poses, to see that images, poses and CTF fit.

    Writes map.mrc, half_map_a.mrc, half_map_b.mrc, mask.mrc, fsc.csv, fsc.png, verdict.txt and
    backproject.png, and names what to change: contrast, handedness, shifts, pixel size. Halves are
    those of --poses-from or of the refinement, if the particles have them, else every second image.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    verdict = found.maps.verdict
    result(*verdict.findings, *(f"! {problem}" for problem in verdict.problems))
    result(f"{len(found.particles):,} particles → {found.out}")
