"""Commands that were started from the page: jobs of a cluster, or processes of this machine.

Where a cluster is connected, a command is submitted to it as `raydrgn submit` does. Else it is a
process that ends with the server, stopped as Ctrl-C would. Each has a record below the run, and
a process its log.
"""

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.explore.interfaces import Command
from raydrgn.explore.job_records import JobRecords, Record
from raydrgn.explore.run_files import RunFiles
from raydrgn.io import storage, uri
from raydrgn.io.storage import Uri
from raydrgn.remote.job import EXIT_STOPPED, Job, as_dict
from raydrgn.remote.job_attempts import new_id
from raydrgn.remote.jobs import PROGRAM, STOP_ENVIRONMENT, JobSpec, folder_here
from raydrgn.remote.jobserver import JobServer
from raydrgn.remote.process import ProcessIdentity, user_name
from raydrgn.remote.progress_line import ProgressLine, last_progress

log = logging.getLogger(__name__)

MOST_RUNNING = 4
"""Processes at a time."""

LOG_BYTES = 60_000
"""End of a log that the page gets."""

STOP_SECONDS = float(STOP_ENVIRONMENT["RAY_JOB_STOP_WAIT_TIME_S"])
KEPT_SECONDS = 1.0
"""Time for which the cluster's answer is given again, to several pages."""

JobProgress = ProgressLine | str | None
"""How far a job is, or what it waits for."""


class Jobs:
    """Starts commands, and knows those of this server and those of the cluster.

    Args:
        files: Where records and logs go.
        server_url: Returns the address of the cluster's job server; None where there is none.
    """

    def __init__(self, files: RunFiles, server_url: Callable[[], str | None]) -> None:
        self._files, self._server_url = files, server_url
        self._records = JobRecords(files)
        self._server: JobServer | None = None
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._recording: list[threading.Thread] = []  # each waits for the end of a process
        self._stop_lock = threading.Lock()
        self._stopping: set[str] = set()
        self._stops: dict[str, threading.Thread] = {}  # each waits for the end of a process
        self._not_stopped: dict[str, str] = {}  # why, by the id of the job
        self._asked = 0.0
        self._answer: tuple[list[tuple[Job, JobProgress]], str] = [], ""

    def start(self, command: Command) -> str:
        """Start a command; return its id.

        Raises:
            RaydrgnError: If the cluster refuses, too many processes run, or none can be started.
        """
        url = self._server_url()
        if url is not None:
            spec = replace(JobSpec.from_command(command.words), metadata=command.metadata)
            job_id = self._connected(url).submit(spec, folder=folder_here())
            self._records.keep(Record(job=_new(job_id, command), cluster=url))
            return job_id
        with self._lock:
            return self._start_here(command)

    def typed(self, command: Command) -> str:
        """Return what a person would type for what `start` does."""
        submits = [] if self._server_url() is None else ["submit"]
        return shlex.join([PROGRAM, *submits, *command.words])

    def listed(self) -> dict[str, Any]:
        """Return all jobs, the newest first, and where the cluster is or why it is not known."""
        url = self._server_url()
        found, problem = self._of_cluster(url)
        own = self._records.all()
        for record in own.values():
            if not record.cluster:
                job, words = record.seen()
                progress = None if job.is_over else last_progress(self._log_here(job.id))
                found.append((job, progress or words or None))
        entries = [as_dict(job, progress) for job, progress in found]
        for entry in entries:
            entry["is_own"] = entry["id"] in own
            entry["is_stopping"] = entry["id"] in self._stopping and entry["exit_code"] is None
        running = {entry["id"] for entry in entries if entry["exit_code"] is None}
        failed = [text for job_id, text in self._not_stopped.copy().items() if job_id in running]
        problem = " ".join([problem, *failed]).strip()
        entries.sort(key=lambda entry: entry["began"] or time.time(), reverse=True)
        return {"dashboard": url, "problem": problem, "jobs": entries}

    def log(self, job_id: str) -> str:
        """Return the end of the log of a job.

        Raises:
            RaydrgnError: If there is no such job.
        """
        record = self._records.all().get(job_id)
        url = self._server_url()
        if url is not None and (record is None or record.cluster):
            return self._connected(url).logs(job_id)[-LOG_BYTES:]
        if record is None:
            raise ConfigError(f"There is no job {job_id!r:.80}.")
        return self._log_here(job_id)

    def stop(self, job_id: str) -> None:
        """Ask a job that was started from a page of this run to stop, as Ctrl-C would.

        Raises:
            RaydrgnError: If it was not, or the cluster does not answer.
        """
        record = self._records.all().get(job_id)
        if record is None:
            raise ConfigError(f"{job_id!r:.80} was not started from a page of this run.")
        with self._stop_lock:
            if job_id in self._stopping:  # a second Ctrl-C would end training without a checkpoint
                return
            self._stopping.add(job_id)
            self._not_stopped.pop(job_id, None)
            try:
                self._begin_stop(job_id, record)
            except RaydrgnError:
                self._stopping.discard(job_id)
                raise

    def close(self) -> None:
        """Stop the processes, and wait until the end of each is in its record."""
        running = [name for name, process in self._processes.items() if process.poll() is None]
        if running:
            log.info(
                "stopping what was started from the page (%d); training has two minutes to write "
                "a checkpoint",
                len(running),
            )
        with self._stop_lock:
            for job_id in running:
                if job_id not in self._stopping:
                    self._stopping.add(job_id)
                    self._stop_here(job_id)
            stops = list(self._stops.values())
        for thread in (*stops, *self._recording):
            thread.join()

    def _begin_stop(self, job_id: str, record: Record) -> None:
        if job_id in self._processes:
            self._stop_here(job_id)
        elif not record.cluster:
            _interrupt(record)
        elif (url := self._server_url()) is not None:
            server = self._connected(url)
            words = server, job_id
            threading.Thread(target=self._stop_on_cluster, args=words, daemon=True).start()
        else:
            raise ConfigError(
                f"{job_id} is a job of {record.cluster}, which this explorer has not joined: "
                f"{PROGRAM} stop --address {record.cluster} {job_id}"
            )

    def _stop_here(self, job_id: str) -> None:
        """Begin to stop a process of this explorer; `close` waits for it."""
        stop = threading.Thread(target=_stop, args=(self._processes[job_id],), daemon=True)
        self._stops[job_id] = stop
        stop.start()

    def _stop_on_cluster(self, server: JobServer, job_id: str) -> None:
        try:
            server.stop(job_id)
        except RaydrgnError as error:
            log.warning("%s could not be stopped: %s", job_id, error)
            with self._stop_lock:
                self._not_stopped[job_id] = f"{job_id} could not be stopped: {error}"
                self._stopping.discard(job_id)

    def _start_here(self, command: Command) -> str:
        running = sum(process.poll() is None for process in self._processes.values())
        if running >= MOST_RUNNING:
            raise ConfigError(f"{running} commands run already; wait for the end of one.")
        if not uri.is_local(self._files.own):
            raise ConfigError(
                f"{self._files.own} is on an object store, where a log cannot grow: start the "
                "command in a terminal, or explore with a cluster."
            )
        self._files.require_there()
        job_id = new_id(command.words[0])
        process = _begin(command.words, self._records.log_file(job_id))
        try:
            self._records.keep(
                Record(
                    job=_new(job_id, command),
                    process=ProcessIdentity.of(process.pid),
                    server=ProcessIdentity.of(os.getpid()),
                )
            )
        except RaydrgnError:  # nobody would know of it
            _stop(process)
            raise
        self._processes[job_id] = process
        recording = threading.Thread(target=self._record_end, args=(job_id, process), daemon=True)
        self._recording.append(recording)
        recording.start()
        return job_id

    def _record_end(self, job_id: str, process: "subprocess.Popen[bytes]") -> None:
        code = process.wait()
        if code and (job_id in self._stopping or code in (EXIT_STOPPED, -signal.SIGINT)):
            status = "STOPPED"  # by another explorer, too
        else:
            status = "FAILED" if code else "SUCCEEDED"
        try:
            begun = self._records.all()[job_id]
            job = replace(begun.job, status=status, ended=time.time(), driver_exit_code=code)
            self._records.keep(replace(begun, job=job))
        except RaydrgnError as error:  # the run was deleted
            log.warning("the end of %s is not recorded: %s", job_id, error)

    def _log_here(self, job_id: str) -> str:
        """Return the end of the log of a process."""
        file = self._records.log_file(job_id)
        if not storage.exists(file):
            return ""
        start = max(0, storage.file_size(file) - LOG_BYTES)
        return storage.read_bytes(file, start).decode(errors="replace")

    def _of_cluster(self, url: str | None) -> "tuple[list[tuple[Job, JobProgress]], str]":
        """Return the jobs of the cluster with their progress, and why they are not known."""
        if url is None:
            return [], ""
        with self._lock:
            if time.monotonic() - self._asked > KEPT_SECONDS:
                try:
                    server = self._connected(url)
                    self._answer = [(job, server.progress(job)) for job in server.jobs()], ""
                except RaydrgnError as error:
                    self._server = None  # connected anew by the next call
                    self._answer = [], str(error)
                self._asked = time.monotonic()
            jobs, problem = self._answer
            return list(jobs), problem

    def _connected(self, url: str) -> JobServer:
        server = self._server or JobServer(url)
        self._server = server
        return server


