"""What is logged each minute while no worker can start."""

import logging
import time

from raydrgn.remote.allocation import Allocation
from raydrgn.remote.reservation import LOG_SECONDS, read_cluster

log = logging.getLogger(__name__)


class WaitingLog:
    """Logs each minute what one worker of an allocation is waiting for."""

    def __init__(self, allocation: Allocation) -> None:
        self._one = Allocation(1, allocation.cpus, allocation.gpus)
        self.restart()

    def restart(self) -> None:
        """Begin to wait."""
        self._due = time.monotonic() + LOG_SECONDS

    def log_if_due(self) -> None:
        """Log what is waited for, if there has been no worker for a minute."""
        if time.monotonic() >= self._due:
            self.restart()
            missing = self._one.missing(read_cluster())
            log.warning("waiting for %s", missing or f"a worker with {self._one.worker} to begin")

    def log_if_impossible(self) -> None:
        """Log what is waited for, once a minute at most, if no node is left that has it."""
        if time.monotonic() >= self._due:
            self.restart()
            cluster = read_cluster()
            if not cluster.up.room_for(self._one.worker):
                log.warning("waiting for %s", self._one.missing(cluster))
