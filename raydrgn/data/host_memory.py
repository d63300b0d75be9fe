"""How much memory of the host this process may still take: the machine's, or its control group's.

A scheduler (``sbatch --mem``) or a container limits the group that a process is in, or one above
it; each group counts what all those below it use. Version 2 of control groups has one tree,
version 1 a tree of its own for memory.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class _Files(NamedTuple):
    """Names that a version of control groups has for the same three values."""

    limit: str
    used: str
    cached: str
    """Key of ``memory.stat``: pages of files, which are given up when memory is needed."""


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Files("memory.max", "memory.current", "inactive_file")


def free_host_memory(root: Path = Path("/")) -> int:
    """Return the bytes that may still be taken: of the machine, or of a control group if less.

    Args:
        root: Folder in which ``proc`` and ``sys`` are.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    for folder, files in _groups(root):
        with suppress(OSError, ValueError):  # no such file, or "max": no limit
            free = min(free, _rest(folder, files))
    return max(free, 0)


def _groups(root: Path) -> Iterator[tuple[Path, _Files]]:
    """Yield the folders of this process's control groups, each with those above it.

    A container may see a path that exists only outside; its own root is then what limits it.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = [name for name in path.split("/") if name not in ("", "..")]
        for depth in range(len(names), -1, -1):
            yield top.joinpath(*names[:depth]), _V1 if controllers else _V2


def _rest(group: Path, files: _Files) -> int:
    """Return what a control group may still take.

    Raises:
        OSError: If it has no such limit.
        ValueError: If the limit is not a number.
    """
    limit = int((group / files.limit).read_text())
    used = int((group / files.used).read_text())
    counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return limit - used + int(counts.get(files.cached, 0))
