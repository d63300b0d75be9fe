"""Several machines of a Ray cluster on this one, each of which can be lost at any time."""

import os
import re
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # on a busy machine; before Ray

from ray.cluster_utils import Cluster

from raydrgn.remote.node_answers import TASK_NAME

STORE_BYTES = 150 * 2**20
IDLE = re.compile(rf"ray::(IDLE|\w*Agent|{TASK_NAME}|(.*:)?_Holder(\.(__init__|prepare))?)$")
"""What processes of Ray show of themselves while they do no work."""


class Machines:
    """A head without CPUs, on which commands run, and machines for their workers.

    A context manager: nothing of it is left at the end.
    """

    def __init__(self, count: int, *, cpus: int) -> None:
        self._cpus = cpus
        self._frozen: list[int] = []
        self._environment = os.environ.get("RAY_TMPDIR")
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        os.environ["RAY_TMPDIR"] = self._folder.name  # Ray notes its newest cluster there
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
            },
        )
        self.nodes = []
        for _ in range(count):
            self.add()

    def __enter__(self) -> "Machines":
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self._frozen:
            _signal(pid, signal.SIGKILL)
        self._cluster.shutdown()
        del os.environ["RAY_TMPDIR"]
        if self._environment is not None:
            os.environ["RAY_TMPDIR"] = self._environment
        self._folder.cleanup()

    @property
    def address(self) -> str:
        """Address of the cluster, as of ``RAY_ADDRESS``."""
        return self._cluster.address

    def add(self) -> None:
        """Let another machine join."""
        node = self._cluster.add_node(num_cpus=self._cpus, object_store_memory=STORE_BYTES)
        self.nodes.append(node)

    def restore(self, count: int) -> None:
        """Let machines join until there are as many again."""
        while len(self.nodes) < count:
            self.add()

    def busy(self) -> list[object]:
        """Return the machines on which a worker is at work."""
        return [node for node in self.nodes if any(_is_busy(pid) for pid in _workers(node))]

    def kill(self, node: object) -> None:
        """End everything on a machine at once, as a loss of power does."""
        for pid in [_raylet(node), *_workers(node)]:
            _signal(pid, signal.SIGKILL)
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def freeze(self, node: object) -> None:
        """Let everything on a machine stand still: connections stay open, and nothing answers."""
        pids = [_raylet(node), *_workers(node)]
        self._frozen += pids
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        self.nodes.remove(node)

    def kill_worker(self, node: object) -> None:
        """End one worker of a machine that is at work."""
        busy = [pid for pid in _workers(node) if _is_busy(pid)]
        if busy:
            _signal(busy[0], signal.SIGKILL)


def _raylet(node: object) -> int:
    return node.all_processes["raylet"][0].process.pid


def _workers(node: object) -> list[int]:
    """Return the processes of a machine's workers."""
    raylet = _raylet(node)
    with suppress(OSError):
        found = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
        return [int(pid) for pid in found if _title(int(pid)).startswith("ray::")]
    return []


def _is_busy(pid: int) -> bool:
    title = _title(pid)
    return title.startswith("ray::") and not IDLE.match(title)


def _title(pid: int) -> str:
    """Return what a process shows of itself: of a worker of Ray, what it is doing."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    return ""


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
