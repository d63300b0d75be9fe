"""Faults of training, tried on Ray nodes of this machine that have the CPU of one worker each.

Each trial disturbs a run in mid-epoch and compares it with the same run undisturbed and on one
process: losses to 1e-4, and one latent per particle.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from ray.cluster_utils import Cluster

from faults.trial import Result, Trial
from plain import fit, latents, small_run
from raydrgn.remote.session import connected
from raydrgn.run.metrics import epoch_rows
from raydrgn.training.prepare_run import PreparedRun

EPOCHS = 120
VALUES = {"train.epochs": EPOCHS, "train.learning_rate": 1e-4}
"""The published learning rate: with a higher one, rounding grows beyond what is compared."""

NOTICE_SECONDS = 30
ABSENCE_SECONDS = 300
TOLERANCE = 1e-4
END_SECONDS = 900


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
        """Announce that a node is preempted, and stop it when the notice has run out."""
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


def lost(calm: Path, root: Path) -> str:
    """Return how a disturbed run differs from the same run undisturbed; nothing if it does not."""
    theirs, mine = (epoch_rows(str(place / "metrics.jsonl")) for place in (calm, root))
    if [row["epoch"] for row in mine] != list(range(1, EPOCHS + 1)):
        return "epochs"
    losses = [np.array([row["total"] for row in rows]) for rows in (theirs, mine)]
    difference = float(np.abs(losses[1] / losses[0] - 1).max())
    if difference > TOLERANCE:
        return f"losses differ by {difference:.0e}"
    last, expected = latents(root, EPOCHS), latents(calm, EPOCHS)
    if last.shape != expected.shape or np.abs(last - expected).max() > 0.01 * expected.std():
        return "latents"
    return ""


def disturbed(
    folder: Path,
    *,
    workers: str,
    num_nodes: int,
    do: Callable[[TrialCluster], str],
    then: Callable[[TrialCluster], None] | None = None,
) -> Result:
    """Train, disturb the run after its second epoch, and compare its end.

    Args:
        folder: Empty; for the particles and the runs.
        workers: Number of workers, or a range.
        num_nodes: Nodes that there are at first.
        do: Disturbs, and returns what the log says when it is noticed; nothing if it says nothing.
        then: What helps, once that has been noticed.
    """
    os.environ["RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S"] = "1"
    calm = folder / "calm"
    fit(small_run(folder, calm, **VALUES))
    cluster = TrialCluster(num_nodes)
    try:
        with connected(cluster.cluster.address):
            run = Disturbed(prepare(folder, "run", workers))
            run.start()
            run.wait_for_epoch(2.3)
            began = time.monotonic()
            words = do(cluster)
            noticed = run.wait_for_line(words) - began if words else None
            if then is not None:
                then(cluster)
            reached = run.progressed[-1][1]
            recovered = run.wait_for_epoch(reached, since=began + (noticed or 0.0)) - began
            run.finish()
    finally:
        cluster.close()
    return Result(noticed=noticed, recovered=recovered, lost=lost(calm, folder / "run"))


def kill_node(cluster: TrialCluster) -> str:
    """Kill a node."""
    cluster.kill(cluster.nodes.pop())
    return AGAIN


def kill_all_but_one(cluster: TrialCluster) -> str:
    """Kill every node but one."""
    while len(cluster.nodes) > 1:
        kill_node(cluster)
    return "training with 1 worker,"


def kill_needed_node(cluster: TrialCluster) -> str:
    """Kill a node without which there is no room for the workers."""
    kill_node(cluster)
    return "waiting for room for 2 workers with 1 CPU each: there is room for 1"


def add_late(cluster: TrialCluster) -> None:
    """Add a node after longer than Ray Train itself waits for one."""
    time.sleep(ABSENCE_SECONDS)
    add_node(cluster)


def add_node(cluster: TrialCluster) -> str:
    """Add a node."""
    cluster.nodes.append(cluster.add())
    return "training with 3 workers"


def drain_node(cluster: TrialCluster) -> str:
    """Announce that a node is preempted."""
    cluster.drain(cluster.nodes.pop())
    return "training with 2 workers"


def kill_actor(title: str, words: str) -> Callable[[TrialCluster], str]:
    """Return what kills a process of Ray."""

    def do(_: TrialCluster) -> str:
        kill_process(title)
        return words

    return do


def trial(
    name: str,
    fault: str,
    workers: str,
    do: Callable[[TrialCluster], str],
    *,
    num_nodes: int,
    then: Callable[[TrialCluster], None] | None = None,
) -> Trial:
    """Describe a trial."""
    run = partial(disturbed, workers=workers, num_nodes=num_nodes, do=do, then=then)
    return Trial(name=name, fault=fault, command=f"train --workers {workers}", run=run)


AGAIN = "starting the workers again"

TRIALS = [
    trial("train-node", "a worker's machine is lost", "1-3", kill_node, num_nodes=3),
    trial("train-one", "all machines but one are lost", "1-3", kill_all_but_one, num_nodes=3),
    trial(
        "train-late",
        "a worker's machine is lost, another joins after 5 minutes",
        "2",
        kill_needed_node,
        num_nodes=2,
        then=add_late,
    ),
    trial("train-drain", "a machine is preempted", "1-3", drain_node, num_nodes=3),
    trial("train-more", "a machine is added", "1-3", add_node, num_nodes=2),
    trial(
        "train-worker",
        "a worker is killed",
        "2",
        kill_actor("RayTrainWorker", AGAIN),
        num_nodes=2,
    ),
    trial(
        "train-controller",
        "Ray Train's controller is killed",
        "2",
        kill_actor("TrainController", AGAIN),
        num_nodes=2,
    ),
    trial("train-writer", "the writer is killed", "2", kill_actor("RunWriter", ""), num_nodes=2),
    trial("train-board", "the board is killed", "2", kill_actor("ProgressBoard", ""), num_nodes=2),
]
