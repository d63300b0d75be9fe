"""``runs``: the runs below a folder, with what became of each."""

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.errors import RaydrgnError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.convergence.report import RecordedVerdict
    from raydrgn.evaluation.results import RecordedScore
    from raydrgn.run.listing import RunSummary


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunsSettings:
    """Settings of ``runs``."""

    folder: Annotated[
        str, Setting("Folder; a path or URL.", is_argument=True, metavar="FOLDER")
    ] = "."

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run, and the newest results of the studies that judge it."""

    summary: "RunSummary"
    verdict: "RecordedVerdict | None"
    """Of ``convergence``."""

    score: "RecordedScore | None"
    """Of ``evaluate``."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for programs."""
        values = asdict(self.summary)
        values["origins"] = [origin._asdict() for origin in self.summary.origins]
        values["convergence"] = None if self.verdict is None else asdict(self.verdict)
        values["score"] = None if self.score is None else asdict(self.score)
        return values


@dataclass(frozen=True, kw_only=True)
class RunsResult:
    """The runs below a folder, by their names."""

    folder: str
    runs: list[ListedRun]


def run(
    settings: RunsSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> RunsResult:
    """List the runs of raydrgn and cryoDRGN at or below a folder; reads no weights or images.

    Raises:
        StorageError: If there is no such folder.
    """
    from raydrgn.convergence.report import read_verdict
    from raydrgn.errors import StorageError
    from raydrgn.evaluation.results import read_score
    from raydrgn.io import storage
    from raydrgn.run.listing import find_runs, summarise

    folder = storage.absolute(settings.folder)
    if not storage.is_folder(folder):
        missing = f"{folder} does not exist; check the path."
        raise StorageError(f"{folder} is not a folder." if storage.exists(folder) else missing)
    found = []
    for number, root in enumerate(find_runs(folder), start=1):
        progress("reading runs", number, number, unit="runs")
        verdict = _newest(root, "convergence", read_verdict)
        score = _newest(root, "evaluate", read_score)
        found.append(ListedRun(summary=summarise(root), verdict=verdict, score=score))
    return RunsResult(folder=folder, runs=found)


def _newest(root: str, command: str, read: Any) -> Any:
    """Return the verdict in the results of a command on the newest epoch, or None without any."""
    from raydrgn.io import storage

    folders = [
        (int(number), name)
        for name in storage.list_names(root)
        if (number := name.removeprefix(f"{command}.")) != name and number.isdecimal()
    ]
    for epoch, name in sorted(folders, reverse=True):
        try:
            found = read(storage.join(root, name), epoch)
        except RaydrgnError as error:
            log.warning("passed over: %s", error)
            continue
        if found is not None:
            return found
    return None
