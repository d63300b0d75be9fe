"""The claim to a run or a project: one command at a time works on it, on whichever machine.

A claim is a numbered file in its folder, made on condition that there is none of its number;
the highest number has the run. Its command renews a heartbeat file beside it. A claim whose command
is gone is taken over with the next number. A writer that has lost the claim, since its machine was
suspended or cut off, finds that out before it writes or deletes anything.
"""

import json
import logging
import os
import re
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from uuid import uuid4

from raydrgn.errors import RaydrgnError, RunDirectoryError, StorageError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.remote.metrics import JOB_ID
from raydrgn.remote.own_job import submitted
from raydrgn.remote.process import ProcessIdentity, user_name
from raydrgn.run.directory import RunDirectory

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 45.0
"""Time without a heartbeat after which the command of a claim counts as gone."""

ABANDONED = timedelta(minutes=10)
"""Age of a heartbeat at which nobody waits for another: no two clocks differ by so much."""

RECHECK_SECONDS = 5.0
"""Time for which a claim that was found to hold is trusted, for lines of log and metrics."""

CLAIM_NAME = re.compile(r"claim\.(\d+)\.json")
HEARTBEAT_NAME = re.compile(r"claim\.(\d+)\.heartbeat")


class ClaimError(RunDirectoryError):
    """Another command trains the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The command that has a claim."""

    token: str
    """Unique name of the claim."""

    user: str
    host: str
    machine: str
    """Boot of a machine and its space of process numbers, in which ``pid`` has a meaning."""

    pid: int
    process_start: str
    """When the process began, in ticks since boot: numbers of processes are used again."""

    job: str
    """Submission id of its job, or an empty text."""

    since: str
    """When it began, in UTC."""

    @classmethod
    def here(cls) -> "Owner":
        """Describe this process."""
        process = ProcessIdentity.of(os.getpid())
        return cls(
            token=uuid4().hex,
            user=_user(),
            host=process.host,
            machine=process.machine,
            pid=process.pid,
            process_start=process.start,
            job=_job(),
            since=_now(),
        )

    @property
    def name(self) -> str:
        """Who it is, in words."""
        place = f"job {self.job}" if self.job else f"process {self.pid}"
        return f"{self.user} on {self.host} ({place}), since {self.since}"

    @property
    def is_gone(self) -> bool | None:
        """Whether its process has ended; None if that cannot be seen from here."""
        return ProcessIdentity(self.host, self.machine, self.pid, self.process_start).is_gone


@dataclass(frozen=True, slots=True)
class ClaimTicket:
    """What a writer must know to see whether its command still has the run."""

    root: Uri
    number: int
    token: str

    def check(self) -> None:
        """Refuse to go on if another command has taken the run over.

        Raises:
            ClaimError: Naming the other command.
            StorageError: If the claims cannot be read, so that it is not known.
        """
        numbers = _numbers(self.root)
        mine = _owner(self.root, self.number) if self.number in numbers else None
        if mine is not None and mine.token == self.token and max(numbers) == self.number:
            return
        other = _owner(self.root, max(numbers)) if numbers else None
        by = f"{other.name}, has taken it over" if other else "has taken it over since, and ended"
        raise ClaimError(
            f"This command no longer has {self.root}: another one, {by}. That happens "
            "where a machine was suspended or cut off. Nothing more is written by this command."
        )


