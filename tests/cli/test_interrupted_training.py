"""A driver that is stopped or killed; the same command with --resume goes on, bit by bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from plain import assert_same_run, fit, small_run

pytestmark = pytest.mark.ray

EPOCHS = 60
STOPPED = 130


def listen_to_ctrl_c() -> None:
    """Undo what a shell does to commands that it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(folder: Path, root: Path, *more: str) -> subprocess.Popen:
    sizes = "--zdim 2 --enc-dim 16 --dec-dim 16 --enc-layers 1 --dec-layers 1 --batch-size 8"
    command = [sys.executable, "-m", "raydrgn", "train", "particles.star", "-o", str(root)]
    settings = ["--epochs", str(EPOCHS), "--set", "resources.cpus=1"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.Popen(
        [*command, *sizes.split(), *settings, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        preexec_fn=listen_to_ctrl_c,
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    for _ in range(4000):
        if path.exists():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")


def last_state(root: Path) -> Path:
    """Return the newest state, once the actors of the killed command are gone too."""
    newest, seen = None, time.monotonic()
    while time.monotonic() - seen < 5:
        found = max((root / "state").glob("*.pt"), key=lambda path: path.stat().st_mtime)
        if found != newest:
            newest, seen = found, time.monotonic()
        time.sleep(0.1)
    return newest


def wait_until_quiet(root):
    """Return the newest checkpoint once the workers of a killed command have ended too."""
    newest, since = last_state(root), time.monotonic()
    while time.monotonic() - since < 3:
        time.sleep(0.1)
        if last_state(root) != newest:
            newest, since = last_state(root), time.monotonic()
    return newest


def test_stopped_then_killed_then_damaged_it_ends_as_if_undisturbed(tmp_path):
    calm, root = tmp_path / "calm", tmp_path / "run"
    run = small_run(tmp_path, calm, **{"train.epochs": EPOCHS})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the worker has
    fit(run)
    torch.set_num_threads(threads)

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

    newest = wait_until_quiet(root)
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed = start(tmp_path, root, "--resume")
    said, _ = resumed.communicate(timeout=280)
    assert resumed.returncode == 0, said
    assert "its size or checksum differs" in " ".join(said.split())
    assert_same_run(calm, root, EPOCHS)