def _new(job_id: str, command: Command) -> Job:
    return Job(
        id=job_id,
        status="RUNNING",
        command=shlex.join([PROGRAM, *command.words]),
        folder=folder_here(),
        began=time.time(),
        ended=None,
        driver_exit_code=None,
        message="",
        metadata={**command.metadata, "raydrgn.user": user_name()},
    )


def _begin(words: Sequence[str], log_file: Uri) -> "subprocess.Popen[bytes]":
    """Start a command as a process of this machine.

    Raises:
        ConfigError: If the system starts none.
    """
    storage.write_bytes(log_file, b"")
    with open(uri.local_path(log_file), "ab") as stream:
        try:
            return subprocess.Popen(
                [sys.executable, "-m", PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # the server's own Ctrl-C does not reach it
            )
        except OSError as error:
            storage.remove(log_file)
            raise ConfigError(
                f"{PROGRAM} {words[0]} cannot be started on this machine: {error.strerror}."
            ) from error


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt a process, and end it and what it has started if it goes on for two minutes."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _interrupt(record: Record) -> None:
    """Interrupt a process that another explorer has started.

    Raises:
        ConfigError: If it is of another machine, or another user.
    """
    process = record.process
    if process is None or process.is_gone:
        return
    if process.is_gone is None:
        raise ConfigError(
            f"{record.job.id} is a process of {process.host}: stop it from an explorer there."
        )
    try:
        os.kill(process.pid, signal.SIGINT)
    except OSError as error:
        raise ConfigError(
            f"{record.job.id}, a process of {record.job.owner}, cannot be stopped: "
            f"{error.strerror}."
        ) from error