class RunClaim:
    """The claim of this command to a run. A context manager: what was taken is given back."""

    def __init__(self, root: Uri) -> None:
        """Describe the claim; nothing is written before ``take``."""
        self._run = RunDirectory(root)
        self._ticket: ClaimTicket | None = None
        self._ended = threading.Event()
        self.predecessor: Owner | None = None
        """The command whose claim was taken over, if it ended without giving it back."""

        self.lost: ClaimError | None = None
        """Why the run is no longer this command's."""

    @property
    def ticket(self) -> ClaimTicket | None:
        """What the writer of the run is given; None before ``take``."""
        return self._ticket

    def __enter__(self) -> "RunClaim":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            return
        with suppress(RaydrgnError):  # an unreachable store; the claim becomes stale by itself
            ticket.check()
            _remove(self._run, up_to=ticket.number)

    def take(self) -> None:
        """Take the run for this command; wait until it is known whether another one has it.

        Raises:
            ClaimError: If another command trains it; names the command.
            StorageError: If the run directory cannot be written, or a claim in it not be read.
        """
        owner = Owner.here()
        content = json.dumps(asdict(owner), indent=1).encode()
        while True:
            number = max(_numbers(self._run.root), default=0)
            before = self._ended_owner(number) if number else None
            if storage.create_exclusively(self._run.claim(number + 1), content):
                break
        self.predecessor = before
        self._ticket = ClaimTicket(self._run.root, number + 1, owner.token)
        self._renew()
        _remove(self._run, up_to=number)
        threading.Thread(target=self._keep, name="claim", daemon=True).start()

    def _ended_owner(self, number: int) -> Owner | None:
        """Return whose a claim was once its command is gone; None if it was given back.

        Raises:
            ClaimError: If the command lives.
        """
        end = time.monotonic() + STALE_SECONDS
        while (owner := _owner(self._run.root, number)) is None and time.monotonic() < end:
            if number not in _numbers(self._run.root):
                return None
            time.sleep(0.2)  # it is being written
        if owner is not None:
            self._wait_for_end(number, owner)
        return owner

    def _wait_for_end(self, number: int, owner: Owner) -> None:
        """Return once a claim is given back, or its command is gone; refuse if it lives."""
        last = _heartbeat(self._run.root, number)
        if owner.is_gone or _age(last or owner.since) > ABANDONED:
            return
        if owner.is_gone is False:
            raise self._refusal(number, owner)
        log.info(
            "%s was in use by %s; waiting up to %.0f s for a heartbeat of that command",
            self._run.root,
            owner.name,
            STALE_SECONDS,
        )
        end = time.monotonic() + STALE_SECONDS
        while time.monotonic() < end:
            time.sleep(1.0)
            if number not in _numbers(self._run.root):
                return
            if _heartbeat(self._run.root, number) != last:
                raise self._refusal(number, owner)

    def _refusal(self, number: int, owner: Owner) -> ClaimError:
        end = f"`raydrgn stop {owner.job}`" if owner.job else "Ctrl-C there"
        last = _heartbeat(self._run.root, number) or owner.since
        return ClaimError(
            f"{self._run.root} is in use by {owner.name}; its last heartbeat was at {last}. Wait "
            f"for its end, or stop it ({end}). If it has crashed, it is free "
            f"{STALE_SECONDS:.0f} s after its last heartbeat."
        )

    def _renew(self) -> None:
        assert self._ticket is not None
        storage.write_bytes(self._run.heartbeat(self._ticket.number), _now().encode())

    def _keep(self) -> None:
        """Renew the heartbeat until the claim is given back or lost."""
        while not self._ended.wait(HEARTBEAT_SECONDS):
            ticket = self._ticket
            if ticket is None:
                return
            try:
                ticket.check()
                self._renew()
            except ClaimError as error:
                self.lost = error
                return
            except StorageError as error:
                log.warning("the heartbeat of the run cannot be renewed: %s", error)


def newest_heartbeat(root: Uri) -> str | None:
    """Return what changes while a command has a run; None if none has it, nor ended by a crash."""
    number = max(_numbers(root), default=0)
    return f"{number} {_heartbeat(root, number)}" if number else None


def _heartbeat(root: Uri, number: int) -> str:
    """Return the time of a claim's last heartbeat, or an empty text before its first."""
    return (storage.read_if_there(RunDirectory(root).heartbeat(number)) or b"").decode()


def _numbers(root: Uri) -> list[int]:
    """Return the numbers of the claims in a run directory."""
    matches = map(CLAIM_NAME.fullmatch, storage.list_names(root))
    return [int(match[1]) for match in matches if match]


def _owner(root: Uri, number: int) -> Owner | None:
    """Return whose a claim is; None if it was given back a moment ago, or is being written."""
    content = storage.read_if_there(RunDirectory(root).claim(number))
    try:
        return None if content is None else Owner(**json.loads(content))
    except (ValueError, TypeError):
        return None


def _remove(run: RunDirectory, *, up_to: int) -> None:
    """Delete claims and heartbeats up to a number; what is newer belongs to another command."""
    for name in storage.list_names(run.root):
        match = CLAIM_NAME.fullmatch(name) or HEARTBEAT_NAME.fullmatch(name)
        if match and int(match[1]) <= up_to:
            storage.remove(storage.join(run.root, name))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _age(stamp: str) -> timedelta:
    try:
        then = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    except ValueError:
        return timedelta(0)
    return datetime.now(UTC) - then


def _user() -> str:
    """Return who runs this process; a container's user may have a number alone."""
    name = user_name()
    return f"user {name}" if name.isdecimal() else name


def _job() -> str:
    """Return the job that this process is, by the id that its user knows, or an empty text."""
    if os.environ.get(JOB_ID):  # where Ray's own id is that of an attempt
        return os.environ[JOB_ID]
    try:
        return str(submitted().get("metadata", {}).get("job_submission_id", ""))
    except (ValueError, AttributeError):
        return ""
