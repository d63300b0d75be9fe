"""``raydrgn compare``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import result
from raydrgn.workflows import compare as workflow
from raydrgn.workflows.compare import CompareSettings


@command(CompareSettings)
def compare(settings: CompareSettings) -> None:
    """Compare labels of the same particles: which clusters became which, and who moved.

    Labels are k-means of two epochs (RUN:10 RUN:20), of two runs or rounds, selections, occupancy
    classes, or published ones in a file. Particles are matched by their numbers in the original
    set. Prints the adjusted Rand index, the groups of labels in which both agree, and the
    cross-tabulation; with -o, writes counts, shares, a heat map, the labels of every particle, and
    the numbers of those that have moved, and of those that agree.
    """
    found = workflow.run(settings)
    result(*found.lines())
    if found.folder is not None:
        result(f"→ {found.folder.at('report.html')}")
