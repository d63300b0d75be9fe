"""``compare``: labels of the same particles, cross-tabulated."""

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.comparison.agreement import Agreement
    from raydrgn.comparison.labelings import Labeling
    from raydrgn.reporting.result_folder import ResultFolder


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Settings of ``compare``."""

    labels: Annotated[
        tuple[str, ...],
        Setting(
            "Two or more of: RUN or RUN:EPOCH, for its k-means; a folder of analyze, filter, "
            "landscape or occupancy classes; FILE or FILE:COLUMN of labels (.pkl, .npy, .txt, "
            ".csv, .parquet, .star, .cs).",
            is_argument=True,
            metavar="LABELS...",
        ),
    ]

    ksample: Annotated[
        int | None, Setting("K of the k-means of analyze to use; the latest by default.", min=1)
    ] = None

    out: Annotated[
        str | None,
        Setting("Folder for tables, heat maps and a report.", flags=("-o", "--out")),
    ] = None

    overwrite: Annotated[bool, Setting("Replace earlier results in the folder.")] = False

    def __post_init__(self) -> None:
        check_bounds(self)
        if len(self.labels) < 2:
            raise ConfigError(
                "Give two or more labelings to compare, such as RUN:10 RUN:20; got "
                f"{len(self.labels)}."
            )
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError("The same labels are given twice; give others to compare with them.")


@dataclass(frozen=True, kw_only=True)
class CompareResult:
    """How labelings of the same particles agree."""

    labelings: "list[Labeling]"
    pairs: "list[Agreement]"
    """Each two of the labelings, in order."""

    folder: "ResultFolder | None"
    """None where no folder was asked for."""

    def lines(self) -> list[str]:
        """Return in words how each pair agrees, and the counts of a single pair."""
        from raydrgn.comparison.report import summary_lines

        return summary_lines(self.pairs)


def run(
    settings: CompareSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> CompareResult:
    """Cross-tabulate labels of the same particles, matched by their original numbers.

    Raises:
        RaydrgnError: If labels cannot be read, have no particle in common, or the folder is in the
            way.
    """
    from raydrgn.comparison.agreement import compare
    from raydrgn.comparison.report import write_comparison
    from raydrgn.comparison.sources import matched, open_labeling
    from raydrgn.io import storage
    from raydrgn.reporting.result_folder import ResultFolder

    labelings = [open_labeling(word, ksample=settings.ksample) for word in settings.labels]
    labelings = matched(labelings)
    pairs = [compare(first, second) for first, second in combinations(labelings, 2)]
    folder = None
    if settings.out is not None:
        folder = ResultFolder(settings.out)
        made_from = {
            labeling.name: storage.checksum(
                labeling.known_numbers.tobytes() + labeling.codes.tobytes()
            )
            for labeling in labelings
        }
        folder.begin(
            {"command": "compare", "labels": made_from},
            made_from=None,
            overwrite=settings.overwrite,
        )
        write_comparison(labelings, pairs, folder)
        folder.finish()
    return CompareResult(labelings=labelings, pairs=pairs, folder=folder)
