"""Whose turn it is: commands on one cluster get their workers by priority, then in order.

Ray itself gives CPUs to whoever asks when they come free, and knows neither priorities nor users.
One actor on the head of the cluster knows which raydrgn command has how much, and which wait. It is
asked before workers are. A command that it no longer hears of has ended.
"""

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from raydrgn.wording import counted

LIMITS = "RAYDRGN_LIMITS"
"""Variable of the head with the limits of the cluster, as ``user.gpus=4 job.cpus=64``."""

LIMIT = re.compile(r"(job|user)\.(cpus|gpus)=(\d+(?:\.\d+)?)")

SILENT_SECONDS = 20.0
"""Time after which a command that is not heard of has ended."""


class Amount(NamedTuple):
    """CPUs and GPUs."""

    cpus: float
    gpus: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":  # type: ignore[override]
        return Amount(self.cpus + other.cpus, self.gpus + other.gpus)

    def fits(self, limit: "Amount") -> bool:
        """Return whether it is within a limit; nothing of a kind is within any."""
        return all(not mine or mine <= most for mine, most in zip(self, limit, strict=True))

    def __str__(self) -> str:
        named = zip(self, ("CPU", "GPU"), strict=True)
        parts = [f"{number:g} {name}{'s' * (number != 1)}" for number, name in named if number]
        return " and ".join(parts) or "no CPUs"


