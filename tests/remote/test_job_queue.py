"""Whose turn it is: priorities, order, limits of a job and of a user; without a cluster."""

import pytest

from raydrgn.remote import turn
from raydrgn.remote.job_queue import Amount, Claim, JobQueue, Limits

CLUSTER = Amount(8, 2)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def claim(name, cpus, *, user="ada", priority=0, submitted=0.0, gpus=0, held=0, capacity=CLUSTER):
    return Claim(
        job_id=name,
        user=user,
        priority=priority,
        submitted=submitted,
        amount=Amount(cpus, gpus),
        held=Amount(held),
        capacity=capacity,
    )


def state(queue, *claims):
    return [queue.ask(found).state for found in claims]


def test_commands_begin_while_there_is_room():
    queue = JobQueue("")
    assert state(queue, claim("a", 4), claim("b", 4), claim("c", 1)) == ["begin", "begin", "wait"]


def test_what_is_waited_for_and_behind_whom_is_said():
    queue = JobQueue("")
    queue.ask(claim("a", 6))
    queue.ask(claim("b", 4, user="bob", submitted=1, priority=2))
    turn = queue.ask(claim("c", 4, submitted=2))
    assert turn.state == "wait"
    assert turn.reason == (
        "waiting for 4 CPUs of 8 CPUs and 2 GPUs: before this one is a (ada, 6 CPUs), "
        "b (bob, 4 CPUs), priority 2"
    )


def test_a_higher_priority_goes_first_and_then_the_earlier_submission():
    queue = JobQueue("")
    queue.ask(claim("running", 8))
    late, early = claim("late", 8, submitted=2), claim("early", 8, submitted=1)
    urgent = claim("urgent", 8, submitted=3, priority=5)
    assert state(queue, late, early, urgent) == ["wait", "wait", "wait"]
    queue.leave("running")
    assert state(queue, late, early, urgent) == ["wait", "wait", "begin"]
    queue.leave("urgent")
    assert state(queue, late, early) == ["wait", "begin"]


def test_a_small_command_does_not_overtake_a_large_one_for_ever():
    queue = JobQueue("")
    queue.ask(claim("running", 4))
    assert queue.ask(claim("large", 8, submitted=1)).state == "wait"
    assert queue.ask(claim("small", 1, submitted=2)).state == "wait"


def test_what_the_cluster_cannot_hold_is_asked_of_it_when_nobody_else_is_there():
    queue = JobQueue("")
    assert queue.ask(claim("a", 100)).state == "begin"


def test_a_cluster_that_can_grow_is_asked_at_once():
    queue = JobQueue("")
    queue.ask(claim("a", 100, capacity=None))
    assert queue.ask(claim("b", 100, capacity=None)).state == "begin"


def test_a_user_at_the_limit_waits_and_is_in_nobodys_way():
    queue = JobQueue("user.gpus=1")
    assert queue.ask(claim("a", 1, gpus=1)).state == "begin"
    turn = queue.ask(claim("b", 1, gpus=1, submitted=1))
    assert turn.state == "wait"
    assert "gives a user at most 1 GPU at a time, and ada has a (ada, 1 CPU and 1 GPU)" in (
        turn.reason
    )
    assert queue.ask(claim("c", 1, gpus=1, submitted=2, user="bob")).state == "begin"
    queue.leave("a")
    queue.leave("c")
    assert queue.ask(claim("b", 1, gpus=1, submitted=1)).state == "begin"


def test_a_limit_of_nothing_is_named():
    turn = JobQueue("user.gpus=0").ask(claim("a", 1, gpus=1))
    assert turn.state == "never"
    assert "at most 0 GPUs" in turn.reason


def test_more_than_a_job_may_have_is_refused():
    turn = JobQueue("job.cpus=4 user.cpus=6").ask(claim("a", 5))
    assert turn.state == "never"
    assert "gives a job at most 4 CPUs (RAYDRGN_LIMITS of its head)" in turn.reason
    assert "asks for 5 CPUs" in turn.reason
    assert JobQueue("user.cpus=4").ask(claim("a", 5)).state == "never"


