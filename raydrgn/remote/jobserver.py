"""The job server of a cluster: submit, list, follow and stop jobs.

It answers at the port of Ray's dashboard. How it is reached, and when the token of the cluster is
sent, is in ``raydrgn.remote.job_client``.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from raydrgn.errors import ClusterError
from raydrgn.remote.address import DASHBOARD_PORT, RAY_PORT
from raydrgn.remote.job_client import connect, proxy_hint, token_message
from raydrgn.remote.jobs import JobSpec, write_package

DEFAULT_URL = f"http://127.0.0.1:{DASHBOARD_PORT}"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

POLL_SECONDS = 0.3
MAX_FAILURES = 10
"""Attempts to read the log of a job that is over."""

PENDING_SECONDS = 10.0
"""Time to wait for a job that is to stop before it has begun."""

EXIT_STOPPED = 130
EXIT_DEFECT = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What the server knows of a job."""

    id: str
    status: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""

    command: str
    folder: str
    """Where the command runs, if raydrgn submitted it."""

    began: float | None
    """Seconds since 1970."""

    ended: float | None
    driver_exit_code: int | None
    message: str

    @property
    def is_over(self) -> bool:
        """Return whether the job has ended, in whatever way."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    @property
    def seconds(self) -> float | None:
        """How long the job has run so far; None if it has not begun."""
        if self.began is None:
            return None
        return max((self.ended or time.time()) - self.began, 0.0)

    @property
    def exit_code(self) -> int | None:
        """The command's own exit code; 130 if it was stopped, None while it is not over."""
        if not self.is_over:
            return None
        if self.status == "STOPPED":
            return EXIT_STOPPED
        if self.driver_exit_code is None:
            return 0 if self.status == "SUCCEEDED" else EXIT_DEFECT
        # Killed by a signal: as a shell counts it.
        return self.driver_exit_code if self.driver_exit_code >= 0 else 128 - self.driver_exit_code


