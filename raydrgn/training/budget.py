"""How often a run may fail: a number of times without progress, and no limit with it."""

from raydrgn.run.directory import Position

MAX_FAILURES = 3


class FailureBudget:
    """Counts failures since the run last got further; a checkpoint made since begins anew.

    Machines that are preempted with notice are no failures, and are not counted.
    """

    def __init__(self, limit: int = MAX_FAILURES) -> None:
        self._limit = limit
        self._count = 0
        self._position = Position(0, 0)

    def allows_another_try(self, newest_checkpoint: Position) -> bool:
        """Count a failure, and return whether the run is worth another try.

        Args:
            newest_checkpoint: Where the run would go on.
        """
        if newest_checkpoint > self._position:
            self._count, self._position = 0, newest_checkpoint
        self._count += 1
        return self._count <= self._limit
