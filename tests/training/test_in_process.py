"""One worker in this process: stopped, resumed, and the same as Ray gives."""

import signal

import pytest
import torch

from plain import assert_same_run, fit, small_run
from raydrgn.data.store import Sharing
from raydrgn.errors import InputError, RaydrgnError
from raydrgn.remote.allocation import Allocation, Wanted
from raydrgn.remote.executor import IN_PROCESS, SMALL_INPUT_BYTES, Executor
from raydrgn.remote.resources import Resources
from raydrgn.training import in_process
from raydrgn.training.in_process import train_here

ONE = Allocation(1, cpus=1, gpus=0)
EPOCHS = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def undisturbed(data):
    root = data / "undisturbed"
    fit(small_run(data, root, **{"train.epochs": EPOCHS}))
    return root


class Signals:
    """Sends signals to this process while it trains."""

    def __init__(self, *, phase: str = "training", after: int = 0, number: int = 1) -> None:
        self.phase, self.after, self.left = phase, after, number

    def __call__(self, what, done, total, **_):
        if what == self.phase and done >= self.after and self.left:
            self.left -= 1
            signal.raise_signal(signal.SIGTERM)


def test_a_request_to_stop_keeps_a_checkpoint_and_the_run_goes_on(data, undisturbed, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": EPOCHS})
    before = signal.getsignal(signal.SIGTERM)
    stopped = train_here(run, ONE, progress=Signals(after=203))
    assert not stopped.finished
    assert stopped.has_checkpoint
    assert signal.getsignal(signal.SIGTERM) == before
    assert "the checkpoint is kept" in (tmp_path / "run.log").read_text().splitlines()[-1]
    assert train_here(run, ONE).finished
    assert "continues from epoch" in (tmp_path / "run.log").read_text()
    assert_same_run(undisturbed, tmp_path, EPOCHS)


def test_a_request_in_the_last_steps_is_no_less_one(data, tmp_path):
    """The last epoch is finished all the same; what would follow must not begin."""
    run = small_run(data, tmp_path, **{"train.epochs": EPOCHS})
    found = train_here(run, ONE, progress=Signals(after=203 * EPOCHS))
    assert found.finished
    assert found.stopped
    assert not found.goes_on
    assert train_here(small_run(data, tmp_path / "other", **{"train.epochs": 1}), ONE).goes_on


def test_stopped_while_particles_are_read_it_says_that_nothing_is_kept(data, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": EPOCHS})
    stopped = train_here(run, ONE, progress=Signals(phase="reading particles"))
    assert not stopped.has_checkpoint
    assert stopped.what_is_kept == "it has no checkpoint yet"
    assert "before its first checkpoint" in (tmp_path / "run.log").read_text().splitlines()[-1]


def test_a_second_request_ends_it_at_once(data, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": EPOCHS})
    with pytest.raises(KeyboardInterrupt):
        train_here(run, ONE, progress=Signals(after=203, number=2))
    assert "ended early: interrupted" in (tmp_path / "run.log").read_text().splitlines()[-1]


def test_an_image_that_was_damaged_since_is_named(data, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": 1})
    stack = data / "particles.mrcs"
    whole = stack.read_bytes()
    broken = bytearray(whole)
    broken[1024 + 7 * 1024 : 1024 + 8 * 1024] = bytes(1024)  # image 7 of 16² float32
    stack.write_bytes(broken)
    try:
        with pytest.raises(InputError, match=r"Particle 7 .*image 8 of .*--drop-bad"):
            train_here(run, ONE)
    finally:
        stack.write_bytes(whole)
    assert "ended early: " in (tmp_path / "run.log").read_text().splitlines()[-1]


def test_too_little_memory_is_said_with_what_helps(data, tmp_path, monkeypatch):
    def fill(*_, **__):
        raise torch.OutOfMemoryError

    run = small_run(data, tmp_path, **{"train.epochs": 1})
    monkeypatch.setattr("raydrgn.training.in_process.make_loop", fill)
    with pytest.raises(RaydrgnError, match=r"out of memory on the GPU\. A smaller --batch-size"):
        train_here(run, ONE)


def test_a_gpu_that_another_process_has_for_itself_is_said(data, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise torch.AcceleratorError(
            "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nSearch for …"
        )

    run = small_run(data, tmp_path, **{"train.epochs": 1})
    monkeypatch.setattr("raydrgn.training.in_process.make_loop", refuse)
    with pytest.raises(RaydrgnError, match=r"^The GPU takes no further process: "):
        train_here(run, ONE)
    assert "ended early: The GPU takes no" in (tmp_path / "run.log").read_text().splitlines()[-1]


def test_what_was_found_of_a_full_gpu_is_said_as_it_is(data, tmp_path, monkeypatch):
    def fill(*_, **__):
        raise RaydrgnError("Training ran out of memory on the GPU. One particle needs 3 GB.")

    run = small_run(data, tmp_path, **{"train.epochs": 1})
    monkeypatch.setattr("raydrgn.training.in_process.make_loop", fill)
    with pytest.raises(RaydrgnError, match=r"on the GPU\. One particle needs 3 GB\."):
        train_here(run, ONE)


def here(executor, *, input_bytes=0, **resources):
    wanted = Wanted(resources=Resources(**resources))
    return executor.one_worker_here(wanted, input_bytes)


def test_with_a_part_of_a_gpu_it_takes_that_part_of_the_memory(data, tmp_path, monkeypatch):
    taken = []

    def own_store(*arguments, room, **others):
        taken.append(room.sharing)
        raise InputError("enough")

    monkeypatch.setattr(in_process, "default_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(in_process, "own_store", own_store)
    run = small_run(data, tmp_path)
    for gpus in (0.25, 1.0, 2.0):
        with pytest.raises(InputError, match="enough"):
            train_here(run, Allocation(1, cpus=1, gpus=gpus))
    assert taken == [Sharing(1, 0.25), Sharing(), Sharing()]


def test_small_inputs_of_one_worker_need_no_ray(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    executor = Executor()
    assert here(executor, num_workers=1).num_workers == 1
    assert here(executor, num_workers=1, cpus=1) == Allocation(1, 1, 0)
    assert here(executor, num_workers=2, cpus=1) is None
    assert here(executor, num_workers=1, input_bytes=SMALL_INPUT_BYTES) is None
    assert here(IN_PROCESS, num_workers=1, input_bytes=SMALL_INPUT_BYTES)
    assert here(Executor(address="ray://head:10001"), num_workers=1) is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert here(Executor(), num_workers=1) is None
    assert here(IN_PROCESS, num_workers=1)
