"""Starts a job, shows its log, and starts it again after a lost node or a crash.

A process of its own on the head of the cluster, which ``raydrgn submit --retries`` and ``--notify``
start in place of the command. Each attempt is a job; stopping the supervisor stops its attempt.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray.job_submission import JobSubmissionClient

from raydrgn.remote.job import EXIT_STOPPED, Job
from raydrgn.remote.job_attempts import ATTEMPT, NOTIFY, RETRIES, attempt_arguments
from raydrgn.remote.jobserver import JobServer
from raydrgn.remote.metrics import JOB_ID
from raydrgn.remote.notices import Notices
from raydrgn.remote.own_job import submitted

FINAL_EXIT_CODES = (0, 2, EXIT_STOPPED)
"""Done, a mistake that the user can correct, stopped: another attempt would end the same way."""


def main() -> int:
    """Run attempts until one ends for good; return its exit code."""
    attempt = json.loads(os.environ[ATTEMPT])
    metadata = attempt["metadata"]
    sender = Notices(
        os.environ[NOTIFY] or None,
        command=metadata["raydrgn.command"].split()[1],
        run=metadata.get("raydrgn.run", ""),
    )
    sender.send("start", "started")
    try:
        job = _run_attempts(attempt, sender)
        text = job.message.splitlines()[-1] if job.message else ""
        if job.exit_code == 0:
            sender.send("end", "ended")
        elif job.exit_code == EXIT_STOPPED:
            sender.send("stop", "stopped")
        else:
            sender.send("failure", f"failed with exit code {job.exit_code}: {text}")
    except BaseException as error:
        sender.send("failure", f"is not followed any more: {error}")
        raise
    finally:
        sender.close()
    return job.exit_code or 0


def is_final(job: Job) -> bool:
    """Return whether another attempt at a job would end as it has."""
    return job.exit_code in FINAL_EXIT_CODES


def _run_attempts(attempt: dict[str, Any], sender: Notices) -> Job:
    job_id, retries = os.environ[JOB_ID], int(os.environ[RETRIES])
    package = submitted()["runtime_env"]["working_dir"]
    server = JobServer(JobSubmissionClient().get_address())
    number = 1
    while True:
        arguments = attempt_arguments(attempt, job_id=job_id, number=number, package=package)
        job = _run_attempt(server, arguments)
        if is_final(job) or number > retries:
            return job
        reason = f"exit code {job.driver_exit_code}" if job.driver_exit_code else "its node is lost"
        text = f"attempt {number} failed ({reason}); starting it again, {number} of {retries}"
        _print(f"{job.id}: {text}\n")
        sender.send("restart", text)
        number += 1


def _run_attempt(server: JobServer, arguments: dict[str, Any]) -> Job:
    """Start an attempt, and show its log until it is over; a request to stop is passed on."""
    attempt_id = arguments["submission_id"]
    try:
        with ThreadPoolExecutor(max_workers=1) as starting:  # whole, whenever the request comes
            starting.submit(server.start, arguments).result()
        return server.follow(attempt_id, _print)
    except KeyboardInterrupt:
        return server.stop(attempt_id)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
