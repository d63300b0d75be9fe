"""What a job server knows of a job."""

import time
from dataclasses import dataclass, field
from typing import Any

from raydrgn.remote.progress_line import ProgressLine

EXIT_STOPPED = 130
EXIT_DEFECT = 1


@dataclass(frozen=True, slots=True)
class Job:
    """A job, or a command that has joined the cluster by its address."""

    id: str
    status: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""

    command: str
    folder: str
    """Where the command runs, if raydrgn submitted it."""

    began: float | None
    """Seconds since 1970."""

    ended: float | None
    driver_exit_code: int | None
    message: str
    is_submitted: bool = True
    metadata: dict[str, str] = field(default_factory=dict)
    """What was submitted with it, by names such as ``raydrgn.user``."""

    node_id: str = ""
    """Node that its command runs on; empty before it has begun."""

    @classmethod
    def of(cls, info: Any) -> "Job":
        """Return a job as Ray's client describes it."""
        metadata = info.metadata or {}
        return cls(
            id=str(info.submission_id or info.job_id),
            status=str(getattr(info.status, "value", info.status)),
            command=metadata.get("raydrgn.command", info.entrypoint),
            folder=metadata.get("raydrgn.folder", ""),
            began=info.start_time / 1000 if info.start_time else None,
            ended=info.end_time / 1000 if info.end_time else None,
            driver_exit_code=info.driver_exit_code,
            message=(info.message or "").strip(),
            is_submitted=bool(info.submission_id),
            metadata=metadata,
            node_id=info.driver_node_id or "",
        )

    @property
    def owner(self) -> str:
        """Who submitted it, by the name of their account; empty if it is not known."""
        return self.metadata.get("raydrgn.user", "")

    @property
    def is_over(self) -> bool:
        """Return whether the job has ended, in whatever way."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    @property
    def seconds(self) -> float | None:
        """How long the job has run so far; None if it has not begun."""
        if self.began is None:
            return None
        return max((self.ended or time.time()) - self.began, 0.0)

    @property
    def exit_code(self) -> int | None:
        """The command's own exit code; 130 if it was stopped, None while it is not over."""
        if not self.is_over:
            return None
        if self.status == "STOPPED":
            return EXIT_STOPPED
        if self.driver_exit_code is None:
            return 0 if self.status == "SUCCEEDED" else EXIT_DEFECT
        # Killed by a signal: as a shell counts it.
        return self.driver_exit_code if self.driver_exit_code >= 0 else 128 - self.driver_exit_code

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for programs."""
        return {
            "id": self.id,
            "status": self.status,
            "owner": self.owner,
            "command": self.command,
            "run": self.metadata.get("raydrgn.run", ""),
            "particles": self.metadata.get("raydrgn.particles", ""),
            "folder": self.folder,
            "began": self.began,
            "ended": self.ended,
            "seconds": self.seconds,
            "exit_code": self.exit_code,
        }


def as_dict(job: Job, progress: ProgressLine | str | None) -> dict[str, Any]:
    """Return a job as plain values, with its progress and what it waits for."""
    is_line = isinstance(progress, ProgressLine)
    return {
        **job.to_dict(),
        "progress": progress.to_dict() if isinstance(progress, ProgressLine) else None,
        "waits": None if is_line else progress,
    }
