"""The job server of a cluster: submit, list, follow and stop jobs.

It answers at the port of Ray's dashboard. How it is reached, and when the token of the cluster is
sent, is in ``raydrgn.remote.job_client``.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raydrgn.errors import ClusterError
from raydrgn.remote.address import DASHBOARD_PORT, RAY_PORT, dashboards_here, host_of
from raydrgn.remote.job import Job
from raydrgn.remote.job_attempts import ATTEMPT_OF, cancellation, new_id, supervised
from raydrgn.remote.job_client import connect, proxy_hint, token_message
from raydrgn.remote.jobs import JobSpec, write_package
from raydrgn.remote.progress_line import ProgressLine, last_progress

DEFAULT_URL = f"http://127.0.0.1:{DASHBOARD_PORT}"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

NO_AGENT = "No available agent"
"""In Ray's answer to a job that it has no dashboard agent for."""

POLL_SECONDS = 0.3
TAIL_LINES = 100
"""Lines of a log in which its last line of progress is looked for."""

MAX_FAILURES = 10
"""Attempts to read the log of a job that is over, or what is known of one."""

PENDING_SECONDS = 5.0
"""Time in which a job that is to stop may still begin, before it is cancelled."""


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

    def submit(
        self, spec: JobSpec, *, folder: str, retries: int = 0, notify: str | None = None
    ) -> str:
        """Send a job and this package; return the id of the job, without waiting for it.

        Args:
            spec: The job.
            folder: Where its command runs.
            retries: How often it is started again after a lost node or a crash.
            notify: URL for notices of its start and its end.
        """
        job_id = new_id(spec.words[0])
        with self._explained(), tempfile.TemporaryDirectory() as scratch:
            package = Path(scratch) / "raydrgn.zip"
            write_package(package)
            arguments = spec.submit_arguments(job_id=job_id, folder=folder, package=package)
            if retries or notify:
                arguments = supervised(arguments, retries=retries, notify=notify)
            self._client.submit_job(**arguments)
        return job_id

    def start(self, arguments: Mapping[str, Any]) -> None:
        """Start a job with the arguments of Ray's ``submit_job``."""
        with self._explained():
            self._client.submit_job(**arguments)

    def jobs(self, *, with_drivers: bool = False) -> list[Job]:
        """Return all jobs that were submitted to the cluster, the newest last.

        Attempts of a job that is started again are not listed beside it.

        Args:
            with_drivers: Return also the commands that joined the cluster by its address.
        """
        with self._explained():
            found = list(map(Job.of, self._client.list_jobs()))
        listed = [
            job
            for job in found
            if ATTEMPT_OF not in job.metadata and (job.is_submitted or with_drivers)
        ]
        return sorted(listed, key=lambda job: job.began or 0.0)

    def progress(self, job: Job) -> ProgressLine | str | None:
        """Return how far a running job is by its log, or what it waits for; None if not known."""
        if job.status != "RUNNING" or not job.is_submitted:
            return None
        where = {"submission_id": job.id, "node_id": job.node_id, "lines": TAIL_LINES}
        with self._explained(job.id):
            answer = self._client._do_request("GET", "/api/v0/logs/file", params=where)
        return last_progress(answer.text) if answer.ok else None

    def job(self, job_id: str) -> Job:
        """Return what is known of a job."""
        with self._explained(job_id):
            return Job.of(self._client.get_job_info(job_id))

    def logs(self, job_id: str) -> str:
        """Return the log of a job so far."""
        with self._explained(job_id):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str, write: Callable[[str], object]) -> Job:
        """Write the log of a job, from its beginning, until the job is over; return how it ended.

        After a broken connection the log goes on where it was.

        Raises:
            ClusterError: If there is no such job, or the server has refused several times on end.
        """
        import aiohttp

        shown, failures, refused = 0, 0, 0
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
            try:
                job = self.job(job_id)
            except ClusterError:  # a server that is busy, or starts anew
                refused += 1
                if refused >= MAX_FAILURES:
                    raise
                time.sleep(POLL_SECONDS)
                continue
            refused = 0
            # The log of a job that is over may be gone, with the node that it was on.
            if job.is_over and (failures == 0 or failures >= MAX_FAILURES):
                return job

    def stop(self, job_id: str) -> Job:
        """Ask a job to stop, and wait until it has; one that is over stays as it is.

        Ray itself stops a job only once it has begun. One that still waits for resources is
        cancelled on the cluster, by a job that needs none.
        """
        job = self.job(job_id)
        if job.is_over:
            return job
        asked = time.monotonic()
        with self._explained(job_id):
            self._client.stop_job(job_id)
        while not (job := self.job(job_id)).is_over:
            if job.status == "PENDING" and time.monotonic() - asked > PENDING_SECONDS:
                self._cancel(job_id)
                asked = time.monotonic()
            time.sleep(POLL_SECONDS)
        return job

    def _cancel(self, job_id: str) -> None:
        """Cancel a job that has not begun."""
        name = new_id("cancel")
        with self._explained(job_id), tempfile.TemporaryDirectory() as scratch:
            package = Path(scratch) / "raydrgn.zip"
            write_package(package)
            self._client.submit_job(**cancellation(job_id, name=name, package=package))
            while not (cancelling := self.job(name)).is_over:
                time.sleep(POLL_SECONDS)
            if cancelling.status == "FAILED":
                raise ClusterError(f"{job_id} could not be cancelled: {cancelling.message}")

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
            if NO_AGENT in str(error):
                raise ClusterError(
                    f"The cluster at {self.url} cannot start jobs: the dashboard agent of its head "
                    "does not run. Most often its port is taken by another Ray on that machine: "
                    "start it with `ray start --head --dashboard-agent-listen-port PORT` and a "
                    "free port (see cluster/README.md). Of a cluster that has just been started, "
                    "try again."
                ) from error
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ClusterError(f"The job server at {self.url} refuses: {last}") from error


def server_url(address: str | None) -> str:
    """Return where the job server is: at the address given, or named by Ray's variables, or here.

    Raises:
        ClusterError: If the address is one of another kind.
    """
    given = [address, *map(os.environ.get, ADDRESS_VARIABLES)]
    where = next((text.strip() for text in given if text and text.strip()), "auto")
    if where == "auto":
        return _only_url_here()
    scheme, separator, _ = where.partition("://")
    host = host_of(where if separator else f"//{where}")
    if not host or (separator and scheme not in ("http", "https")):
        raise ClusterError(
            f"{where} is not the address of a job server, which takes the form "
            f"http://{host or 'HOST'}:{DASHBOARD_PORT}: host and port of Ray's dashboard."
        )
    if separator:
        return where.rstrip("/")
    has_port = urlsplit(f"//{where}").netloc.rpartition("]")[2].count(":") > 0
    return f"http://{where}" if has_port else f"http://{where}:{DASHBOARD_PORT}"


def named_server_url() -> str | None:
    """Return where the job server is that one of Ray's variables names; None if none does."""
    given = [os.environ.get(name, "").strip() for name in ADDRESS_VARIABLES]
    return server_url(None) if any(text and text != "auto" for text in given) else None


def _only_url_here() -> str:
    """Return where the job server of this machine is, if there is no more than one."""
    number = dashboards_here()
    if number > 1:
        raise ClusterError(
            f"{number} Ray clusters with a dashboard run on this machine. Name one with --address "
            "or RAY_ADDRESS: the address of its dashboard, as `ray start` has printed it."
        )
    return DEFAULT_URL


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
