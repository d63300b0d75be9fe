"""A driver that is stopped or killed; the same command with --resume goes on, bit by bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plain import assert_same_run
from raydrgn.simulation.dataset import Simulation, simulate

pytestmark = pytest.mark.ray

EPOCHS = 30
STOPPED = 130


def start(folder: Path, root: Path, *more: str) -> subprocess.Popen:
    sizes = "--zdim 2 --enc-dim 16 --dec-dim 16 --enc-layers 1 --dec-layers 1 --batch-size 8"
    command = [sys.executable, "-m", "raydrgn", "train", "particles.star", "-o", str(root)]
    settings = ["--epochs", str(EPOCHS), "--workers", "2", "--set", "resources.cpus=1"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.Popen(
        [*command, *sizes.split(), *settings, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")


def test_stopped_then_killed_then_damaged_it_ends_as_if_undisturbed(tmp_path):
    simulate(str(tmp_path), Simulation(num_particles=203, box=16, snr=1.0, seed=5))
    undisturbed = start(tmp_path, tmp_path / "calm")
    assert undisturbed.wait(timeout=200) == 0, undisturbed.stdout.read()
    undisturbed.stdout.close()

    root = tmp_path / "run"
    stopped = start(tmp_path, root)
    wait_for(root / "z.2.pkl", stopped)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(timeout=120) == STOPPED
    assert "--resume" in stopped.stdout.read()
    stopped.stdout.close()

    again = start(tmp_path, root)  # without --resume, and no terminal to ask at
    assert again.wait(timeout=60) == 2
    assert "Add --resume" in again.stdout.read()
    again.stdout.close()

    finished = len(list(root.glob("z.*.pkl")))
    killed = start(tmp_path, root, "--resume")
    wait_for(root / f"z.{finished + 2}.pkl", killed)
    killed.kill()
    killed.wait(timeout=30)
    killed.stdout.close()

    newest = max((root / "state").glob("*.pt"), key=lambda path: path.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed = start(tmp_path, root, "--resume")
    said, _ = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, said
    assert "its size or checksum differs" in " ".join(said.split())
    assert_same_run(tmp_path / "calm", root, EPOCHS)
