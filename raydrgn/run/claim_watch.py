"""Whether a command still has a run, as seen by another command that only reads it."""

import time

from raydrgn.io.storage import Uri
from raydrgn.run.claim import STALE_SECONDS, newest_heartbeat

PATIENCE_SECONDS = 2 * STALE_SECONDS
"""Time without a heartbeat after which nobody has the run; ``submit --retries`` takes it up again
sooner, where the cluster has room."""


class ClaimWatch:
    """Follows the heartbeats of whichever commands have a run, one after the other.

    Only that they change counts, so that the clocks of two machines need not agree.
    """

    def __init__(self, root: Uri) -> None:
        self._root = root
        self._last: str | None = None
        self._changed = time.monotonic()
        self.was_held = False
        """Whether a command has had the run."""

    def is_held(self) -> bool:
        """Look at the run; return whether a command has it, or had it a moment ago."""
        heartbeat, now = newest_heartbeat(self._root), time.monotonic()
        if heartbeat is not None and heartbeat != self._last:
            self._last, self._changed, self.was_held = heartbeat, now, True
        return now - self._changed < PATIENCE_SECONDS
