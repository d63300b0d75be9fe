"""Records of the jobs that were started from pages of a run, by whichever explorer of it.

Each is a file below the run, so that two explorers, or a later one, show the same jobs.
"""

import json
import logging
import threading
from dataclasses import asdict, dataclass, replace

from raydrgn.errors import RaydrgnError
from raydrgn.explore.run_files import JOBS, RunFiles
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.remote.job import Job
from raydrgn.remote.process import ProcessIdentity

log = logging.getLogger(__name__)

SUFFIX = ".json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A job that was started from a page."""

    job: Job
    """As it was begun, and as it ended if it was a process."""

    cluster: str = ""
    """Address of the job server that it was sent to; empty for a process of a machine."""

    process: ProcessIdentity | None = None
    """The process, if it is one."""

    server: ProcessIdentity | None = None
    """The explorer that started it, and records the end of the process."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more is recorded of it."""
        return bool(self.cluster) or self.job.is_over

    def seen(self) -> tuple[Job, str]:
        """Return a process as it can be seen from here, and what is to be added in words.

        One whose explorer has ended without recording its end is found by its number; what it
        ended with is not known then.
        """
        if self.is_final or (self.server is not None and self.server.is_gone is False):
            return self.job, ""
        is_gone = self.process.is_gone if self.process is not None else True
        if is_gone is None:
            assert self.process is not None
            return self.job, f"on {self.process.host}, when it was last heard of"
        if not is_gone:
            return self.job, ""
        message = "The explorer that started it was killed; how it ended is in its log."
        return replace(self.job, status="FAILED", message=message), message


class JobRecords:
    """Writes records of jobs, and reads those of other explorers again while they can change."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._found: dict[str, Record] = {}
        self._damaged: set[str] = set()
        self._lock = threading.Lock()

    def keep(self, record: Record) -> None:
        """Write the record of a job.

        Raises:
            RaydrgnError: If it cannot be written; it is known to this explorer all the same.
        """
        with self._lock:
            self._found[record.job.id] = record
            self._files.require_there()
            content = json.dumps(asdict(record), indent=1).encode()
            storage.write_bytes(self._files.at(JOBS, f"{record.job.id}{SUFFIX}"), content)

    def all(self) -> dict[str, Record]:
        """Return the records by the ids of their jobs."""
        with self._lock:
            for name in self._files.names(JOBS):
                known = self._found.get(name.removesuffix(SUFFIX))
                is_known = known is not None and known.is_final
                if name.endswith(SUFFIX) and name not in self._damaged and not is_known:
                    record = self._read(name)
                    if record is not None:
                        self._found[record.job.id] = record
            return dict(self._found)

    def log_file(self, job_id: str) -> Uri:
        """Return the file of the log of a process."""
        return self._files.at(JOBS, f"{job_id}.log")

    def _read(self, name: str) -> Record | None:
        uri = self._files.at(JOBS, name)
        try:
            raw = json.loads(storage.read_bytes(uri))
            processes = {
                key: ProcessIdentity(**raw[key]) for key in ("process", "server") if raw.get(key)
            }
            return Record(job=Job(**raw["job"]), cluster=raw["cluster"], **processes)
        except (ValueError, TypeError, KeyError):
            log.warning("%s is damaged, and left out", uri)
            self._damaged.add(name)
            return None
        except RaydrgnError as error:  # read again by the next call
            log.warning("%s is left out: %s", uri, error)
            return None
