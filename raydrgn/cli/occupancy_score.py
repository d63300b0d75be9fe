"""``raydrgn occupancy score``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import occupancy_score as workflow
from raydrgn.workflows.occupancy_score import OccupancyScoreSettings


@command(OccupancyScoreSettings)
def score(settings: OccupancyScoreSettings, executor: Executor, progress: Progress) -> None:
    """Score the occupancy of each subunit in each volume of a run, or of a folder.

    Writes OUT/occupancies.csv (MAVEn's layout) and OUT/occupancies.parquet. Volumes of a run are
    decoded in the masks' box and scored by the workers that decode them; none is written. Those of
    --volumes are scored by tasks of one core each: with 1 GB or more one per core by default.
    Stopped, the same command goes on where it was.
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    result(
        f"{len(found.table):,} volumes × {len(found.table.subunits)} subunits → {found.folder.uri}"
    )
    end_with(found.failures)
