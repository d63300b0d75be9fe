"""Jobs about jobs: one that starts another again until it ends, and one that cancels another.

Both run on the cluster, need no resources of it, and go through its job server.
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from raydrgn.remote.jobs import STOP_ENVIRONMENT, entrypoint
from raydrgn.remote.metrics import JOB_ID

MODULE = "RAYDRGN_JOB_MODULE"
"""Variable that names what ``job.sh`` runs in place of a raydrgn command."""

ATTEMPT, RETRIES, NOTIFY = "RAYDRGN_JOB_ATTEMPT", "RAYDRGN_JOB_RETRIES", "RAYDRGN_JOB_NOTIFY"
"""Variables of a supervisor: the job that it starts, how often again, and where notices go."""

ATTEMPT_OF = "raydrgn.attempt_of"
"""Key in the metadata of an attempt: the job that a user knows."""

STOP_SECONDS = 2 * int(STOP_ENVIRONMENT["RAY_JOB_STOP_WAIT_TIME_S"])
"""Time in which a supervisor must have stopped its attempt."""


def new_id(command: str) -> str:
    """Return the id of a new job."""
    return f"raydrgn-{command}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:4]}"


def supervised(arguments: Mapping[str, Any], *, retries: int, notify: str | None) -> dict[str, Any]:
    """Return the arguments of a job that starts another one, and again if it fails.

    It runs on the head, so that it survives the node of the command.

    Args:
        arguments: Those of the job to start.
        retries: How often it is started again.
        notify: URL for notices of its start and its end.
    """
    attempt = {**arguments, "runtime_env": dict(arguments["runtime_env"])}
    package = attempt["runtime_env"].pop("working_dir")
    job_id = attempt.pop("submission_id")
    environment = {
        **STOP_ENVIRONMENT,
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
        "RAYDRGN_JOB_PYTHON": sys.executable,
        MODULE: "raydrgn.remote.job_supervisor",
        JOB_ID: job_id,
        ATTEMPT: json.dumps(attempt),
        RETRIES: str(retries),
        NOTIFY: notify or "",
    }
    return {
        "submission_id": job_id,
        "entrypoint": arguments["entrypoint"],  # which the dashboard shows
        "runtime_env": {"working_dir": package, "env_vars": environment},
        "metadata": arguments["metadata"],
    }


def attempt_arguments(
    attempt: Mapping[str, Any], *, job_id: str, number: int, package: str
) -> dict[str, Any]:
    """Return the arguments of an attempt; after the first, training goes on where it was."""
    command = attempt["entrypoint"]
    trains = command.startswith(entrypoint(["train"])) and " --resume" not in command
    return {
        **attempt,
        "submission_id": f"{job_id}-{number}",
        "entrypoint": f"{command} --resume" if number > 1 and trains else command,
        "runtime_env": {**attempt["runtime_env"], "working_dir": package},
        "metadata": {**attempt["metadata"], ATTEMPT_OF: job_id},
    }


def cancellation(job_id: str, *, name: str, package: Path) -> dict[str, Any]:
    """Return the arguments of a job that cancels one which has not begun."""
    environment = {
        "RAYDRGN_JOB_PYTHON": sys.executable,
        MODULE: "raydrgn.remote.cancel_job",
    }
    return {
        "submission_id": name,
        "entrypoint": entrypoint([job_id]),
        "runtime_env": {"working_dir": str(package), "env_vars": environment},
        "metadata": {ATTEMPT_OF: job_id},
    }
