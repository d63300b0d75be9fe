"""Which failures of a worker are worth another try."""

import pytest
import ray
import torch
from torch import distributed

from raydrgn.errors import StorageError
from raydrgn.training.failures import final_failure, is_lost_peer, raised_by_actor

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


def test_a_wrong_shape_is_a_defect_with_its_traceback():
    try:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    except RuntimeError as error:
        failure = final_failure(error)
    assert failure.is_defect
    assert "test_failures.py" in failure.message
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in failure.message


def full_host():
    torch.empty(2**50, dtype=torch.uint8)


def full_python():
    raise MemoryError


def full_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def full_node():
    raise ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")


def full_node_as_ray_train_reports_it():
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

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
    assert not failure.is_defect
    assert failure.message.startswith("A worker ran out of memory")
    for advice in ("--batch-size", "learning rate should fall", "train.points_fraction"):
        assert advice in failure.message
    assert ("on its GPU" in failure.message) == (fill is full_gpu)


def test_what_a_user_can_mend_keeps_its_sentence():
    failure = final_failure(StorageError("No room is left to write z.3.pkl."))
    assert failure == ("No room is left to write z.3.pkl.", False)


def test_an_actor_s_error_loses_ray_s_wrapping():
    cause = StorageError("No room is left.")
    wrapped = ray.exceptions.RayTaskError("writer", "a long traceback", cause)
    with pytest.raises(StorageError) as caught, raised_by_actor():
        raise wrapped.as_instanceof_cause()
    assert str(caught.value) == "No room is left."