class JobServer:
    """Connection to the job server of one cluster.

    Raises:
        ClusterError: If no job server answers at the address, or the cluster wants another token;
            by all methods.
    """

    def __init__(self, address: str | None = None) -> None:
        self.url = server_url(address)
        with self._explained():
            self._client = connect(self.url)

    def submit(self, spec: JobSpec, *, folder: str) -> str:
        """Send a job and this package; return the id of the job, without waiting for it."""
        name = f"raydrgn-{spec.words[0]}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:4]}"
        with self._explained(), tempfile.TemporaryDirectory() as scratch:
            package = Path(scratch) / "raydrgn.zip"
            write_package(package)
            arguments = spec.submit_arguments(folder=folder, package=package)
            return str(self._client.submit_job(submission_id=name, **arguments))

    def jobs(self) -> list[Job]:
        """Return all jobs that were submitted to the cluster, the newest last."""
        with self._explained():
            found = [_job(info) for info in self._client.list_jobs() if info.submission_id]
        return sorted(found, key=lambda job: job.began or 0.0)

    def job(self, job_id: str) -> Job:
        """Return what is known of a job."""
        with self._explained(job_id):
            return _job(self._client.get_job_info(job_id))

    def logs(self, job_id: str) -> str:
        """Return the log of a job so far."""
        with self._explained(job_id):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str, write: Callable[[str], object]) -> Job:
        """Write the log of a job, from its beginning, until the job is over; return how it ended.

        After a broken connection the log goes on where it was.
        """
        import aiohttp

        shown, failures = 0, 0
        self.job(job_id)  # a job that is not there ends here, not in a closed connection
        while True:
            rest = _Skip(shown, write)
            try:
                asyncio.run(self._tail(job_id, rest))
                failures = 0
            except (aiohttp.ClientError, RuntimeError, OSError):
                failures += 1
                time.sleep(POLL_SECONDS)
            shown = max(shown, rest.seen)
            job = self.job(job_id)
            # The log of a job that is over may be gone, with the node that it was on.
            if job.is_over and (failures == 0 or failures >= MAX_FAILURES):
                return job

    def stop(self, job_id: str) -> Job:
        """Ask a job to stop, and wait until it has; one that is over stays as it is.

        A job that waits for resources ends only when it gets them: it is returned as PENDING.
        """
        job = self.job(job_id)
        if job.is_over:
            return job
        asked = time.monotonic()
        with self._explained(job_id):
            self._client.stop_job(job_id)
        while not (job := self.job(job_id)).is_over:
            if job.status == "PENDING" and time.monotonic() - asked > PENDING_SECONDS:
                return job
            time.sleep(POLL_SECONDS)
        return job

    async def _tail(self, job_id: str, write: Callable[[str], object]) -> None:
        async for text in self._client.tail_job_logs(job_id):
            write(text)

    @contextmanager
    def _explained(self, job_id: str | None = None) -> Iterator[None]:
        """Turn what Ray's client raises into one message with a remedy."""
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise ClusterError(token_message(self.url, str(error))) from error
        except (ConnectionError, requests.ConnectionError, requests.Timeout) as error:
            remedy = proxy_hint(self.url) or (
                " Start a cluster (ray start --head, see cluster/README.md), or give the address "
                "of one with --address or RAY_ADDRESS: the host and port of Ray's dashboard, "
                f"{DASHBOARD_PORT} by default, not Ray's own port {RAY_PORT}."
            )
            raise ClusterError(f"No Ray job server answers at {self.url}.{remedy}") from error
        except (requests.RequestException, KeyError) as error:
            raise ClusterError(f"What answers at {self.url} is no Ray job server.") from error
        except RuntimeError as error:
            if job_id is not None and "does not exist" in str(error):
                raise ClusterError(
                    f"There is no job {job_id} at {self.url}; `raydrgn jobs` lists those there are."
                ) from error
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ClusterError(f"The job server at {self.url} refuses: {last}") from error


def server_url(address: str | None) -> str:
    """Return where the job server is: at the address given, or named by Ray's variables, or here.

    Raises:
        ClusterError: If the address is one of another kind.
    """
    given = [address, *map(os.environ.get, ADDRESS_VARIABLES)]
    where = next((text.strip() for text in given if text and text.strip()), DEFAULT_URL)
    if where == "auto":
        return DEFAULT_URL
    scheme, separator, _ = where.partition("://")
    host = urlsplit(where if separator else f"//{where}").hostname
    if not host or (separator and scheme not in ("http", "https")):
        raise ClusterError(
            f"{where} is not the address of a job server, which takes the form "
            f"http://{host or 'HOST'}:{DASHBOARD_PORT}: host and port of Ray's dashboard."
        )
    if separator:
        return where.rstrip("/")
    has_port = urlsplit(f"//{where}").netloc.rpartition("]")[2].count(":") > 0
    return f"http://{where}" if has_port else f"http://{where}:{DASHBOARD_PORT}"


class _Skip:
    """Writes text without its first ``shown`` characters, which were written before."""

    def __init__(self, shown: int, write: Callable[[str], object]) -> None:
        self._shown = shown
        self._write = write
        self.seen = 0

    def __call__(self, text: str) -> None:
        new = text[max(self._shown - self.seen, 0) :]
        self.seen += len(text)
        if new:
            self._write(new)


def _job(info: Any) -> Job:
    metadata = info.metadata or {}
    return Job(
        id=str(info.submission_id),
        status=str(getattr(info.status, "value", info.status)),
        command=metadata.get("raydrgn.command", info.entrypoint),
        folder=metadata.get("raydrgn.folder", ""),
        began=info.start_time / 1000 if info.start_time else None,
        ended=info.end_time / 1000 if info.end_time else None,
        driver_exit_code=info.driver_exit_code,
        message=(info.message or "").strip(),
    )