def test_more_than_a_job_may_have_is_refused_to_one_that_has_begun_too():
    """A protocol back-projects with CPUs, and then trains with GPUs."""
    queue = JobQueue("job.gpus=2")
    assert state(queue, claim("a", 4), claim("a", 4, gpus=2)) == ["begin", "begin"]
    answer = queue.ask(claim("a", 4, gpus=8), has_begun=True)
    assert answer.state == "never"
    assert "a job at most 2 GPUs" in answer.reason
    assert state(queue, claim("b", 5), claim("a", 4, gpus=2)) == ["wait", "begin"]


@pytest.mark.parametrize(
    ("limits", "trials", "counted"), [("job.gpus=3", 3, Amount(6, 3)), ("", 8, Amount(2, 1))]
)
def test_a_sweep_has_as_many_trials_at_a_time_as_the_limits_allow(
    limits, trials, counted, monkeypatch
):
    queue, one = JobQueue(limits), claim("a", 2, gpus=1)
    monkeypatch.setattr(turn, "_ask", lambda queue, claim, **has: queue.ask(claim, **has))
    monkeypatch.setattr(turn, "_held", [turn._Held(one, queue)])
    assert queue.ask(one).state == "begin"
    assert turn.times_within_limits(Amount(2, 1), 8) == trials
    assert turn._held[0].claim.amount == counted


def test_what_is_kept_for_a_command_counts_with_its_workers():
    queue = JobQueue("job.cpus=4 user.cpus=6")
    turn = queue.ask(claim("a", 3, held=2))
    assert turn.state == "never"
    assert "asks for 5 CPUs, 2 CPUs of them for the job itself." in turn.reason
    assert queue.ask(claim("b", 2, held=2)).state == "begin"
    assert queue.ask(claim("c", 1, held=2, submitted=1)).state == "wait"
    assert queue.ask(claim("d", 2, submitted=2)).state == "begin"
    queue.leave("b")
    assert queue.ask(claim("c", 1, held=2, submitted=1)).state == "begin"


def test_commands_that_hold_cpus_and_wait_for_workers_do_not_wait_for_each_other():
    queue = JobQueue("user.cpus=5")
    first, second = claim("a", 2, held=2), claim("b", 2, held=2, submitted=1)
    assert state(queue, first, second) == ["begin", "wait"]
    queue = JobQueue("")  # of 8 CPUs, 2 are not there for the workers of the first
    assert state(queue, claim("a", 6, held=2), claim("c", 2, submitted=2)) == ["begin", "wait"]
    turn = queue.ask(claim("b", 1, held=2, submitted=1))
    assert turn.state == "never"
    assert turn.reason.startswith("This job was submitted with 2 CPUs for its command, which")
    assert "a (ada, 8 CPUs) cannot have" in turn.reason


@pytest.mark.parametrize("text", ["user.gpu=4", "4", "user.cpus=-1", "user.cpus=many"])
def test_limits_that_cannot_be_read_are_said_to_whoever_asks(text):
    turn = JobQueue(text).ask(claim("a", 1))
    assert turn.state == "never"
    assert f"contains {text!r}; limits are written as user.gpus=4 job.cpus=64" in turn.reason


def test_limits_are_read_from_the_environment_of_the_head(monkeypatch):
    monkeypatch.setenv("RAYDRGN_LIMITS", "job.cpus=2, user.gpus=0.5")
    assert JobQueue().ask(claim("a", 3)).state == "never"
    assert Limits.parse("user.gpus=0.5").user.gpus == 0.5


def test_a_command_that_is_not_heard_of_has_ended():
    clock = Clock()
    queue = JobQueue("", clock=clock)
    queue.ask(claim("a", 8))
    clock.now = 15.0
    assert queue.ask(claim("b", 8)).state == "wait"
    clock.now = 25.0
    assert queue.ask(claim("b", 8)).state == "begin"


def test_a_queue_that_was_lost_learns_from_commands_what_they_have():
    queue = JobQueue("job.cpus=2")
    assert queue.ask(claim("a", 8), has_begun=True).state == "begin"
    assert queue.ask(claim("b", 2)).state == "wait"
