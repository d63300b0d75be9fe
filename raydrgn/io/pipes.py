"""Pipes and standard input in the place of files: ``-``, ``/dev/stdin``, ``<(command)``.

A pipe can be read once only, and readers come back to a file: to see what it is, to read it, and to
identify it. So the content stays in memory for as long as the process runs.
"""

import sys
from functools import cache

STANDARD_INPUT = "-"
"""Name of standard input in the place of a file; a file of that name is ``./-``."""

STANDARD_INPUT_NAMES = (STANDARD_INPUT, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


@cache
def read_pipe(name: str) -> bytes:
    """Return everything that comes through a pipe, once its other end is closed."""
    if name in STANDARD_INPUT_NAMES:
        return sys.stdin.buffer.read()
    with open(name, "rb") as stream:
        return stream.read()
