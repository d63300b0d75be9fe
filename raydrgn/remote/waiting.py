"""What is logged each minute while no worker can start."""

import logging
import time

from raydrgn.remote.session import Allocation

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0


class WaitingLog:
    """Logs each minute what a worker is waiting for."""

    def __init__(self, allocation: Allocation) -> None:
        self._allocation = allocation
        self.restart()

    def restart(self) -> None:
        """Begin to wait."""
        self._due = time.monotonic() + INTERVAL_SECONDS

    def log_if_due(self) -> None:
        """Log what is waited for, if there has been no worker for a minute."""
        if time.monotonic() >= self._due:
            self.restart()
            able, machines = self._machines()
            where = f"{able} of {machines} machines have as many, and are in use or not ready"
            log.warning("waiting for a worker: it needs %s; %s", self._needs(), where)

    def log_if_impossible(self) -> None:
        """Log what is waited for, once a minute at most, if no machine is left that has it."""
        if time.monotonic() >= self._due:
            self.restart()
            able, machines = self._machines()
            if not able:
                where = f"none of {machines} machines has as many"
                log.warning("waiting for a machine: a task needs %s; %s", self._needs(), where)

    def _needs(self) -> str:
        cpus, gpus = self._allocation.cpus, self._allocation.gpus
        return f"{cpus} CPUs and {gpus:g} GPUs" if gpus else f"{cpus} CPUs"

    def _machines(self) -> tuple[int, int]:
        """Return how many machines of the cluster are large enough, and how many there are."""
        import ray

        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        wanted = {"CPU": self._allocation.cpus, "GPU": self._allocation.gpus}
        able = [node for node in there if all(node.get(name, 0) >= n for name, n in wanted.items())]
        return len(able), len(there)
