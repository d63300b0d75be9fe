"""Faults of training, tried on several Ray nodes of this machine, each with one worker's CPU.

Each trial disturbs a run in mid-epoch and compares it with the same run undisturbed: losses to
1e-4, and one latent per particle. ``python tests/faults/training.py [NAME ...]`` prints the table
of docs/faults.md, with ``tests:tests/training`` on the PYTHONPATH.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ray.cluster_utils import Cluster

from plain import fit, latents, small_run
from raydrgn.errors import RaydrgnError
from raydrgn.remote.session import connected
from raydrgn.run.metrics import epoch_rows
from raydrgn.training import elastic
from raydrgn.training.prepare_run import PreparedRun

EPOCHS = 120
VALUES = {"train.epochs": EPOCHS, "train.learning_rate": 1e-4}
"""The published learning rate: with a higher one, rounding grows beyond what is compared."""

NOTICE_SECONDS = 30
TOLERANCE = 1e-4
END_SECONDS = 900


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was done to a command, and what came of it; times in seconds."""

    fault: str
    command: str
    noticed: float | None
    recovered: float | None
    lost: str

    def row(self) -> str:
        """Return the row of the table in docs/faults.md."""
        times = [f"{t:.1f} s" if t is not None else "–" for t in (self.noticed, self.recovered)]
        return f"| {self.fault} | {self.command} | {times[0]} | {times[1]} | {self.lost} |"


HEAD = "| fault | command | noticed after | trained on after | lost |\n|---|---|---|---|---|"


class TrialCluster:
    """A head for the command, and nodes of one CPU each."""

    def __init__(self, num_nodes: int) -> None:
        self.cluster = Cluster(
            initialize_head=True,
            connect=False,
            head_node_args={"num_cpus": 0, "include_dashboard": False},
        )
        self.nodes = [self.add() for _ in range(num_nodes)]
        self.cluster.wait_for_nodes()

    def add(self):
        """Add a node."""
        return self.cluster.add_node(num_cpus=1)

    def kill(self, node) -> None:
        """Kill a node with all its processes at once, as a machine that loses its power."""
        self.cluster.remove_node(node, allow_graceful=False)

    def drain(self, node) -> None:
        """Announce that a node is taken back, and take it back when the notice has run out."""
        words = (
            f"drain-node --address {self.cluster.address} --node-id {node.node_id} "
            "--reason DRAIN_NODE_REASON_PREEMPTION --reason-message trial "
            f"--deadline-remaining-seconds {NOTICE_SECONDS}"
        )
        command = [sys.executable, "-m", "ray.scripts.scripts", *words.split()]
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        """End all nodes."""
        self.cluster.shutdown()


class Disturbed(threading.Thread):
    """A run that trains in a thread, since nodes can only be added in the main one."""

    def __init__(self, run: PreparedRun) -> None:
        super().__init__(daemon=True)
        self.prepared = run
        self.error: BaseException | None = None
        self.finished = False
        self.progressed: list[tuple[float, float]] = []

    def run(self) -> None:
        """Train."""
        from raydrgn.training import trainer

        try:
            self.finished = trainer.train(self.prepared, progress=self._show).finished
        except BaseException as error:
            self.error = error

    def _show(self, what, done, total, **_) -> None:
        if what == "training":
            self.progressed.append((time.monotonic(), done / total * EPOCHS))

    def wait_for_epoch(self, epoch: float, *, since: float = 0.0) -> float:
        """Wait for progress beyond an epoch after some time, and return when it came."""
        end = time.monotonic() + END_SECONDS
        while time.monotonic() < end:
            for moment, reached in list(self.progressed):
                if moment > since and reached >= epoch:
                    return moment
            if not self.is_alive():
                raise AssertionError(f"ended before epoch {epoch}: {self.error!r}")
            time.sleep(0.05)
        raise AssertionError(f"epoch {epoch} did not come")

    def log_text(self) -> str:
        """Return the run's log."""
        path = Path(self.prepared.root, "run.log")
        return path.read_text() if path.exists() else ""

    def wait_for_line(self, words: str, *, count: int = 1) -> float:
        """Wait until the log has a text so often, and return when that was seen."""
        end = time.monotonic() + END_SECONDS
        while time.monotonic() < end:
            if self.log_text().count(words) >= count:
                return time.monotonic()
            if not self.is_alive():
                raise AssertionError(f"ended before {words!r}: {self.error!r}\n{self.log_text()}")
            time.sleep(0.05)
        raise AssertionError(f"{words!r} did not come:\n{self.log_text()}")

    def finish(self) -> None:
        """Wait for the end of the run."""
        self.join(timeout=END_SECONDS)
        if self.error is not None:
            raise self.error
        assert self.finished, self.log_text()