NOTHING = Amount(0)
NO_LIMIT = Amount(float("inf"), float("inf"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What a command asks for its workers."""

    job_id: str
    user: str
    priority: int
    submitted: float
    """Seconds since 1970."""

    amount: Amount
    """Of all workers together."""

    held: Amount = NOTHING
    """What Ray keeps for the command itself, since before it began (``submit --cpus``)."""

    capacity: Amount | None
    """All that the cluster has; None if it can grow."""

    @property
    def total(self) -> Amount:
        """Of the command and its workers."""
        return self.amount + self.held

    def __str__(self) -> str:
        return f"{self.job_id} ({self.user}, {self.total})"


class Turn(NamedTuple):
    """The queue's answer."""

    state: Literal["begin", "wait", "never"]
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The most that one command, and all commands of one user, may have at a time."""

    job: Amount = NO_LIMIT
    user: Amount = NO_LIMIT

    @classmethod
    def parse(cls, text: str) -> "Limits":
        """Read the variable.

        Raises:
            ValueError: If it is not a list of limits.
        """
        found: dict[str, dict[str, float]] = {"job": {}, "user": {}}
        for word in text.replace(",", " ").split():
            match = LIMIT.fullmatch(word)
            if match is None:
                raise ValueError(word)
            found[match[1]][match[2]] = float(match[3])
        return cls(**{who: NO_LIMIT._replace(**values) for who, values in found.items()})


@dataclass(slots=True)
class _Entry:
    claim: Claim
    heard: float
    has_begun: bool = False


@dataclass(slots=True)
class _Room:
    """What is taken, while the queue is gone through in its order."""

    taken: Amount
    """Also what commands hold that wait for their workers."""

    holders: list[Claim] = field(default_factory=list)
    """Commands that have begun, or are before others."""

    def take(self, claim: Claim) -> None:
        self.taken += claim.amount
        self.holders.append(claim)

    def fits(self, claim: Claim) -> bool:
        """Whether a command can begin: it has room, or nobody is before it."""
        if claim.capacity is None or not self.holders:
            return True
        return (self.taken + claim.amount).fits(claim.capacity)


class JobQueue:
    """A plain class, made an actor: answers each command whether it may ask for its workers.

    Its state can be lost: a command repeats what it has or wants every few seconds.
    """

    def __init__(
        self, limits: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin an empty queue, with the limits given, or those of this process."""
        self._entries: dict[str, _Entry] = {}
        self._clock = clock
        text = os.environ.get(LIMITS, "") if limits is None else limits
        self._problem = ""
        self._limits = Limits()
        try:
            self._limits = Limits.parse(text)
        except ValueError as error:
            self._problem = (
                f"{LIMITS} of the cluster's head contains {str(error)!r}; limits are written as "
                "user.gpus=4 job.cpus=64."
            )

    def ask(self, claim: Claim, *, has_begun: bool = False) -> Turn:
        """Return whether it is the turn of a command; one that has begun keeps what it has.

        Where it asks for more than it had, the limits hold for that, too.
        """
        self._forget_silent()
        known = self._entries.get(claim.job_id)
        begun = has_begun or (known is not None and known.has_begun)
        if not begun and (refusal := self._refusal(claim) or self._in_the_way(claim)):
            self.leave(claim.job_id)
            return Turn("never", refusal)
        grows = known is not None and not claim.amount.fits(known.claim.amount)
        if begun and grows and (refusal := self._refusal(claim)):
            return Turn("never", refusal)
        entry = _Entry(claim, self._clock(), begun)
        self._entries[claim.job_id] = entry
        if begun:
            return Turn("begin")
        turn = self._turn(claim)
        entry.has_begun = turn.state == "begin"
        return turn

    def leave(self, job_id: str) -> None:
        """Forget a command that has ended."""
        self._entries.pop(job_id, None)

    def _forget_silent(self) -> None:
        oldest = self._clock() - SILENT_SECONDS
        self._entries = {k: entry for k, entry in self._entries.items() if entry.heard > oldest}

    def _refusal(self, claim: Claim) -> str:
        if self._problem:
            return self._problem
        for most, who in ((self._limits.job, "a job"), (self._limits.user, "a user")):
            if not claim.total.fits(most):
                own = f", {claim.held} of them for the job itself" if any(claim.held) else ""
                return (
                    f"The cluster gives {who} at most {_limit(most)} ({LIMITS} of its head), and "
                    f"this command asks for {claim.total}{own}. Ask for fewer workers, or less for "
                    "each."
                )
        return ""

    def _in_the_way(self, mine: Claim) -> str:
        """Return why a command must end: what has begun waits for what is kept for its process."""
        begun = [entry.claim for entry in self._entries.values() if entry.has_begun]
        if mine.capacity is None or not any(mine.held) or not begun:
            return ""
        if (_sum(claim.total for claim in begun) + mine.held).fits(mine.capacity):
            return ""
        return (
            f"This job was submitted with {mine.held} for its command, which it keeps while it "
            f"waits for its workers, and {', '.join(map(str, begun))} cannot have all workers of "
            "its own without them. Submit it again when that has ended, or with none for its "
            "command."
        )

    def _turn(self, mine: Claim) -> Turn:
        """Go through the queue in its order, up to one command."""
        entries = self._entries.values()
        room = _Room(_sum(entry.claim.held for entry in entries))
        for entry in entries:
            if entry.has_begun:
                room.take(entry.claim)
        waiting = [entry.claim for entry in entries if not entry.has_begun]
        for claim in sorted(waiting, key=lambda found: (-found.priority, found.submitted)):
            own = [before for before in room.holders if before.user == claim.user]
            if not _sum(one.total for one in (*own, claim)).fits(self._limits.user):
                if claim is mine:
                    return Turn("wait", self._limit_reason(mine, own))
                continue  # it is in nobody's way
            if claim is mine:
                return Turn("begin") if room.fits(mine) else Turn("wait", _reason(mine, room))
            room.take(claim)  # those behind it do not overtake it
        return Turn("begin")

    def _limit_reason(self, mine: Claim, own: Iterable[Claim]) -> str:
        held = ", ".join(map(str, own))
        return (
            f"waiting for {mine.amount}: the cluster gives a user at most "
            f"{_limit(self._limits.user)} at a time, and {mine.user} has {held}"
        )


def _reason(mine: Claim, room: _Room) -> str:
    before = ", ".join(
        f"{held}{f', priority {held.priority}' if held.priority else ''}" for held in room.holders
    )
    return f"waiting for {mine.amount} of {mine.capacity}: before this one is {before}"


def _sum(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, NOTHING)


def _limit(most: Amount) -> str:
    """Return the limits that there are, in words; a limit of 0 is one."""
    named = [pair for pair in zip(most, ("CPU", "GPU"), strict=True) if pair[0] != float("inf")]
    return " and ".join(counted(number, name) for number, name in named)
