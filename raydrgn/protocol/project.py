"""The folder of a project, and steps that are made once.

A step has inputs, which are plain values, and comes after other steps. Its key is the checksum of
its name, its inputs and the keys of the steps before it. Where the project has whole results of
that key, nothing is done; else they are made in a folder of their own, or gone on with where that
was interrupted. Results of other inputs stay where they are: nothing is ever deleted.

Whole results that lack a file are completed in their folder. Trainings cannot be completed, nor
results with a damaged file: the message names the file, and the folder for a person to delete.
"""

import json
import logging
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from raydrgn.errors import RaydrgnError, RunDirectoryError, reworded
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.io.unfinished import remove_unfinished
from raydrgn.protocol.decisions import Decisions, is_project_folder
from raydrgn.remote.own_command import program_here
from raydrgn.run.project_steps import CURRENT, STEPS, TIMES
from raydrgn.settings import PROJECT

log = logging.getLogger(__name__)

KEY_LENGTH = 16

REMADE = {
    STEPS: "steps are made again then, in folders of their own",
    TIMES: "the seconds of the steps that are made are not known then",
    CURRENT: "the explorer shows the results that were made last then",
}
"""What follows where a file of the project is moved away."""


class LostFileError(RunDirectoryError):
    """Whole results of a step have lost a file; the text has the remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """Results of a step, whole or begun."""

    folder: str
    """Within the project."""

    key: str
    inputs: Mapping[str, Any]
    after: Mapping[str, str]
    """Keys of the steps before it, by their names."""

    files: Sequence[str] = ()
    """Files that whole results have, within the folder."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each file that the folder had when the results were whole."""

    result: Mapping[str, Any] = field(default_factory=dict)
    """What the step found, for the steps after it."""

    is_whole: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A step that has been made."""

    name: str
    key: str
    folder: Uri
    result: Mapping[str, Any]

    def at(self, *names: str) -> Uri:
        """Return the path of a file of the step."""
        return storage.join(self.folder, *names)


Make = Callable[[Uri], tuple[Mapping[str, Any], Sequence[str]]]
"""Makes the results of a step in a folder; returns what it found, and files that are whole then."""

Continues = Callable[[StepRecord], bool]
"""Returns whether a step may go on in the folder of whole results."""

FindLost = Callable[[StepRecord, Uri], Uri | None]
"""Returns a file of whole results in a folder that is gone or damaged; None if all are whole."""


def command(root: Uri, *words: str) -> str:
    """Return the command that goes on with a project, as a job where this process is one."""
    return shlex.join([*program_here(), "protocol", "-o", root, *words])


def command_if_begun(folder: Uri) -> str | None:
    """Return the command that goes on with the project of a folder; None if there is none yet."""
    root = storage.absolute(folder)
    return command(root) if is_project_folder(root) else None


class Project:
    """A project's decisions, and the steps that were made."""

    def __init__(self, root: Uri) -> None:
        """Open a project, or a folder for one.

        Raises:
            RaydrgnError: If the folder has something else, or a file of it is damaged.
        """
        self.root = storage.absolute(root)
        names = storage.list_names(self.root)
        if names and PROJECT not in names:
            raise RunDirectoryError(
                f"{self.root} is not empty, and is not a project; choose another -o."
            )
        self.decisions = Decisions(self.at(PROJECT))
        self._steps: dict[str, list[StepRecord]] = self._read(
            STEPS, lambda records: [StepRecord(**raw) for raw in records]
        )
        self._seconds: dict[str, float] = self._read(TIMES, float)
        self._current: dict[str, str] = self._read(CURRENT, _key)
        self.made: list[Step] = []
        """Steps of this call, each once, in their order, whether they were made in it or before."""

    def at(self, *names: str) -> Uri:
        """Return the path of a file in the project."""
        return storage.join(self.root, *names)

    def remove_unfinished(self, *others: str) -> None:
        """Delete what a command that was killed has left of the project's own files.

        Only who holds the claim may, since others may be writing them.

        Args:
            others: Names of further files of it.
        """
        names = (PROJECT, STEPS, TIMES, CURRENT, *others)
        remove_unfinished(self.at(name) for name in names)

    @property
    def has_results(self) -> bool:
        """Whether any step is whole."""
        return any(record.is_whole for records in self._steps.values() for record in records)

    def records(self, name: str) -> list[StepRecord]:
        """Return the results of a step, begun or whole, the latest last."""
        return list(self._steps.get(name, ()))

    def current(self, name: str) -> StepRecord | None:
        """Return the results of a step that the latest call took or began; None if there are none.

        They are not the newest ones where a project has gone back to earlier settings.
        """
        records = self.records(name)
        found = (record for record in records if record.key == self._current.get(name))
        return next(found, records[-1] if records else None)

    def folders(self) -> list[Uri]:
        """Return the folders of all results, begun or whole."""
        return [self.at(r.folder) for records in self._steps.values() for r in records]

    def command(self, *words: str) -> str:
        """Return the command that goes on with the project, as a job where this process is one."""
        return command(self.root, *words)

    @property
    def explore_command(self) -> str:
        """The command that shows the project in a browser."""
        return shlex.join(["raydrgn", "explore", self.root])

    def seconds(self, step: Step) -> float:
        """Return how long a step took, over all calls that worked on it."""
        return self._seconds.get(step.key, 0.0)

    def step(
        self,
        name: str,
        inputs: Mapping[str, Any],
        make: Make,
        *,
        after: Sequence[Step] = (),
        folder: str | None = None,
        condition: str = "",
        find_lost: FindLost | None = None,
        continues: Continues | None = None,
    ) -> Step:
        """Return a step as the project has it, or make it.

        Args:
            name: Of the step, in words.
            inputs: Plain values that change its results.
            make: Makes the results.
            after: Steps whose results it uses.
            folder: First choice of the folder's name; made of the step's name if None.
            condition: Of going on after a failure, in words; none if empty.
            find_lost: Looks through whole results that cannot be completed where a file is lost;
                without it, those that lack a file are completed.
            continues: Finds earlier results, after the same steps, that it goes on from, in their
                folder; without it, results of other inputs lie beside each other.

        Raises:
            LostFileError: If results that cannot be completed have lost a file.
            RaydrgnError: If the step cannot be made, naming it.
        """
        plain: dict[str, Any] = json.loads(json.dumps(dict(inputs)))
        keys = {step.name: step.key for step in after}
        key = step_key(name, plain, keys)
        records = self._steps.setdefault(name, [])
        record = next((r for r in records if r.key == key), None)
        lacks = None if record is None else self._lacks(name, record, find_lost)
        if record is None or lacks or not record.is_whole:
            same = [r for r in records if r.is_whole and r.after == keys]
            before = next((r for r in reversed(same) if continues and continues(r)), None)
            self._log(name, records, record, lacks, plain, keys, before)
            if record is None:
                free = before.folder if before else self._free(folder or name.replace(" ", "-"))
                record = StepRecord(folder=free, key=key, inputs=plain, after=keys)
                records.append(record)
                self._write()
            self._take(name, key)
            record = self._make(name, record, make, condition)
        self._take(name, key)
        found = Step(name=name, key=key, folder=self.at(record.folder), result=dict(record.result))
        if found not in self.made:  # two rounds may train on the same images
            self.made.append(found)
        return found

    def _take(self, name: str, key: str) -> None:
        if self._current.get(name) != key:
            self._current[name] = key
            self._write_json(CURRENT, self._current)

    def _free(self, wanted: str) -> str:
        """Return the name of a folder that no step has."""
        used = {r.folder for records in self._steps.values() for r in records}
        number, free = 1, wanted
        while free in used:
            number += 1
            free = f"{wanted}.{number}"
        return free

    def _make(self, name: str, record: StepRecord, make: Make, condition: str) -> StepRecord:
        began = time.monotonic()
        try:
            result, files = make(self.at(record.folder))
        except RaydrgnError as error:
            text = (
                f"The step “{name}” failed; what was made before it is kept. {error} "
                f"To go on{condition and f', {condition}'}: {self.command()}"
            )
            raise reworded(error, text) from error
        finally:
            spent = self._seconds.get(record.key, 0.0) + time.monotonic() - began
            self._seconds[record.key] = round(spent, 1)
            self._write_json(TIMES, self._seconds)
        plain = json.loads(json.dumps(dict(result)))
        folder = self.at(record.folder)
        sizes = {file: storage.file_size(f"{folder}/{file}") for file in storage.list_files(folder)}
        whole = replace(record, result=plain, files=list(files), sizes=sizes, is_whole=True)
        records = self._steps[name]
        records[[r.key for r in records].index(record.key)] = whole
        self._write()
        return whole

    def _lacks(self, name: str, record: StepRecord, find_lost: FindLost | None) -> str | None:
        """Return what whole results lack, in words; None if nothing, or if they are not whole."""
        folder = self.at(record.folder)
        if not record.is_whole:
            return None
        if not storage.list_names(folder):
            return "its folder"
        if find_lost is not None:
            lost = find_lost(record, folder)
            if lost is not None:
                raise LostFileError(f"{lost} is gone or damaged. {self._remedy(name, record)}")
            return None
        return next((n for n in record.files if not storage.exists(f"{folder}/{n}")), None)

    def _remedy(self, name: str, record: StepRecord) -> str:
        return (
            f"To have the step “{name}” made again, delete the folder {self.at(record.folder)} and "
            f"run: {self.command()}"
        )

    @contextmanager
    def remedies(self) -> Iterator[None]:
        """Add what to do to an error that names a lost file of a step."""
        try:
            yield
        except RaydrgnError as error:
            remedy = self._remedy_of(error)
            if remedy is None:
                raise
            raise reworded(error, f"{error}\n{remedy}") from error

    def _remedy_of(self, error: RaydrgnError) -> str | None:
        """Return what to do about an error that names a lost file of a step: gone, or damaged.

        Any reader may have met the file, so that it is known by its name in the text alone.

        Returns:
            Sentences; None if the error has its remedy, or names no file of a step, or one that is
            as it was written.
        """
        if isinstance(error, LostFileError):
            return None
        problem = str(error)
        whole = [(n, r) for n, records in self._steps.items() for r in records if r.is_whole]
        for name, record in sorted(whole, key=lambda of_step: -len(of_step[1].folder)):
            for file, size in record.sizes.items():
                uri = self.at(record.folder, file)
                if uri not in problem:
                    continue
                remedy = self._remedy(name, record)
                if not storage.exists(uri):
                    return f"{uri} is gone. {remedy}"
                if storage.file_size(uri) != size:
                    return f"{uri} is damaged. {remedy}"
        return None

    def _log(
        self,
        name: str,
        records: Sequence[StepRecord],
        record: StepRecord | None,
        lacks: str | None,
        inputs: Mapping[str, Any],
        after: Mapping[str, str],
        before: StepRecord | None,
    ) -> None:
        """Log why a step is made."""
        if record is not None:
            log.info("%s %s", name, f"lacks {lacks} and is made again" if lacks else "goes on")
        elif before is not None:
            log.info("%s goes on: %s", name, difference(before, inputs, after))
        elif not records:
            log.info("%s begins", name)
        else:
            log.info("%s is made again: %s", name, difference(records[-1], inputs, after))

    def _read(self, name: str, entry: Callable[[Any], Any]) -> dict[str, Any]:
        uri = self.at(name)
        if not storage.exists(uri):
            return {}
        try:
            raw = json.loads(storage.read_bytes(uri))
            return {key: entry(value) for key, value in raw.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise RunDirectoryError(
                f"{uri} is damaged ({error}). Move it away: {REMADE[name]}."
            ) from error

    def _write(self) -> None:
        steps = {name: [asdict(r) for r in records] for name, records in self._steps.items()}
        self._write_json(STEPS, steps)

    def _write_json(self, name: str, content: Any) -> None:
        storage.write_bytes(self.at(name), json.dumps(content, indent=1).encode())


def _key(raw: object) -> str:
    if not isinstance(raw, str):
        raise TypeError(f"{raw!r:.40} is no key")
    return raw


def step_key(name: str, inputs: Mapping[str, Any], after: Mapping[str, str]) -> str:
    """Return the key of a step.

    Args:
        name: Of the step.
        inputs: Plain values that change its results.
        after: Keys of the steps before it, by their names.
    """
    content = json.dumps([name, inputs, after], sort_keys=True).encode()
    return storage.checksum(content)[:KEY_LENGTH]


def difference(before: StepRecord, inputs: Mapping[str, Any], after: Mapping[str, str]) -> str:
    """Return in words what has changed since a step was made."""
    changed = [f"“{name}” has changed" for name in after if before.after.get(name) != after[name]]
    for name in sorted({*before.inputs, *inputs}):
        old, new = before.inputs.get(name), inputs.get(name)
        if old != new:
            changed.append(f"{name} is {new}, not {old}")
    return "; ".join(changed) or "its steps have other names"
