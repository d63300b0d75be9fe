"""A project as the explorer shows it: its rounds, what it waits for, and the answer."""

from collections.abc import Mapping
from typing import Any

from raydrgn.explore.interfaces import Pause, Round
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.protocol.decisions import CHECKSUM, IND, file_identity, is_project_folder
from raydrgn.protocol.project import Project, StepRecord
from raydrgn.protocol.rounds import drops, proposed_selection
from raydrgn.reporting.analysis_results import kmeans_folder
from raydrgn.run.directory import RunDirectory


def find_project(uri: Uri) -> "ExploredProject | None":
    """Return a project, or None if the folder is not one."""
    root = storage.absolute(uri)
    return ExploredProject(root) if is_project_folder(root) else None


class ExploredProject:
    """Reads the project anew for every question: `raydrgn protocol` may work on it meanwhile."""

    def __init__(self, root: Uri) -> None:
        self.root = root

    def rounds(self) -> list[Round]:
        """Return the rounds of which an epoch is finished, in their order.

        Raises:
            RaydrgnError: If the project cannot be read.
        """
        project, found = Project(self.root), []
        for number, record in _numbered(project, "round"):
            run = project.at(record.folder)
            if RunDirectory(run).epochs():
                epoch = record.result["epoch"] if record.is_whole else None
                decided = project.decisions.by_user(f"epoch of round {number}")
                chosen = decided.value if decided and isinstance(decided.value, dict) else {}
                if epoch is not None and chosen.get("run") == storage.name(run):
                    epoch = chosen.get("epoch", epoch)
                found.append(Round(str(number), run, epoch))
        return found

    def is_flipped(self) -> bool:
        """Return whether the hand of the project's maps is opposite to that of its poses.

        Raises:
            RaydrgnError: If the project cannot be read.
        """
        hand = Project(self.root).decisions.get("hand")
        return hand is not None and hand.value == "flipped"

    def pause(self) -> Pause | None:
        """Return the proposal that waits, or was answered and not gone on from.

        Raises:
            RaydrgnError: If the project cannot be read.
        """
        project = Project(self.root)
        proposals = [
            entry for entry in _numbered(project, "proposal of round") if entry[1].is_whole
        ]
        if not proposals:
            return None
        number, proposal = proposals[-1]
        decision = project.decisions.get(_decision(number))
        is_answered = decision is not None and decision.value.get("proposal") == proposal.key
        if not proposal.result["drop"] or _has_gone_on(project, number, proposal):
            return None
        analysis = _record(project, f"analysis of round {number}", proposal.after)
        return Pause(
            round=str(number),
            key=proposal.key,
            summary=proposal.result["summary"],
            report=project.at(proposal.folder, "report.html"),
            conditions=_conditions(proposal.result, analysis.result["ksample"]),
            answer=decision.why if decision is not None and is_answered else "",
            go_on=project.command(),
        )

    def answer(self, pause: Pause, kept: Uri | None) -> None:
        """Record what a person has answered, as `raydrgn protocol` does for its options.

        Args:
            pause: What the project waits for.
            kept: File of the particles to keep; None agrees to what is proposed.

        Raises:
            RaydrgnError: If the project cannot be read, or the file.
        """
        project = Project(self.root)
        value: dict[str, Any] = {"proposal": pause.key}
        if kept is None:
            name = f"proposal of round {pause.round}"
            proposal = _record(project, name, {name: pause.key})
            value |= proposed_selection(proposal.result)
            why = "as proposed; a person agreed in the explorer"
        else:
            value |= {"clusters": [], "null": None}
            value |= {IND: kept.removeprefix(f"{self.root}/"), CHECKSUM: file_identity(kept)}
            why = f"the selection {value[IND]} was chosen in the explorer"
        project.decisions.make(_decision(pause.round), value, by="user", why=why)


def _decision(number: int | str) -> str:
    return f"selection {number}"


def _has_gone_on(project: Project, number: int, proposal: StepRecord) -> bool:
    """Return whether a proposal was answered, and what comes after the answer was begun."""
    decision = project.decisions.get(_decision(number))
    if decision is None or decision.value.get("proposal") != proposal.key:
        return False
    chosen = {name: value for name, value in decision.value.items() if name != "proposal"}
    if not drops(chosen):
        return bool(project.records(f"round {number + 1}"))
    selections = project.records(f"selection of round {number}")  # of the same training, or others
    return any((r.inputs, r.after) == (chosen, proposal.after) for r in selections)


def _conditions(proposal: Mapping[str, Any], ksample: int) -> list[dict[str, Any]]:
    """Return what is proposed to be kept, as conditions of `filter`."""
    dropped, found = proposed_selection(proposal), []
    if dropped["clusters"]:
        among = {"column": kmeans_folder(ksample), "values": dropped["clusters"]}
        found.append({"join": "and not", "among": among})
    if dropped["null"] is not None:
        range_ = {"column": "null_probability", "low": None, "high": dropped["null"]}
        found.append({"join": "and", "range": range_})
    return found


def _record(project: Project, name: str, keys: Mapping[str, str]) -> StepRecord:
    """Return the results of a step that has the key given for its name."""
    return next(record for record in project.records(name) if record.key == keys[name])


def _numbered(project: Project, name: str) -> list[tuple[int, StepRecord]]:
    """Return the current results of a step of each round, with the number of the round."""
    decided = project.decisions.get("rounds")  # that are filtered
    found: list[tuple[int, StepRecord]] = []
    while record := project.current(f"{name} {len(found) + 1}"):
        found.append((len(found) + 1, record))
    if decided is None:
        return found
    return found[: decided.value + (name == "round")]  # earlier settings may have had more
