"""A process of a machine: who runs it, and whether it still runs as far as is seen from here."""

import getpass
import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What a process is known by, also to processes of other machines."""

    host: str
    machine: str
    """Boot of a machine and its space of process numbers, in which ``pid`` has a meaning."""

    pid: int
    start: str
    """When the process began, in ticks since boot: numbers of processes are used again."""

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity":
        """Describe a process of this machine."""
        return cls(socket.gethostname(), _machine(), pid, _start(pid))

    @property
    def is_gone(self) -> bool | None:
        """Whether the process has ended; None if that cannot be seen from here."""
        if not self.machine or self.machine != _machine():
            return None
        return not self.start or _start(self.pid) != self.start


@cache
def _machine() -> str:
    """Return the boot of this machine and the name space of process numbers; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start(pid: int) -> str:
    """Return when a process began, in ticks since boot; empty if there is none, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def user_name() -> str:
    """Return who runs this process; their number if they have no name here."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
