"""Variables of the environment that Ray, a job and its command know each other by."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Where Ray looks for the token of a cluster."""

HELD_CPUS, HELD_GPUS = "RAYDRGN_JOB_CPUS", "RAYDRGN_JOB_GPUS"
"""Variables in which a job finds what of the cluster is kept for its command."""


@contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """Set a variable for the length of a block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
