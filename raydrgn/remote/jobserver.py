"""The job server of a cluster: submit, list, look at, follow and stop jobs.

It answers at the port of Ray's dashboard. Ray finds the token of the cluster, where there is one,
in ``RAY_AUTH_TOKEN``, ``RAY_AUTH_TOKEN_PATH`` or ``~/.ray/auth_token``; it is sent in a header and
nowhere else.
"""

import asyncio
import logging
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
from raydrgn.remote.jobs import JobSpec, write_package

DASHBOARD_PORT = 8265
DEFAULT_URL = f"http://127.0.0.1:{DASHBOARD_PORT}"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

CONNECT_SECONDS, VERSION_SECONDS, ANSWER_SECONDS = 5.0, 10.0, 90.0
"""Times after which a server is given up: to connect, to say its version, to answer anything."""

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
        """Tell whether the job has ended, in whatever way."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

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
        ClusterError: If nobody answers at the address, or the cluster wants another token. So do
            all methods.
    """

    def __init__(self, address: str | None = None) -> None:
        self.url = server_url(address)
        with self._explained(), _environment("RAY_API_SERVER_ADDRESS", self.url):
            self._client = _client(self.url)

    def submit(self, spec: JobSpec, *, folder: str) -> str:
        """Send a job and this package; return the id of the job, without waiting for it."""
        name = f"raydrgn-{spec.words[0]}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:4]}"
        with self._explained(), tempfile.TemporaryDirectory() as scratch:
            package = Path(scratch) / "raydrgn.zip"
            write_package(package)
            request = spec.request(folder=folder, package=package)
            return str(self._client.submit_job(submission_id=name, **request))

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
        """Return what a job has said so far."""
        with self._explained(job_id):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str, write: Callable[[str], object]) -> Job:
        """Write what a job says, from its beginning, until it is over; return how it ended.

        A connection that breaks is taken up again where it was.
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
        """Turn what Ray's client raises into one message that says what to do."""
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise ClusterError(_token_message(self.url, str(error))) from error
        except (ConnectionError, requests.ConnectionError, requests.Timeout) as error:
            raise ClusterError(
                f"No Ray job server answers at {self.url}. Start a cluster (ray start --head, see "
                "cluster/README.md), or name one with --address or RAY_ADDRESS: the host and port "
                f"of Ray's dashboard, {DASHBOARD_PORT} by default, and not Ray's own port 6379."
            ) from error
        except (requests.RequestException, KeyError) as error:
            raise ClusterError(f"What answers at {self.url} is no Ray job server.") from error
        except RuntimeError as error:
            if job_id is not None and "does not exist" in str(error):
                raise ClusterError(
                    f"There is no job {job_id} at {self.url}; `raydrgn jobs` lists those there are."
                ) from error
            if "Version check returned 404" in str(error):
                raise ClusterError(f"What answers at {self.url} is no Ray job server.") from error
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ClusterError(f"The job server at {self.url} refuses: {said[-1]}") from error


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
    """Writes text but for the first so many characters, which were shown before."""

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


def _client(url: str) -> Any:
    """Return a client; a server that wants a token is shown this user's, if there is one.

    Ray's client shows none unless ``RAY_AUTH_MODE`` says so, while ``ray start`` makes a head that
    wants one wherever Ray has run before.
    """
    from ray.exceptions import AuthenticationError

    make = _client_class()
    try:
        return make(url)
    except AuthenticationError:
        token = None if os.environ.get("RAY_AUTH_MODE") else _own_token()
        if not token:
            raise
        return make(url, headers={"Authorization": f"Bearer {token}"})


def _own_token() -> str:
    """Return the token from where Ray looks for it, or an empty string."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    try:
        return os.environ.get("RAY_AUTH_TOKEN") or Path(path).read_text().strip()
    except OSError:
        return ""


def _client_class() -> Any:
    """Return Ray's client, made to give up a silent server, and to keep quiet."""
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Client(JobSubmissionClient):  # type: ignore[misc]
        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            answer = VERSION_SECONDS if endpoint == "/api/version" else ANSWER_SECONDS
            options.setdefault("timeout", (CONNECT_SECONDS, answer))
            return super()._do_request(method, endpoint, **options)

    return Client


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for a while: Ray's client prefers its variables to its argument."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _token_message(url: str, said: str) -> str:
    if "Forbidden" in said:
        source = next(
            (name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)),
            "~/.ray/auth_token",
        )
        return (
            f"The cluster at {url} does not accept the token of {source}. Set RAY_AUTH_TOKEN_PATH "
            "(or RAY_AUTH_TOKEN) to the token with which its head was started."
        )
    if "cannot be opened" in said:
        return (
            f"RAY_AUTH_TOKEN_PATH is {os.environ.get('RAY_AUTH_TOKEN_PATH')}, which cannot be read "
            f"or is empty. It should be a file with the token of the cluster at {url}."
        )
    return (
        f"The cluster at {url} wants a token. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH "
        "(or RAY_AUTH_TOKEN) to the token with which its head was started."
    )
