"""Joining a Ray cluster, or starting one on this machine for the length of a command.

With no address, a command starts Ray here and stops it at the end; Ray's own ``ray stop``, which
ends every Ray process of the machine by its name, is never called.
"""

import logging
import os
import re
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from raydrgn.errors import ClusterError
from raydrgn.own_folder import can_be_written
from raydrgn.remote import turn
from raydrgn.remote.address import RayAddress, ray_address
from raydrgn.remote.environment import TOKEN_VARIABLES
from raydrgn.remote.resources import cores_here
from raydrgn.remote.temporary_folder import log_folder, ray_folder

log = logging.getLogger(__name__)

SPARE_CPUS = 2
"""Logical CPUs beside those of workers, for the tasks that read and prepare particles."""

SPARE_RESOURCE = "raydrgn_spare_cpus"
"""Resource that counts the spare CPUs of a Ray that a command has started."""

INIT_OPTIONS: dict[str, Any] = {
    "namespace": "raydrgn",
    "log_to_driver": False,
    "logging_level": "ERROR",
}

NICENESS_VARIABLE = "RAY_worker_niceness"
"""Where Ray looks for the niceness of its workers, 15 by default: beside a program that has all
cores, as RELION may, such workers get some 3 % of them (docs/scaling.md)."""

TOKEN_REFUSED = "InvalidAuthToken"
"""What Ray prints, again and again, if the token of a cluster is missing or wrong."""


SEVERAL_INSTANCES = re.compile(r"multiple active Ray instances: \{(.*?)\}")


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Join the cluster at ``address`` or ``RAY_ADDRESS``, or start one here, and leave it after.

    However the block ends, by an error or an interrupt too, a Ray that was started here has ended
    after it. Inside a process that is connected already, this does nothing.

    Raises:
        ClusterError: If no cluster answers at the address, or Ray cannot start here.
    """
    _quieten()
    import ray

    if ray.is_initialized():
        yield
        return
    cluster = ray_address(address)
    if cluster is not None:
        cluster.check()
    try:
        with _interrupt_afterwards():
            if cluster is None:
                _start_here()
            else:
                _join(cluster)
        yield
    finally:
        turn.leave()
        ray.shutdown()


def _join(cluster: RayAddress) -> None:
    import ray

    with _captured_stderr() as printed:
        try:
            context = ray.init(address=cluster.text, **INIT_OPTIONS)
            if context.dashboard_url:  # its Train tab shows what is tracked
                os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
        except Exception as error:  # Ray raises plain ones too
            if TOKEN_REFUSED in printed():
                raise ClusterError(
                    f"The cluster at {cluster.text} wants a token, and this process has none or "
                    "another. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) "
                    "to the token with which its head was started."
                ) from error
            if several := SEVERAL_INSTANCES.search(str(error)):
                raise ClusterError(
                    f"Several Ray clusters run on this machine, at {several[1]}: {cluster.text} "
                    f"from {cluster.source} does not say which is meant. Give its address, "
                    "HOST:PORT."
                ) from error
            raise ClusterError(
                f"No Ray at {cluster.text}: {_first_line(error)}. The address comes from "
                f"{cluster.source}. {cluster.remedy}"
            ) from error


def _start_here() -> None:
    import ray

    folder = ray_folder()
    _ensure_token()
    os.environ.setdefault(NICENESS_VARIABLE, "0")
    try:
        ray.init(
            address="local",
            num_cpus=cores_here() + SPARE_CPUS,
            num_gpus=gpus_here(),
            resources={SPARE_RESOURCE: SPARE_CPUS},
            include_dashboard=False,
            _temp_dir=folder,
            **INIT_OPTIONS,
        )
    except Exception as error:
        raise ClusterError(
            f"Ray could not be started here: {_first_line(error)}. The usual causes are limits: of "
            f"processes (ulimit -u: {_limit('NPROC')}), of open files (ulimit -n: "
            f"{_limit('NOFILE')}; 65535 is ample), of memory, or a full disk. Ray's log: "
            f"{log_folder(folder)}."
        ) from error


def _ensure_token() -> None:
    """Name a token for the Ray of this process, where Ray could keep none in the home folder."""
    kept = Path(os.path.expanduser("~/.ray/auth_token"))
    if any(map(os.environ.get, TOKEN_VARIABLES)) or kept.exists() or can_be_written(kept.parent):
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def gpus_here() -> int:
    """Return the GPUs that this process may use: those in CUDA_VISIBLE_DEVICES, if it is set.

    CUDA takes an id of -1 for the end of that list, which Ray would count as a GPU.
    """
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    gpus: int = manager.get_current_node_num_accelerators()
    visible = manager.get_current_process_visible_accelerator_ids()
    if visible is None:
        return gpus
    return min(gpus, len(list(takewhile(lambda name: name.strip() != "-1", visible))))


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Keep what Ray's C++ code prints from the terminal; yield a function that returns it."""
    with tempfile.TemporaryFile() as file:

        def printed() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield printed
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _limit(name: str) -> str:
    """Return a limit of this process as the shell shows it."""
    import resource

    limit, _ = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


@contextmanager
def _interrupt_afterwards() -> Iterator[None]:
    """Let a first Ctrl-C wait until the block has ended; a second one interrupts at once.

    Interrupted half-way, Ray forgets processes that it has started.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    interrupted = False

    def remember(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt


def _quieten() -> None:
    """Keep Ray's messages in its log files; raydrgn reports what users need to know."""
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of calls that nobody waits for
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from ray._private import worker

    worker.print_to_stdstream = _keep_in_log


def _keep_in_log(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    """Keep what raylets send to all drivers of a cluster out of this one's output.

    No option of Ray does: it prints them, to the drivers of other jobs too where a node is lost.
    They are in Ray's log files, and raydrgn itself reports what was lost.
    """
    log.debug("%s", "\n".join(map(str, data.get("lines", ()))))


def session_log_folder() -> str:
    """Return the folder of Ray's logs on this machine, of the session that is connected."""
    import ray

    node = ray._private.worker._global_node
    return str(node.get_logs_dir_path()) if node else str(log_folder(None))


def dashboard_url() -> str | None:
    """Return host and port of the dashboard of the cluster that is joined; None without one."""
    import ray

    if not ray.is_initialized():
        return None
    return ray._private.worker.get_dashboard_url() or None
