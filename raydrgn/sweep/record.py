"""What a sweep knows of its trials, in its folder: the basis of its table, and of going on.

``sweep.json`` has the particles and settings that all trials share; a folder of others is refused.
``trials.json`` has a record of each trial. Both are plain values, written by the sweep alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.run.claim import CLAIM_NAME, HEARTBEAT_NAME, ClaimTicket

State = Literal["running", "finished", "stopped", "failed"]

SWEEP, TRIALS = "sweep.json", "trials.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One trial."""

    number: int
    values: Mapping[str, Any]
    state: State = "running"
    """A trial is stopped if its score is too low to go on with, and failed if it cannot go on."""

    scores: Mapping[int, float] = field(default_factory=dict)
    """By epoch."""

    errors: Mapping[int, float] = field(default_factory=dict)
    """Standard errors of the scores."""

    parts: Sequence[float] = ()
    """What the last score is the mean of: a value of each image."""

    seconds: float = 0.0
    """Time of training and scoring."""

    failure: str = ""

    agreement: float | None = None
    """Agreement of two trainings on half of the particles each, where they were made."""

    agreement_error: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.state != "running"

    @property
    def name(self) -> str:
        """Folder of the run within that of the sweep."""
        return f"trial-{self.number:03d}"

    @property
    def epoch(self) -> int:
        """The last epoch with a score; 0 if there is none."""
        return max(self.scores, default=0)

    @property
    def score(self) -> float | None:
        """The last score; None if there is none."""
        return self.scores[self.epoch] if self.scores else None

    @property
    def error(self) -> float | None:
        """Standard error of the last score."""
        return self.errors[self.epoch] if self.scores else None


class SweepRecord:
    """The two files, and what is in them."""

    def __init__(self, root: Uri) -> None:
        self.root = root
        self._trials: dict[int, TrialRecord] = {}
        self._claim: ClaimTicket | None = None

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials that were begun, by their number."""
        return [self._trials[number] for number in sorted(self._trials)]

    def require_same(self, shared: Mapping[str, Any]) -> None:
        """Read what is there; refuse the folder of another sweep, and what is none.

        Only what is given is compared, so that much can be checked before particles are read.

        Raises:
            RunDirectoryError: Naming what differs.
        """
        names = [name for name in storage.list_names(self.root) if not _is_of_claim(name)]
        if SWEEP not in names:
            if names:
                raise RunDirectoryError(
                    f"{self.root} is not empty, and is not a sweep; choose another -o."
                )
            return
        found, wanted = self._read(SWEEP), json.loads(json.dumps(shared))
        for name in sorted(wanted):
            if found.get(name) != wanted.get(name):
                raise RunDirectoryError(
                    f"{self.root} is a sweep with another {name}: {found.get(name)}, not "
                    f"{wanted.get(name)}. Choose another -o, or repeat its own command to go on."
                )
        if TRIALS in names:
            records = [_record(raw) for raw in self._read(TRIALS)]
            self._trials = {record.number: record for record in records}

    def begin(self, shared: Mapping[str, Any], claim: ClaimTicket | None = None) -> None:
        """Write what all trials share.

        Args:
            shared: That, as plain values.
            claim: Checked before each change from now on.

        Raises:
            ClaimError: If another command has the sweep by now; so does ``update``.
        """
        self._claim = claim
        self._check_claim()
        storage.write_bytes(storage.join(self.root, SWEEP), json.dumps(shared, indent=1).encode())

    def update(self, number: int, **changes: Any) -> TrialRecord:
        """Change the record of a trial, or begin it, and write all."""
        known = self._trials.get(number)
        record = replace(known, **changes) if known else TrialRecord(number=number, **changes)
        self._trials[number] = record
        self._check_claim()
        content = json.dumps([asdict(trial) for trial in self.trials], indent=1)
        storage.write_bytes(storage.join(self.root, TRIALS), content.encode())
        return record

    def add_score(self, number: int, result: Mapping[str, Any]) -> TrialRecord:
        """Add a score that a trial has reported."""
        trial, epoch = self._trials[number], int(result["epoch"])
        return self.update(
            number,
            scores={**trial.scores, epoch: float(result["score"])},
            errors={**trial.errors, epoch: float(result["error"])},
            parts=list(result["parts"]),
            seconds=float(result["seconds"]),
        )

    def _check_claim(self) -> None:
        if self._claim is not None:
            self._claim.check()

    def _read(self, name: str) -> Any:
        uri = storage.join(self.root, name)
        try:
            return json.loads(storage.read_bytes(uri))
        except ValueError as error:
            raise RunDirectoryError(
                f"{uri} is damaged ({error}); the runs beside it are whole. Choose another -o."
            ) from error


def _is_of_claim(name: str) -> bool:
    return bool(CLAIM_NAME.fullmatch(name) or HEARTBEAT_NAME.fullmatch(name))


def _record(raw: Mapping[str, Any]) -> TrialRecord:
    """Return a record as it was; JSON has names where the record has epochs."""
    by_epoch = {
        name: {int(epoch): value for epoch, value in raw[name].items()}
        for name in ("scores", "errors")
    }
    return TrialRecord(**{**raw, **by_epoch})
