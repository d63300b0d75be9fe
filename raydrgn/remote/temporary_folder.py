"""The folder in which a Ray that a command starts has its sockets, logs and spilled objects.

Ray takes ``ray`` in RAY_TMPDIR, TMPDIR or /tmp. On shared machines that fails in two ways: a batch
system's TMPDIR is too long for a socket, and ``/tmp/ray`` may belong to another user. A short
folder of the user's own serves then.
"""

import logging
import os
from pathlib import Path

from raydrgn.errors import ClusterError
from raydrgn.own_folder import make_own

log = logging.getLogger(__name__)

MAX_SOCKET_PATH = 107
"""Bytes of the path of a Unix socket."""

SOCKET_BELOW = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray adds to its folder; process numbers have up to seven digits."""

OWN_FOLDERS = ("/tmp", "/var/tmp")


def ray_folder() -> str | None:
    """Return the folder that Ray is to use, or None for Ray's own choice.

    Raises:
        ClusterError: If no folder can be used; names the remedy.
    """
    if not Path("/proc").is_dir():  # Linux alone
        return None
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "")
    chosen = Path(os.environ.get(variable) or "/tmp", "ray")
    reason = _unusable(chosen)
    if not reason:
        return None
    source = f" (from {variable})" if variable else ""
    for parent in OWN_FOLDERS:
        own = Path(parent, f"ray-{os.getuid()}", "ray")  # Ray opens its folder to everyone
        if make_own(own.parent):
            log.warning("Ray cannot use %s%s: %s. It uses %s instead.", chosen, source, reason, own)
            return str(own)
    longest = MAX_SOCKET_PATH - len(SOCKET_BELOW) - len("/ray")
    raise ClusterError(
        f"Ray cannot be started here: its folder would be {chosen}{source}, and {reason}. Set "
        f"RAY_TMPDIR to a folder of your own whose path has at most {longest} characters."
    )


def log_folder(folder: str | None) -> Path:
    """Return where Ray's log is, given what ``ray_folder`` returned."""
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(folder or Path(chosen, "ray"), "session_latest", "logs")


def _unusable(folder: Path) -> str:
    """Return why Ray cannot use a folder, or an empty string."""
    length = len(os.fsencode(f"{folder}{SOCKET_BELOW}"))
    if length > MAX_SOCKET_PATH:
        return (
            f"paths of sockets may have {MAX_SOCKET_PATH} bytes, and there they would have {length}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"it cannot be made ({error.strerror})"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "it belongs to another user"
