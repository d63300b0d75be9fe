"""A head with a job server that wants a token, as tests that submit jobs use it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

TOKEN = "a-token-that-nobody-may-see-0123456789abcdef"
START_SECONDS, STOP_SECONDS = 120, 5
REPORT_MS = 2000
"""Time between two reports of metrics: Ray forgets a gauge after two of them."""


@dataclass(frozen=True)
class Cluster:
    """A head of its own ports, and the environment in which it can be used."""

    url: str
    environment: dict[str, str]
    folder: Path
    """Ray's folder, with its sessions."""

    def raydrgn(self, *words, folder, **changes):
        """Run a command as a user does; return its exit code and what it wrote."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "raydrgn", *words],
            cwd=folder,
            env={**self.environment, "PWD": str(folder), "COLUMNS": "200", **changes},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def get(self, path):
        """Return what the job server says to a request with the token."""
        request = urllib.request.Request(
            f"{self.url}{path}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def wait_for_log(self, job_id, text, seconds=180):
        """Wait until a text is in the log of a job."""
        wait_until(lambda: text in self.get(f"/api/jobs/{job_id}/logs"), seconds)


def wait_until(condition, seconds=180):
    """Wait for a condition, and return what it gave; fail after a generous time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.3)
    return found


def free_ports(count):
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [item.getsockname()[1] for item in sockets]


def job_id(text):
    """Return the first id of a job in a text."""
    return re.search(r"raydrgn-\w+-\d{8}-\d{6}-\w{4}", text)[0]


@contextmanager
def head(**variables):
    """Start a head; end it by its process id, since `ray stop` would end everybody's Ray."""
    scratch = Path(tempfile.mkdtemp(prefix="rd", dir="/tmp"))  # paths of sockets must be short
    (scratch / "token").write_text(TOKEN)
    gcs, dashboard, client, agent = free_ports(4)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "COV_"))}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(scratch / "token"),
        "RAY_metrics_report_interval_ms": str(REPORT_MS),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    command = [
        f"{Path(sys.executable).parent}/ray", "start", "--head", "--num-cpus=2", f"--port={gcs}",
        f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent}", f"--temp-dir={scratch}",
        "--object-store-memory=100000000", "--disable-usage-stats", "--block",
    ]  # fmt: skip
    log = scratch / "head.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    url = f"http://127.0.0.1:{dashboard}"
    ready = Cluster(url, environment | {"RAY_ADDRESS": url}, scratch)
    try:
        _wait_until_it_answers(ready, process, log)
        yield ready
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def _wait_until_it_answers(cluster, process, log):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            cluster.get("/api/jobs/")
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Ray did not start: {log.read_text()}") from error
            time.sleep(0.2)
        else:
            return
