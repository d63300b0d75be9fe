"""Which cluster a command joins, where its address comes from, and whether Ray answers there."""

import ipaddress
import logging
import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from raydrgn.errors import ClusterError

log = logging.getLogger(__name__)

RAY_PORT, RAY_CLIENT_PORT, DASHBOARD_PORT = 6379, 10001, 8265

ANSWER_SECONDS = 4.0
"""Time in which a port must accept a connection, and then speak gRPC, as Ray does."""

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a gRPC client sends first: HTTP/2's fixed text, and an empty SETTINGS frame."""

SETTINGS_FRAME = 4


def host_of(url: str) -> str | None:
    """Return the host that a URL names; None if there is none, or it cannot be parsed."""
    try:
        return urlsplit(url).hostname
    except ValueError:  # such as "http://[::1"
        return None


@dataclass(frozen=True, slots=True)
class RayAddress:
    """Address of a cluster to join."""

    text: str
    """As given."""

    source: str
    """``--address`` or ``RAY_ADDRESS``."""

    @property
    def remedy(self) -> str:
        """What to do if no Ray is there."""
        if self.source == "RAY_ADDRESS":
            return "Unset RAY_ADDRESS to run on this machine, or set it to a running cluster."
        return "Leave --address out to run on this machine, or give that of a running cluster."

    def check(self) -> None:
        """Check that Ray answers, in a few seconds; Ray itself would wait for many minutes.

        Raises:
            ClusterError: With the address, where it comes from, and what to do.
        """
        if self.text == "auto":  # found by Ray among the processes of this machine
            return
        is_client = self.text.startswith("ray://")
        port = RAY_CLIENT_PORT if is_client else None
        host, port = self._split(self.text.removeprefix("ray://"), port)
        try:
            with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
                speaks_grpc = os.environ.get("RAY_USE_TLS") == "1" or _speaks_grpc(connection)
        except OSError as error:
            reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or error
            raise ClusterError(
                f"No Ray at {self.text} ({reason}). The address comes from {self.source}. "
                f"{self.remedy}"
            ) from error
        if not speaks_grpc:
            raise ClusterError(
                f"What answers at {self.text} is not Ray. The address comes from {self.source}. "
                f"Ray's own port is {RAY_PORT} by default; {DASHBOARD_PORT} is that of its "
                f"dashboard and job server. {self.remedy}"
            )

    def _split(self, text: str, default_port: int | None) -> tuple[str, int]:
        try:
            parts = urlsplit(f"//{text}")
            host, port = parts.hostname, parts.port or default_port
        except ValueError:
            host, port = None, None
        if not host or port is None:
            raise ClusterError(
                f"{self.source} is {self.text}, which is not an address of Ray. It should be "
                f"HOST:PORT, such as 10.0.0.1:{RAY_PORT}. {self.remedy}"
            )
        return host, port


def ray_address(address: str | None) -> RayAddress | None:
    """Return the cluster that a command is to join, or None to run on this machine.

    ``RAY_ADDRESS`` may be the http address of a job server, for ``raydrgn submit``: that is no
    cluster to join, and the command runs on this machine, with a message.

    Args:
        address: Value of ``--address``; ``RAY_ADDRESS`` counts if it is not given.

    Raises:
        ClusterError: If ``--address`` is that of a job server.
    """
    given, variable = (address or "").strip(), os.environ.get("RAY_ADDRESS", "").strip()
    text = given or variable
    if not text or text == "local":
        return None
    if not text.startswith(("http://", "https://")):
        return RayAddress(text, "--address" if given else "RAY_ADDRESS")
    if given:
        raise ClusterError(
            f"--address {text} is that of a job server. To run the command there as a job: raydrgn "
            f"submit --address {text} COMMAND. To join Ray itself, give HOST:{RAY_PORT}."
        )
    _report_job_server(text)
    return None


@cache  # once
def _report_job_server(url: str) -> None:
    log.warning(
        "RAY_ADDRESS is %s, a job server, which `raydrgn submit` uses; this command runs on this "
        "machine.",
        url,
    )


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine by its own addresses and names, without asking DNS."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost") or name == socket.gethostname().lower():
        return True
    try:
        number = ipaddress.ip_address(name)
    except ValueError:
        return False
    if number.is_loopback:
        return True
    family = socket.AF_INET6 if number.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((name, 0))  # possible for addresses of this machine only
        except OSError:
            return False
    return True


def dashboards_here() -> int:
    """Return how many Ray clusters with a dashboard run on this machine, whoever started them."""
    found = 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        is_dashboard = any(word.endswith(b"ray/dashboard/dashboard.py") for word in words)
        found += is_dashboard and b"--disable-frontend" not in words
    return found


def _speaks_grpc(connection: socket.socket) -> bool:
    """Return whether the server of a new connection begins HTTP/2, as every gRPC server does."""
    try:
        connection.sendall(HTTP2_PREFACE)
        head = connection.recv(9, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(head) == 9 and head[3] == SETTINGS_FRAME
