"""Which failures of a worker are worth another try."""

import pytest
import ray
import torch
from ray.train import PreemptionError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.preemption import PreemptionInfo
from torch import distributed

from raydrgn.errors import RaydrgnError, StorageError
from raydrgn.training.failures import (
    TrainingDefect,
    attempt_message,
    final_failure,
    final_failure_of_attempt,
    is_lost_peer,
    is_preemption,
    raised_by_actor,
)

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:544] "


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(GLOO + "Connection closed by peer [127.0.0.1]:35412"),
        RuntimeError(GLOO + "Read error [127.0.0.1]:3541: Connection reset by peer"),
        RuntimeError(GLOO + "writev [127.0.0.1]:4711: Broken pipe"),
        RuntimeError(GLOO + "Timed out waiting 600000ms for recv operation to complete"),
        distributed.DistBackendError("NCCL error: remote process exited or there was a network"),
        ray.exceptions.ActorDiedError(),
        ray.exceptions.NodeDiedError("the node is gone"),
    ],
)
def test_lost_peers_are_worth_another_try(error):
    assert is_lost_peer(error)
    assert final_failure(error) is None


ECC = torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nSearch for …")


def test_a_fault_of_a_gpu_is_worth_another_try_but_not_a_failed_assertion():
    assert final_failure(ECC) is None
    assertion = torch.AcceleratorError("CUDA error: device-side assert triggered")
    assert isinstance(final_failure(assertion), TrainingDefect)


BUSY = torch.AcceleratorError(
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nSearch for …"
)


def test_a_gpu_that_takes_one_process_at_a_time_is_said_to():
    """By Ray Train's own first call too, before a worker's code is reached."""
    of_ray_train = final_failure_of_attempt(WorkerGroupError("", {1: BUSY}))
    for failure in (final_failure(BUSY), of_ray_train):
        assert isinstance(failure, RaydrgnError)
        assert str(failure).startswith("The GPU takes no further process: its compute mode")
        for remedy in ("`nvidia-smi`", "no more workers than GPUs", "CUDA_VISIBLE_DEVICES="):
            assert remedy in str(failure)


def test_a_wrong_shape_is_a_defect_with_its_traceback():
    try:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    except RuntimeError as error:
        failure = final_failure(error)
    assert isinstance(failure, TrainingDefect)
    assert "test_failures.py" in str(failure)
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in str(failure)


def full_host():
    torch.empty(2**50, dtype=torch.uint8)


def full_python():
    raise MemoryError


def full_gpu():
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.75 GiB "
        "of which 1.21 GiB is free. Process 2044 has 12.53 GiB memory in use. Of the allocated "
        "memory 0.41 GiB is allocated by PyTorch, and 18.50 MiB is reserved by PyTorch."
    )


def full_node():
    raise ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")


def full_node_as_ray_train_reports_it():
    failure = ray.exceptions.OutOfMemoryError(
        "Task was killed due to the node running low on memory."
    )
    raise WorkerHealthCheckFailedError("A worker health check failed.", failure=failure)


@pytest.mark.parametrize(
    "fill",
    [full_host, full_python, full_gpu, full_node, full_node_as_ray_train_reports_it],
)
def test_too_little_memory_is_explained(fill):
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - any kind
        fill()
    failure = final_failure(caught.value)
    assert isinstance(failure, RaydrgnError)
    assert str(failure).startswith("Training ran out of memory")
    for advice in ("--batch-size", "learning rate should fall", "train.points_fraction"):
        assert advice in str(failure)
    assert ("on the GPU" in str(failure)) == (fill is full_gpu)
    assert ("Process 2044 has 12.53 GiB memory in use. A smaller" in str(failure)) == (
        fill is full_gpu
    )
    by_monitor = fill in (full_node, full_node_as_ray_train_reports_it)
    assert ("Ray's memory monitor has killed a worker" in str(failure)) == by_monitor


def test_what_a_user_can_mend_keeps_its_sentence():
    mistake = StorageError("No room is left to write z.3.pkl.")
    assert final_failure(mistake) is mistake


def test_an_actor_s_error_loses_ray_s_wrapping():
    cause = StorageError("No room is left.")
    wrapped = ray.exceptions.RayTaskError("writer", "a long traceback", cause)
    with pytest.raises(StorageError) as caught, raised_by_actor():
        raise wrapped.as_instanceof_cause()
    assert str(caught.value) == "No room is left."


def lost(text):
    return WorkerHealthCheckFailedError(
        "A worker health check failed.", failure=RayActorError(text)
    )


def unavailable():
    failure = ray.exceptions.ActorUnavailableError("RpcError: recvmsg: Connection reset", None)
    return WorkerHealthCheckFailedError("A worker health check failed.", failure=failure)


class RayActorError(ray.exceptions.RayActorError):
    def __init__(self, text):
        super().__init__(None, text, False, False)


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        (
            {0: RuntimeError(GLOO + "Connection closed by peer"), 1: lost("its node has died.")},
            "worker 1 was lost (its node is gone)",
        ),
        (
            {
                2: lost(
                    "Worker exit type: SYSTEM_ERROR Worker exit detail: connection error code 2. "
                    "(1) The process is killed by SIGKILL by OOM killer."
                )
            },
            "worker 2 was lost (process killed)",
        ),
        (
            {0: RuntimeError(GLOO + "x"), 1: unavailable()},
            "worker 1 was lost (it no longer answers)",
        ),
        (
            {0: RuntimeError(GLOO + "x"), 2: RuntimeError(GLOO + "y")},
            "workers 0, 2 lost the connection to another worker",
        ),
        (
            {0: RuntimeError(GLOO + "x"), 2: ECC},
            "the GPU of worker 2 failed (CUDA error: uncorrectable ECC error encountered)",
        ),
    ],
)
def test_lost_workers_are_named_without_gloo_s_text(failures, expected):
    """Those that only lost their peers are not named where it is known who died."""
    error = WorkerGroupError("", failures)
    assert final_failure_of_attempt(error) is None
    assert attempt_message(error) == expected
    assert not is_preemption(error)


def test_what_a_worker_has_found_final_wins_over_lost_peers():
    mistake = StorageError("No room is left to write z.3.pkl.")
    error = WorkerGroupError("", {0: RuntimeError(GLOO + "x"), 1: mistake})
    assert final_failure_of_attempt(error) is mistake


def test_a_worker_killed_by_the_memory_monitor_ends_the_run_with_advice():
    killed = WorkerHealthCheckFailedError(
        "", failure=ray.exceptions.OutOfMemoryError("node running low on memory")
    )
    final = final_failure_of_attempt(WorkerGroupError("", {3: killed}))
    assert "memory monitor" in str(final)
    assert "--batch-size" in str(final)


def test_a_node_that_is_preempted_is_no_failure():
    info = PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"node": [1]})
    assert is_preemption(PreemptionError(info))
    reclaimed = ray.exceptions.RayActorError(None, "reclaimed", False, True)
    assert is_preemption(WorkerGroupError("", {1: WorkerHealthCheckFailedError("", reclaimed)}))
