"""A driver that is stopped or killed; the same command with --resume goes on, bit by bit."""

import getpass
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plain import assert_same_run, fit, small_run

EPOCHS = 150
STOPPED = 130


def start(folder: Path, root: Path, *more: str) -> subprocess.Popen:
    sizes = "--zdim 2 --enc-dim 16 --dec-dim 16 --enc-layers 1 --dec-layers 1 --batch-size 8"
    sizes += " --no-amp"  # as small_run
    command = [sys.executable, "-m", "raydrgn", "train", "particles.star", "-o", str(root)]
    settings = ["--epochs", str(EPOCHS), "--workers", "1", "--cpus-per-worker", "1"]
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
    for _ in range(4000):
        if path.exists():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")


def read(process: subprocess.Popen) -> str:
    """Wait for the end of a command, and return all that it has printed, as one line."""
    printed, _ = process.communicate(timeout=600)
    return " ".join(printed.split())


@pytest.mark.clusters
def test_stopped_then_damaged_then_killed_it_ends_as_if_undisturbed(tmp_path):
    """Each command goes on at once where the one before ended, however that was."""
    calm, root = tmp_path / "calm", tmp_path / "run"
    run = small_run(tmp_path, calm, **{"train.epochs": EPOCHS})
    fit(run)

    stopped = start(tmp_path, root)
    wait_for(root / "z.2.pkl", stopped)
    stopped.send_signal(signal.SIGTERM)  # as schedulers do; Ctrl-C is the same from here on
    printed = read(stopped)
    assert stopped.returncode == STOPPED, printed
    assert "--resume" in printed
    assert "training stopped on request" in (root / "run.log").read_text().splitlines()[-1]

    newest = max((root / "state").glob("*.pt"), key=lambda path: path.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-100])
    finished = len(list(root.glob("z.*.pkl")))
    killed = start(tmp_path, root, "--resume")
    wait_for(root / f"z.{finished + 2}.pkl", killed)
    second = start(tmp_path, root, "--resume")  # while the first one trains
    refused = read(second)
    assert second.returncode == 2, refused
    assert f"is in use by {getpass.getuser()} on" in refused
    assert f"process {killed.pid}" in refused
    killed.kill()
    assert "its size or checksum differs" in read(killed)

    resumed = start(tmp_path, root, "--resume")
    printed = read(resumed)
    assert resumed.returncode == 0, printed
    assert "the command before this one ended without a word" in printed
    assert_same_run(calm, root, EPOCHS)
    assert not list(root.glob("claim.*"))
