"""Work in this process and on Ray: the same results, one decision, nothing left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from raydrgn.errors import InputError
from raydrgn.remote import executor
from raydrgn.remote.allocation import Cluster, Node, Size
from raydrgn.remote.executor import IN_PROCESS, MANY_BATCHES, SMALL_INPUT_BYTES, Executor

BLOCKS = [np.full(1000, value) for value in (1.0, 2.0, 4.0, 8.0, 16.0)]


@pytest.fixture(autouse=True)
def _no_cluster_in_the_environment(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def twice(value):
    return 2 * value


def refuse_odd(value):
    if value % 2:
        raise InputError(f"particle {value} is not finite.")
    return value


def visible_gpus(_):
    import ray

    return ray.get_gpu_ids(), ray.get_runtime_context().get_task_name()


def slowly(_):
    time.sleep(600)


def quick_then_slow(number):
    if number:
        slowly(number)


def norm_and_block(block, count):
    count(len(block))
    return float(np.linalg.norm(block)), block


class Power:
    """An object that workers hold."""

    def __init__(self, exponent, cpus):
        self.exponent, self.cpus, self.process = exponent, cpus, os.getpid()


def raise_to(power, batch):
    return [value**power.exponent for value in batch]


def process_of(power, _):
    return power.process


def outcomes(executor, work, items):
    with executor:
        return sorted((o.item, o.value, str(o.error)) for o in executor.map(work, items))


# --- the decision ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "input_bytes", "on_ray"),
    [
        (1, None, False),
        (1, 100 * SMALL_INPUT_BYTES, False),
        (2, 10, True),
        (None, 10, False),
        (None, SMALL_INPUT_BYTES, True),
        (None, None, False),
    ],
)
def test_ray_is_used_for_several_workers_and_for_large_inputs(workers, input_bytes, on_ray):
    assert Executor(workers=workers)._uses_ray(input_bytes) is on_ray


@pytest.mark.parametrize("asked", [{"cpus_per_worker": 2}, {"gpus_per_worker": 0.0}])
def test_what_each_worker_gets_is_given_by_ray(asked):
    assert Executor(**asked)._uses_ray(10)


@pytest.mark.parametrize(
    ("address", "variable", "on_ray"),
    [
        ("10.0.0.1:6379", "", True),
        (None, "10.0.0.1:6379", True),
        (None, "auto", True),
        ("local", "", False),
        (None, "local", False),
        (None, "http://10.0.0.1:8265", False),
        ("10.0.0.1:6379", "http://10.0.0.1:8265", True),
    ],
)
def test_a_cluster_that_is_named_is_used(monkeypatch, address, variable, on_ray):
    monkeypatch.setenv("RAY_ADDRESS", variable)
    assert Executor(workers=1, address=address)._uses_ray(10) is on_ray
    assert IN_PROCESS._uses_ray(100 * SMALL_INPUT_BYTES) is False


def machine_of(gpus):
    size = Size(64, gpus)
    return lambda: Cluster(nodes=(Node(size, size),), is_this_machine=True)


@pytest.mark.parametrize(
    ("gpus", "given", "batches", "problem", "on_ray"),
    [
        (8, {}, MANY_BATCHES, None, True),
        (8, {}, MANY_BATCHES - 1, None, False),
        (8, {}, None, None, False),
        (8, {"workers": 1}, MANY_BATCHES, None, False),
        (8, {}, MANY_BATCHES, "torch cannot use them", False),
        (1, {}, MANY_BATCHES, None, False),
        (0, {}, MANY_BATCHES, None, False),
    ],
)
def test_much_work_takes_all_gpus_of_a_machine(monkeypatch, gpus, given, batches, problem, on_ray):
    monkeypatch.setattr(executor, "this_machine", machine_of(gpus))
    assert Executor(**given)._has_work_for_gpus(batches, lambda: problem) is on_ray
    assert not Executor(**given)._has_work_for_gpus(batches, None)  # work that uses no GPUs
    assert not IN_PROCESS._has_work_for_gpus(batches, lambda: problem)


def test_later_work_asks_for_no_more_than_the_nodes_that_are_left(monkeypatch):
    left = Cluster(nodes=(Node(Size(2), Size(2)), Node(Size(2), Size(2))))
    monkeypatch.setattr(executor, "read_cluster", lambda: left)
    found = Executor(workers=5)
    wanted = found._wanted(1, None)
    assert found._after_losses(wanted) is wanted  # the first work is refused, if it does not fit
    found._has_begun = True
    assert found._after_losses(wanted).resources.num_workers == 4
    assert found.for_training().num_workers == 4
    assert found.for_training(most_workers=3).num_workers == 3


def test_the_decision_is_made_once():
    with Executor(workers=None) as executor:
        assert not executor._uses_ray(10)
        assert not executor._uses_ray(100 * SMALL_INPUT_BYTES)
    assert executor._uses_ray(100 * SMALL_INPUT_BYTES)  # a new block decides anew


def test_work_in_this_process_never_loads_ray():
    code = """
        import sys
        from raydrgn.remote.executor import IN_PROCESS, Executor
        for executor in (IN_PROCESS, Executor(workers=1), Executor(workers=None)):
            with executor:
                found = executor.map(lambda value: 2 * value, [1, 2], input_bytes=10)
                assert [outcome.value for outcome in found] == [2, 4]
                if executor._workers:
                    with executor.pool(lambda cpus: 3) as pool:
                        found = pool.run(lambda held, batch: held * batch, [5])
                        assert [outcome.value for outcome in found] == [15]
        print("ray" in sys.modules)
    """
    environment = {**os.environ, "RAY_ADDRESS": ""}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"


# --- this process equals Ray ----------------------------------------------------------------------


@pytest.mark.ray
def test_tasks_give_what_this_process_gives(ray_session):
    items = [3, 1, 3, 2]  # also if an item comes twice
    assert outcomes(Executor(workers=2), twice, items) == outcomes(IN_PROCESS, twice, items)
    with Executor(workers=2) as executor:
        loaded = [o.value for o in executor.map(twice, [1, 2], load=lambda item: 10 * item)]
    assert sorted(loaded) == [20, 40]


@pytest.mark.ray
def test_sums_are_those_of_this_process(ray_session):
    def summed(executor):
        counts = []
        with executor:
            small, sums = executor.sum_by(
                norm_and_block,
                range(5),
                key=lambda item: item % 2,
                load=lambda item: BLOCKS[item],
                progress=counts.append,
            )
        assert counts[-1] == 5000
        assert counts == sorted(counts)
        return sorted(small), {name: block.tolist() for name, block in sorted(sums.items())}

    here, there = summed(IN_PROCESS), summed(Executor(workers=2))
    assert here == there
    assert here[1] == {0: [21.0] * 1000, 1: [10.0] * 1000}


@pytest.mark.ray
def test_a_pool_gives_what_this_process_gives(ray_session):
    batches = [[1, 2], [3], [3], [4, 5]]

    def powers(executor):
        with executor, executor.pool(partial(Power, 3)) as pool:
            return sorted((o.item, o.value) for o in pool.run(raise_to, batches))

    assert powers(Executor(workers=2)) == powers(IN_PROCESS)
    with Executor(workers=2) as executor, executor.pool(partial(Power, 3)) as pool:
        processes = {o.value for o in pool.run(process_of, range(8))}
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= 2


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.ray
def test_an_error_is_the_outcome_of_its_item(ray_session):
    found = outcomes(Executor(workers=2), refuse_odd, [1, 2, 4])
    assert found == [(1, None, "particle 1 is not finite."), (2, 2, "None"), (4, 4, "None")]
    with Executor(workers=2) as executor:
        [outcome] = executor.map(refuse_odd, [3])
    assert isinstance(outcome.error, InputError)  # as it was raised, without Ray's wrapping


def test_in_this_process_an_error_is_raised():
    with pytest.raises(InputError, match="particle 1"):
        list(IN_PROCESS.map(refuse_odd, [2, 1]))


@pytest.mark.ray
def test_tasks_get_no_gpu_and_the_name_of_their_work(ray_session):
    with Executor(workers=2) as executor:
        [outcome] = executor.map(visible_gpus, [0])
    assert outcome.value == ([], "visible_gpus")


# --- nothing is left ------------------------------------------------------------------------------


@pytest.fixture
def _interrupts():
    """Ctrl-C as in a terminal: a shell that starts tests in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.ray
