"""``raydrgn occupancy classes``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import end_with, result
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress
from raydrgn.workflows import occupancy_classes as workflow
from raydrgn.workflows.occupancy_classes import OccupancyClassesSettings


@command(OccupancyClassesSettings)
def classes(settings: OccupancyClassesSettings, executor: Executor, progress: Progress) -> None:
    """Find volume classes and structural blocks in a table of occupancies.

    Writes OUT/classes: the clustered heat map, tables, the particles of each class, its centroid
    volume, correlations between subunits, and one report. Of a folder of maps, Cn/open.cxc shows
    all maps of class n in ChimeraX, at one contour level for all classes. By default the tree of
    volumes is cut in the widest gap between 3 and 30 % of its height (at 18 % if there is none),
    and that of subunits at 30 %; check the heat map and choose. For more than 5,000 volumes the
    tree is that of 1,000 k-means groups (131,889 volumes x 50 subunits: about half a minute on one
    core).
    """
    found = workflow.run(settings, executor=executor, progress=progress)
    result(*found.titles)
    if found.clustered.selected is not None:
        count = int(found.clustered.selected.sum())
        line = f"{count:,} of {len(found.clustered.table):,} volumes fulfil --where"
        if found.selected is not None:
            line += f": {len(found.selected):,} particles → {found.folder.at('ind.pkl')}"
        result(line)
    result(
        f"{found.clustered.classes.count} classes, {found.clustered.blocks.count} blocks → "
        f"{found.folder.at('report.html')}"
    )
    end_with(found.failures)
