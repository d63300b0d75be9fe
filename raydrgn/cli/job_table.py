"""Jobs of a cluster as rows of text."""

from typing import TYPE_CHECKING

from raydrgn.remote.progress_line import ProgressLine, clock

if TYPE_CHECKING:
    from raydrgn.remote.job import Job

HEAD = ("job", "status", "owner", "exit", "took", "left", "progress", "command")


def row(job: "Job", progress: ProgressLine | str | None) -> tuple[str, ...]:
    """Return a job as cells below ``HEAD``."""
    left, shown = "", progress or ""
    if isinstance(progress, ProgressLine):
        left = progress.left_text
        share = f"{progress.done / progress.total:.0%}" if progress.total else ""
        parts = (progress.what, share, progress.rate_text, progress.extra)
        shown = " ".join(part for part in parts if part)
    return job.id, job.status, job.owner, exit_code(job), took(job), left, str(shown), job.command


def exit_code(job: "Job") -> str:
    """Return the exit code of a job; empty while it is not over."""
    return "" if job.exit_code is None else str(job.exit_code)


def took(job: "Job") -> str:
    """Return how long a job has run; empty before it has begun."""
    return "" if job.seconds is None else clock(job.seconds)