@pytest.mark.usefixtures("_interrupts")
def test_an_interrupt_leaves_no_task_and_no_actor_on_a_ray_that_goes_on(ray_session):
    import ray

    free = ray.cluster_resources()["CPU"]
    with pytest.raises(KeyboardInterrupt) as held:  # as a notebook holds the last traceback
        interrupted_tasks()
    with pytest.raises(KeyboardInterrupt) as also_held:
        interrupted_pool()
    with pytest.raises(ValueError, match="caller") as held_too:
        failing_caller()
    end = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < free and time.monotonic() < end:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == free
    assert held.tb
    assert also_held.tb
    assert held_too.tb


def interrupted_tasks():
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with Executor(workers=2) as executor:
        list(executor.map(slowly, [1, 2]))


def failing_caller():
    with Executor(workers=2) as executor:
        for _ in executor.map(quick_then_slow, [0, 1, 2]):
            raise ValueError("caller")


def interrupted_pool():
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with Executor(workers=2) as executor, executor.pool(partial(Power, 2)) as pool:
        list(pool.run(lambda held, batch: slowly(batch), [1, 2]))


LEAVING = """
    import os, signal, sys
    import ray
    from raydrgn.remote.executor import Executor

    signal.signal(signal.SIGINT, signal.default_int_handler)

    def work(value):
        return value

    def fail():
        raise ValueError

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    for leave in (fail, interrupt):
        try:
            with Executor(workers=2) as executor:
                for outcome in executor.map(work, [1, 2, 3]):
                    folder = ray._private.worker.global_worker.node.get_session_dir_path()
                    leave()
        except (KeyboardInterrupt, ValueError) as error:
            print(type(error).__name__, ray.is_initialized(), folder, flush=True)
    sys.stdin.read()  # as a notebook, this process goes on
"""


@pytest.mark.ray
@pytest.mark.clusters
def test_after_an_error_or_an_interrupt_no_process_of_ray_is_left():
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LEAVING)],
        env={**os.environ, "RAY_ADDRESS": ""},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        rounds = [process.stdout.readline().split() for _ in range(2)]
        assert [words[:2] for words in rounds] == [
            ["ValueError", "False"],
            ["KeyboardInterrupt", "False"],
        ]
        end = time.monotonic() + 60
        sessions = [Path(words[2]).name for words in rounds]
        while (left := processes_of(sessions)) and time.monotonic() < end:
            time.sleep(0.2)
        assert left == []
    finally:
        process.communicate("")


def processes_of(sessions):
    """Return the command lines of processes that belong to sessions of Ray."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(session in command for session in sessions):
            found.append(command)
    return found
