"""How a command is given once more so that it runs where this process does: here, or as a job."""

import os

from raydrgn.remote.metrics import JOB_ID


def program_here() -> list[str]:
    """Return the words before a command: ``raydrgn``, in a job ``raydrgn submit``."""
    return ["raydrgn", "submit"] if os.environ.get(JOB_ID) else ["raydrgn"]
