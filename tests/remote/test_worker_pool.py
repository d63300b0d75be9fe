"""Workers that are lost: what they held is done again, they are replaced, and all of it is told."""

import logging
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    TaskCancelledError,
    WorkerCrashedError,
)

from raydrgn.errors import InputError, LostWorkersError
from raydrgn.remote import fanout, waiting, worker_pool
from raydrgn.remote.allocation import Allocation
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.lost_workers import MOST_LOSSES, Losses, WorkItem, loss_of
from raydrgn.remote.reservation import Reservation, release_groups
from raydrgn.remote.worker_pool import WorkerPool

AGAIN = "the work of lost workers has been done again"


@pytest.fixture(scope="module", autouse=True)
def _functions_of_this_module_are_shipped():
    """Ship this module's functions whole; workers cannot import a test."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(autouse=True)
def _no_cluster_in_the_environment(monkeypatch, caplog):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    caplog.set_level(logging.INFO, logger="raydrgn")


def process(cpus):
    return os.getpid()


def mark(folder):
    """Leave a file for this call; return how many there are."""
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return len(list(folder.iterdir()))


def work_of(held, batch, *, folder=None, fatal=()):
    """Return the batch and the process, unless the batch ends it; others take their time."""
    if batch in fatal:
        mark(folder)
        os._exit(1)
    time.sleep(0.02)
    return batch, held


def die_at_first(held, batch, *, folder):
    if batch == 0 and mark(folder) == 1:
        os._exit(1)
    time.sleep(0.02)
    return batch, held


def run_until_two_work(pool):
    """Give a pool work until two workers share it: a worker takes its time to start."""
    workers, end = set(), time.monotonic() + 60
    while len(workers) < 2:
        assert time.monotonic() < end, "the lost worker is not replaced"
        workers = {outcome.value[1] for outcome in pool.run(work_of, range(40))}


def double_unless(value, *, folder, fatal=(), deaths=MOST_LOSSES):
    if value in fatal and mark(folder) <= deaths:
        os._exit(1)
    return 2 * value


# --- workers --------------------------------------------------------------------------------------


@pytest.mark.ray
def test_what_a_lost_worker_held_is_done_by_others_and_it_is_replaced(
    ray_session, tmp_path, caplog
):
    with Executor(workers=2) as executor, executor.pool(process) as pool:
        outcomes = list(pool.run(partial(die_at_first, folder=tmp_path), range(60)))
        assert sorted(outcome.value[0] for outcome in outcomes) == list(range(60))
        run_until_two_work(pool)
    assert "a worker was lost: its process on " in caplog.text
    assert AGAIN in caplog.text


@pytest.mark.ray
def test_a_batch_that_no_worker_survives_is_given_up_and_the_rest_is_done(ray_session, tmp_path):
    with Executor(workers=2) as executor, executor.pool(process) as pool:
        work = partial(work_of, folder=tmp_path, fatal=(7,))
        outcomes = {outcome.item: outcome for outcome in pool.run(work, range(40))}
    assert sorted(outcomes) == list(range(40))
    failed = outcomes.pop(7).error
    assert isinstance(failed, LostWorkersError)
    assert "given up after 4 workers in a row ended while they worked on it" in str(failed)
    deaths = len(list(tmp_path.iterdir()))
    assert MOST_LOSSES <= deaths <= MOST_LOSSES + 2  # a last result before a death may be lost too
    assert all(outcome.error is None for outcome in outcomes.values())


@pytest.mark.ray
def test_a_worker_that_was_lost_between_two_runs_is_replaced(ray_session):
    with Executor(workers=1, address="auto") as executor, executor.pool(process) as pool:
        [outcome] = pool.run(work_of, [0])
        os.kill(outcome.value[1], 9)
        [again] = pool.run(work_of, [1])
    assert again.value[0] == 1
    assert again.value[1] != outcome.value[1]


def refuse(cpus):
    raise InputError("weights.1.pkl is damaged.")


def fail_once(cpus, *, folder):
    if mark(folder) == 1:
        raise OSError("no driver")
    return os.getpid()


def die(cpus):
    os._exit(1)


@pytest.mark.ray
def test_a_mistake_of_the_user_is_raised_as_it_is(ray_session):
    with (
        Executor(workers=2) as executor,
        executor.pool(refuse) as pool,
        pytest.raises(InputError, match=r"^weights\.1\.pkl is damaged\.$"),
    ):
        list(pool.run(work_of, range(4)))


@pytest.mark.ray
def test_a_worker_that_cannot_begin_is_left_out(ray_session, tmp_path, caplog):
    with (
        Executor(workers=2) as executor,
        executor.pool(partial(fail_once, folder=tmp_path)) as pool,
    ):
        outcomes = list(pool.run(work_of, range(30)))
    assert len({outcome.value[1] for outcome in outcomes}) == 1
    assert "a worker could not begin and is left out" in caplog.text
    assert "no driver" in caplog.text


@pytest.mark.ray
def test_workers_that_all_end_while_they_begin_end_the_work_in_words(ray_session, monkeypatch):
    monkeypatch.setattr(worker_pool, "MOST_FAILED_STARTS", 2)
    monkeypatch.setattr(worker_pool, "LONGEST_DELAY_SECONDS", 0.1)
    with (
        Executor(workers=2) as executor,
        executor.pool(die) as pool,
        pytest.raises(LostWorkersError, match=r"workers in a row were lost before"),
    ):
        list(pool.run(work_of, range(4)))


class Logged(Exception):
    """Ends a test that would wait for ever."""


@pytest.mark.ray
def test_each_minute_it_is_logged_what_is_waited_for(ray_session, monkeypatch):
    def end(text, *values):
        raise Logged(text % values)

    monkeypatch.setattr(waiting, "LOG_SECONDS", 0.5)
    monkeypatch.setattr(waiting.log, "warning", end)
    too_large = Reservation(Allocation(1, 99, 0.0), ray.util.placement_group([{"CPU": 99}]))
    with (
        WorkerPool(process, too_large) as pool,
        pytest.raises(Logged, match="waiting for 1 node with 99 CPUs: none is there"),
    ):
        list(pool.run(work_of, [1]))


def lack_memory(held, batch, *, folder, times):
    """End as Ray ends a worker whose machine has no memory left, so many times for one batch."""
    if batch == 0 and mark(folder) <= times:
        raise OutOfMemoryError("Task was killed due to the node running low on memory.")
    time.sleep(0.02)
    return batch, held


@pytest.mark.ray
def test_a_pool_goes_on_with_fewer_workers_where_memory_is_short(ray_session, tmp_path, caplog):
    with Executor(workers=2) as executor, executor.pool(process) as pool:
        work = partial(lack_memory, folder=tmp_path, times=1)
        outcomes = list(pool.run(work, range(60)))
        assert all(outcome.error is None for outcome in outcomes)
        assert len({outcome.value[1] for outcome in pool.run(work_of, range(20))}) == 1
    assert "workers that are left: 1" in caplog.text
    assert "Fewer workers at a time" in caplog.text


@pytest.mark.ray
def test_a_batch_that_is_too_large_for_any_worker_does_not_limit_the_rest(ray_session, tmp_path):
    with Executor(workers=2) as executor, executor.pool(process) as pool:
        work = partial(lack_memory, folder=tmp_path, times=MOST_LOSSES)
        outcomes = {outcome.item: outcome for outcome in pool.run(work, range(60))}
        assert "memory of its machine" in str(outcomes.pop(0).error)
        assert all(outcome.error is None for outcome in outcomes.values())
        run_until_two_work(pool)


# --- tasks ----------------------------------------------------------------------------------------


@pytest.mark.ray
def test_a_task_that_is_lost_is_done_again(ray_session, tmp_path, caplog):
    with Executor(workers=2) as executor:
        work = partial(double_unless, folder=tmp_path, fatal=(2,), deaths=MOST_LOSSES - 1)
        assert sorted(outcome.value for outcome in executor.map(work, range(5))) == [0, 2, 4, 6, 8]
    assert AGAIN in caplog.text


@pytest.mark.ray
def test_a_task_that_no_worker_survives_is_given_up_and_the_rest_is_done(ray_session, tmp_path):
    with Executor(workers=2) as executor:
        work = partial(double_unless, folder=tmp_path, fatal=(2,))
        outcomes = {outcome.item: outcome for outcome in executor.map(work, range(5))}
    assert "given up after 4 workers in a row ended" in str(outcomes.pop(2).error)
    assert {item: outcome.value for item, outcome in outcomes.items()} == {0: 0, 1: 2, 3: 6, 4: 8}


@pytest.mark.parametrize(
    ("losses", "given_up", "number", "then"),
    [(1, False, 4, 3), (1, False, 1, 1), (2, False, 3, 3), (4, True, 3, 4), (4, True, 4, 4)],
)
def test_fewer_tasks_at_a_time_where_memory_is_short(losses, given_up, number, then):
    error = LostWorkersError("…") if given_up else None
    assert fanout._tasks_after(WorkItem(0, "item", losses), error, number, 4) == then


def block(value, count, *, folder=None, fatal=None):
    """Return a value to add, after a while that differs from item to item."""
    count(5)
    if value == fatal and mark(Path(folder)) == 1:
        os._exit(1)
    time.sleep(0.05 * (value % 3))
    count(5)
    return value, np.float32([1e8 * (-1) ** value + value / 7])


@pytest.mark.ray
def test_sums_are_the_same_to_the_bit_for_any_number_of_workers_whatever_is_lost(
    ray_session, tmp_path
):
    def summed(executor, work=block):
        counts = []
        with executor:
            small, sums = executor.sum_by(
                work, range(24), key=lambda item: item % 5 == 0, load=lambda item: item,
                progress=counts.append,
            )  # fmt: skip
        assert small == list(range(24))
        assert counts == sorted(counts)
        assert counts[-1] == 240
        return {key: value.tobytes() for key, value in sums.items()}

    here = summed(IN_PROCESS)
    assert summed(Executor(workers=2)) == here
    assert summed(Executor(workers=5)) == here
    lossy = partial(block, folder=str(tmp_path), fatal=3)
    assert summed(Executor(workers=3), lossy) == here
    assert len(list(tmp_path.iterdir())) == 2  # it was lost, and done again


# --- words ----------------------------------------------------------------------------------------


def died(text):
    error = ActorDiedError()
    error.error_msg = text
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OutOfMemoryError("…"), "Ray ended it because the memory of its machine (n1) was nearly"),
        (died("Task was killed due to the node running low on memory."), "Ray ended it because"),
        (NodeDiedError("…"), "its machine (n1) was lost"),
        (died("The actor died because its node has died. Node Id: 1"), "its machine (n1) was lost"),
        (died("The actor is dead because its worker process has died."), "its process on n1 ended"),
        (WorkerCrashedError(), "its process on n1 ended unexpectedly"),
        (ActorUnavailableError("…", None), "its machine (n1) does not answer"),
        (TaskCancelledError(), None),
        (died("…"), "its process on n1 ended unexpectedly"),
    ],
)
def test_a_loss_is_named_as_what_it_is(error, reason):
    loss = loss_of(error, "n1")
    assert loss is None if reason is None else loss.reason.startswith(reason)


def test_a_loss_for_lack_of_memory_has_a_remedy(caplog):
    loss = loss_of(OutOfMemoryError("…"))
    assert loss.is_memory
    error = Losses().add(WorkItem(0, "item", losses=MOST_LOSSES - 1), loss)
    remedy = "Fewer workers at a time, or machines with more memory, would help."
    assert str(error).endswith(f"the memory of its machine was nearly full. {remedy}")
    assert remedy in caplog.text


def test_work_that_was_only_waiting_at_a_lost_worker_is_never_given_up():
    losses, work = Losses(), WorkItem(0, "item")
    for _ in range(3 * MOST_LOSSES):
        assert losses.add(work, loss_of(WorkerCrashedError()), counts=False) is None


@pytest.mark.ray
def test_room_whose_owner_is_gone_is_given_back_once(ray_session):
    group = ray.util.placement_group([{"CPU": 1}])
    assert group.wait(60)
    assert release_groups([group.id.hex()]) == [group.id.hex()]
    assert release_groups([group.id.hex()]) == []