def processes(title: str) -> list[int]:
    """Return the Ray processes of that title which descend from this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = (folder / "cmdline").read_bytes()
            if words.startswith(b"ray::" + title.encode()) and _descends(int(folder.name)):
                found.append(int(folder.name))
    return found


def _descends(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return False


def kill_process(title: str) -> None:
    """Kill the first process of a title."""
    os.kill(processes(title)[0], signal.SIGKILL)


def prepare(folder: Path, name: str, workers: str) -> PreparedRun:
    """Prepare a run of steps that take long enough to be disturbed in mid-epoch."""
    values = {**VALUES, "resources.num_workers": workers}
    return small_run(folder, folder / name, **values)


def compare(calm: Path, root: Path) -> str:
    """Compare a disturbed run with the same run undisturbed, and say what was lost.

    Raises:
        AssertionError: If the loss of an epoch differs, or a particle has no or two latents.
    """
    theirs, mine = (epoch_rows(str(place / "metrics.jsonl")) for place in (calm, root))
    assert [row["epoch"] for row in mine] == list(range(1, EPOCHS + 1))
    losses = [np.array([row["total"] for row in rows]) for rows in (theirs, mine)]
    difference = float(np.abs(losses[1] / losses[0] - 1).max())
    assert difference < TOLERANCE, difference
    last, expected = latents(root, EPOCHS), latents(calm, EPOCHS)
    assert last.shape == expected.shape
    np.testing.assert_allclose(last, expected, atol=1e-2 * np.abs(expected).max())
    return f"nothing; losses differ by {difference:.0e}"


def disturb(
    folder: Path,
    calm: Path,
    cluster: TrialCluster,
    *,
    name: str,
    fault: str,
    workers: str,
    do: Callable[[Disturbed], str],
    count: int = 1,
) -> Trial:
    """Run a command, disturb it after its second epoch, and compare the end.

    Args:
        folder: Of the particles, and of the run.
        calm: The same run undisturbed.
        cluster: Where it runs.
        name: Of the run directory.
        fault: What is done, in words.
        workers: Number of workers, or a range.
        do: Does it, and returns what the log says once it is noticed.
        count: How often the log says so then.
    """
    run = Disturbed(prepare(folder, name, workers))
    run.start()
    run.wait_for_epoch(2.3)
    began = time.monotonic()
    words = do(run)
    noticed = run.wait_for_line(words, count=count) - began if words else None
    reached = run.progressed[-1][1] if words else 0.0
    recovered = run.wait_for_epoch(reached, since=began + (noticed or 0.0)) - began
    run.finish()
    lost = compare(calm, folder / name)
    return Trial(
        fault=fault,
        command=f"train --workers {workers}",
        noticed=noticed,
        recovered=recovered,
        lost=lost,
    )


def trials(cluster: TrialCluster) -> dict[str, Callable[[Path, Path], Trial]]:
    """Return the trials by name; they are run in this order on one cluster of four nodes."""
    nodes = cluster.nodes

    def trial(name: str, fault: str, workers: str, do: Callable[[Disturbed], str], count: int = 1):
        def run(folder: Path, calm: Path) -> Trial:
            return disturb(
                folder, calm, cluster, name=name, fault=fault, workers=workers, do=do, count=count
            )

        return run

    def kill_worker(_: Disturbed) -> str:
        kill_process("RayTrainWorker")
        return "starting the workers again"

    def kill_writer(_: Disturbed) -> str:
        kill_process("RunWriter")
        return ""

    def kill_board(_: Disturbed) -> str:
        kill_process("ProgressBoard")
        return ""

    def kill_controller(_: Disturbed) -> str:
        kill_process("TrainController")
        return "starting the workers again"

    def kill_node(_: Disturbed) -> str:
        cluster.kill(nodes.pop())
        return "starting the workers again"

    def add_node(_: Disturbed) -> str:
        nodes.append(cluster.add())
        return "training with 3 workers"

    def drain_node(_: Disturbed) -> str:
        node = nodes.pop()
        cluster.drain(node)
        return "training with 2 workers"

    def kill_all_but_one(_: Disturbed) -> str:
        """Kill every node but one at once; that the log says one worker is how it is seen."""
        while len(nodes) > 1:
            cluster.kill(nodes.pop())
        return "training with 1 worker"

    return {
        "worker": trial("worker", "worker killed", "2", kill_worker),
        "writer": trial("writer", "writer killed", "2", kill_writer),
        "board": trial("board", "progress board killed", "2", kill_board),
        "controller": trial("controller", "Ray Train's controller killed", "2", kill_controller),
        "node": trial("node", "node of a worker killed", "1-3", kill_node),
        "added": trial("added", "node added", "1-3", add_node),
        "drained": trial("drained", "node drained, 30 s of notice", "1-3", drain_node),
        "one": trial("one", "all nodes but one killed", "1-3", kill_all_but_one),
    }


def run_trials(names: list[str], *, show: Callable[[str], object], num_nodes: int = 3) -> None:
    """Run trials of some names, all by default, and show a row of each as it ends."""
    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "1"
    os.environ["RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S"] = "1"
    elastic.GROWTH_SECONDS = 3.0
    with tempfile.TemporaryDirectory(prefix="raydrgn-faults-") as place:
        folder = Path(place)
        calm = folder / "calm"
        fit(small_run(folder, calm, **VALUES))
        cluster = TrialCluster(num_nodes)
        try:
            with connected(cluster.cluster.address):
                found = trials(cluster)
                show(HEAD)
                failed = []
                for name in names or list(found):
                    try:
                        show(found[name](folder, calm).row())
                    except (AssertionError, RaydrgnError) as error:
                        failed.append(f"{name}: {error}")
        finally:
            cluster.close()
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    logging.basicConfig(level="WARNING")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    run_trials(sys.argv[1:], show=lambda line: sys.stdout.write(f"{line}\n") and sys.stdout.flush())
