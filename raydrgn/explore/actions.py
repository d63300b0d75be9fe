"""What a person can start from the page; the workflow hands in what does it."""

import logging
import shlex
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.io.storage import Uri
from raydrgn.latent.conditions import Among, Conditions
from raydrgn.remote.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Actions:
    """The workflows that the page can start, by what they are for."""

    save_selection: Callable[[int | None, Uri, Uri], list[str]]
    """With epoch, file of conditions and folder: `filter` and exports; returns what to tell."""

    save_volumes: Callable[[int | None, Sequence[int], Uri], list[str]]
    """With epoch, rows and folder: `volumes`; returns those that failed."""

    analyze: Callable[[int | None, Progress], None]
    """With epoch: `analyze` without volumes."""

    train_command: Callable[[Uri], str]
    """With a file of particles to take: the command that trains on them."""


@dataclass
class Task:
    """Long work that goes on while the page is used; one at a time."""

    what: str = ""
    done: float = 0.0
    total: float = 0.0
    error: str = ""
    is_running: bool = False
    finished: int = 0
    """Tasks that have ended, for the page to see that one has."""

    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def start(self, what: str, work: Callable[[Progress], None]) -> None:
        """Begin some work.

        Raises:
            ConfigError: If other work goes on.
        """
        with self._lock:
            if self.is_running:
                raise ConfigError(f"{self.what} goes on; wait for its end.")
            self.what, self.done, self.total, self.error = what, 0.0, 0.0, ""
            self.is_running = True
        threading.Thread(target=self._work, args=(work,), daemon=True).start()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for the page."""
        names = ("what", "done", "total", "error", "is_running", "finished")
        return {name: getattr(self, name) for name in names}

    def _work(self, work: Callable[[Progress], None]) -> None:
        try:
            work(self._report)
        except RaydrgnError as error:
            self.error = str(error)
        except Exception as error:
            log.exception("%s failed", self.what)
            self.error = f"{self.what} failed: {error}"
        finally:
            self.is_running = False
            self.finished += 1

    def _report(
        self,
        what: str,
        done: float,
        total: float,
        *,
        unit: str = "",
        rate: float | None = None,
        extra: str = "",
    ) -> None:
        self.what, self.done, self.total = what, float(done), float(total)


def filter_command(
    run: Uri, epoch: int | None, conditions: Conditions, file: Uri, labels: Uri | None
) -> str:
    """Return the command that selects as conditions do.

    Args:
        run: The run.
        epoch: Its epoch.
        conditions: The conditions.
        file: Where they are, or will be, saved.
        labels: File of the column ``label``, if there is one.
    """
    words = ["raydrgn", "filter", run, *([] if epoch is None else [str(epoch)])]
    only = conditions[0].condition
    if len(conditions) == 1 and isinstance(only, Among) and only.column.startswith("kmeans"):
        is_kept = not conditions[0].join.endswith("not")
        words.append("--keep-clusters" if is_kept else "--drop-clusters")
        words += [",".join(map(str, only.values)), "--ksample", only.column.removeprefix("kmeans")]
    else:
        words += ["--conditions", file]
        words += ["--labels", labels] if labels else []
    return shlex.join(words)
