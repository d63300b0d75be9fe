"""Clusters of the rounds, cross-tabulated by the particles' original numbers."""

from collections.abc import Sequence
from typing import Any

from raydrgn.io.storage import Uri
from raydrgn.protocol.project import Project, Step
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress


def compare_rounds(
    project: Project, analyzed: Sequence[Step], *, executor: Executor, progress: Progress
) -> Step:
    """Cross-tabulate the clusters of all rounds; each round's particles are of those before.

    The result has ``sentences``: how each two rounds agree, in words.

    Args:
        project: The project.
        analyzed: Analyses of the rounds, in their order.
        executor: Passed on.
        progress: Passed on.
    """

    def make(folder: Uri) -> tuple[dict[str, Any], list[str]]:
        from raydrgn.comparison.report import describe
        from raydrgn.workflows import compare

        settings = compare.CompareSettings(
            labels=tuple(step.folder for step in analyzed), out=folder, overwrite=True
        )
        found = compare.run(settings, executor=executor, progress=progress)
        sentences = [describe(pair).replace(f"{project.root}/", "") for pair in found.pairs]
        return {"sentences": sentences}, ["report.html"]

    return project.step("comparison of rounds", {}, make, after=analyzed)
