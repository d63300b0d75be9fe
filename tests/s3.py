"""A real S3 server (SeaweedFS) of the tests' own, and a proxy that breaks connections off."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEY, ADMIN_KEY, SECRET = "raydrgn-tests", "raydrgn-tests-owner", "not-a-secret"
BUCKET = "facility"
START_SECONDS = 120
GRPC_OFFSET = 10_000
"""Distance at which SeaweedFS puts the gRPC port of each of its servers by default."""


@dataclass(frozen=True)
class S3Server:
    """A server that answers, and the environment of the clients that use it."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "no_proxy": "127.0.0.1",
        }


def weed() -> str | None:
    """Return the server's program, which the test extra installs beside Python."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Return ports that are free, as are those that SeaweedFS derives from them."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe, socket.socket() as derived:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            taken = {used + offset for used in found for offset in (0, GRPC_OFFSET)}
            if port + GRPC_OFFSET >= 65_536 or {port, port + GRPC_OFFSET} & taken:
                continue
            with contextlib.suppress(OSError):
                derived.bind(("127.0.0.1", port + GRPC_OFFSET))
                found.append(port)
    return found


@contextlib.contextmanager
def running_server(folder: Path) -> Iterator[S3Server]:
    """Start a server with one bucket in a folder, and end it."""
    program = weed()
    assert program is not None
    identities = [
        _identity("owner", ADMIN_KEY, ["Admin"]),  # Admin would make buckets by writing to them
        _identity("user", KEY, ["Read", "Write", "List"]),
    ]
    settings = folder / "s3.json"
    settings.write_text(json.dumps({"identities": identities}))
    master, volume, filer, s3 = free_ports(4)
    log = folder / "weed.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                *(program, "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1"),
                *("-ip.bind=127.0.0.1", f"-master.port={master}", f"-volume.port={volume}"),
                *(f"-filer.port={filer}", f"-s3.port={s3}", f"-s3.config={settings}"),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.localSocket={folder}/s3.sock"),
                *(f"-filer.localSocket={folder}/filer.sock", "-s3.iam=false"),
                *("-volume.max=20", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"),
            ],
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "HOME": str(folder)},
        )
        try:
            server = S3Server(s3)
            _make_bucket(server, process, log)
            yield server
        finally:
            process.kill()  # nothing of it is kept, and an orderly end takes half a minute
            process.wait()


def _make_bucket(server: S3Server, process: subprocess.Popen, log: Path) -> None:
    """Make the bucket, as soon as all parts of the server are there."""
    import botocore.exceptions
    import s3fs

    end = time.monotonic() + START_SECONDS
    while True:
        owner = s3fs.S3FileSystem(
            key=ADMIN_KEY, secret=SECRET, endpoint_url=server.url, skip_instance_cache=True
        )
        owner.retries = 1
        try:
            owner.mkdir(BUCKET)
            return
        except FileExistsError:  # made by a request whose answer was late
            return
        except (OSError, botocore.exceptions.BotoCoreError):
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(log.read_text(errors="replace")[-3000:]) from None
        time.sleep(0.2)


def _identity(name: str, key: str, actions: list[str]) -> dict:
    credentials = [{"accessKey": key, "secretKey": SECRET}]
    return {"name": name, "credentials": credentials, "actions": actions}


class BreakingProxy(threading.Thread):
    """Passes connections on to a server, and breaks some of them off in mid-answer."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(daemon=True)
        self._target = server.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.to_break = 0
        """Answers still to be broken off, of those longer than ``passed_on``."""

        self.passed_on = 100_000
        self.broken = 0

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            passed = 0
            with contextlib.suppress(OSError):
                while chunk := server.recv(1 << 14):
                    passed += len(chunk)
                    if self.to_break > 0 and passed > self.passed_on:
                        self.to_break -= 1
                        self.broken += 1
                        break
                    client.sendall(chunk)
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
