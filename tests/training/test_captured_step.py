"""What a captured step does in which order, with a recorder in place of CUDA's graphs.

As in a capture, nothing is computed while a step is recorded; a replay computes it with the values
that its input then has.
"""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from plain import all_weights, assemble, small_run, step_losses
from raydrgn.training import fixed_step
from raydrgn.training.fixed_step import CapturedStep, CaptureError, FixedStep
from raydrgn.training.gradients import GradientExchange

STEPS = 20
VALUES = {"resources.compile": "on", "train.warmup_steps": 0, "train.learning_rate": 1e-3}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return the steps of a run, over the ends of epochs, on a CPU."""
    monkeypatch.setattr(FixedStep, "compile", lambda self: None)

    def make(name):
        return assemble(small_run(tmp_path, tmp_path / name, num_particles=53, **VALUES))

    return make


@pytest.fixture
def cuda(monkeypatch):
    """Record what is done with streams, graphs and their memory."""
    state = SimpleNamespace(
        log=[], is_capturing=False, again=None, fails=False, has_ended=False, refused=()
    )
    stream = SimpleNamespace(wait_stream=lambda other: None, device_index=3)

    def replay():
        state.log.append("replay")
        state.again()

    def recorded(name):
        def record(*arguments):
            state.log.append((name, *arguments))
            if name in state.refused:
                raise RuntimeError("INTERNAL ASSERT FAILED")

        return record

    def pool():
        """Known only to a graph whose capture has ended well, and that was not reset."""
        if not state.has_ended or ("reset",) in state.log:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")
        return (0, 7)

    @contextmanager
    def graph(graph, *, pool, stream, capture_error_mode):
        assert pool == (0, 7)
        assert capture_error_mode == "thread_local"  # other threads copy particles meanwhile
        state.log.append("capture")
        state.is_capturing = True
        try:
            yield
        finally:
            state.is_capturing = False
            if state.fails:
                raise RuntimeError("operation failed due to a previous error during capture")

    names = {
        "Stream": lambda device: stream,
        "CUDAGraph": lambda: SimpleNamespace(replay=replay, reset=recorded("reset"), pool=pool),
        "graph_pool_handle": lambda: (0, 7),
        "current_stream": lambda device: stream,
        "stream": lambda stream: nullcontext(),
        "synchronize": lambda device: None,
        "set_stream": lambda stream: state.log.append("stream is set back"),
        "graph": graph,
    }
    for name, value in names.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        assert hasattr(torch._C, name)
        monkeypatch.setattr(torch._C, name, recorded(name))
    monkeypatch.setattr(fixed_step, "free_gpu", recorded("free"))
    return state


def captured(parts, cuda, *, exchange=None):
    """Let the steps of a run be captured by the recorder."""
    step = parts.loop._steps._step
    step._exchange = exchange or step._exchange
    found = CapturedStep(step)

    def recorded(take):
        def record(given):
            if not cuda.is_capturing:
                return take(given)
            if cuda.fails:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            assert all(p.grad is None for p in parts.vae.parameters())
            cuda.again = lambda: found._losses.copy_(take(given))
            return torch.zeros(3)

        return record

    step.alone, step.add_gradients = recorded(step.alone), recorded(step.add_gradients)
    parts.loop._steps._take = found
    return found


def losses(parts):
    return step_losses(parts.loop, parts.plan, STEPS)


def parameters(parts):
    return all_weights(parts.vae)


class OfTwo(GradientExchange):
    """An exchange of two workers of which the other one has no gradient."""

    def __init__(self, log):
        super().__init__()
        self._log = log

    @property
    def num_workers(self):
        return 2

    def add_up(self, parameters):
        assert all(p.grad is not None for p in parameters if p.requires_grad)
        self._log.append("exchange")


@pytest.mark.parametrize("workers", [1, 2])
def test_replays_take_the_steps_that_come_after_the_first(made, cuda, workers):
    plain, parts = made("plain"), made("captured")
    captured(parts, cuda, exchange=OfTwo(cuda.log) if workers == 2 else None)
    expected = losses(plain)
    assert torch.equal(losses(parts), expected)  # each its own: none is overwritten by the next
    assert torch.equal(parameters(parts), parameters(plain))
    after_each = ["exchange"] if workers == 2 else []
    first, rest = CapturedStep.WARM_UP, STEPS - CapturedStep.WARM_UP
    assert cuda.log == [
        *(first * after_each),
        "capture",
        "stream is set back",
        *(rest * ["replay", *after_each]),
    ]


END = ("_cuda_endAllocateToPool", 3, (0, 7))
RELEASE = ("_cuda_releasePool", 3, (0, 7))


@pytest.mark.parametrize(
    ("version", "has_ended", "refused", "expected"),
    [
        pytest.param("2.11.0+cu128", False, (), [END, RELEASE], id="2.11"),
        pytest.param("2.13.0", False, (END[0],), [END, RELEASE], id="its-end-has-ended-it"),
        pytest.param("2.13.0", False, ("reset", END[0], "free"), [END, RELEASE], id="all-refused"),
        pytest.param("2.13.0", True, (), [], id="the-graph-has-released"),
        pytest.param("2.14.0a0+git1", False, (END[0],), [END], id="2.14-to-be"),
        pytest.param("2.14.1", False, (END[0],), [END], id="2.14"),
        pytest.param("2.14.1", False, (), [END], id="2.14-the-end-was-not-reached"),
        pytest.param("2.14.1", True, (), [], id="2.14-the-graph-has-released"),
    ],
)
def test_a_step_whose_capture_fails_is_not_taken_and_gives_its_memory_back(
    made, cuda, monkeypatch, version, has_ended, refused, expected
):
    """Its first error is named, whatever torch makes of what follows.

    The memory is released once: by the graph's reset where the capture has ended well, from torch
    2.14 on by it in any case.
    """
    monkeypatch.setattr(torch, "__version__", version)
    parts = made("captured")
    step = captured(parts, cuda)
    cuda.fails, cuda.has_ended, cuda.refused, step._left = True, has_ended, refused, 0
    taken = parts.loop._steps.take(1, 0, parts.plan.batches(1))
    before, moved = parameters(parts), []
    step._step.move = moved.append
    parts.loop._steps._taken = step  # what the steps make of the error is tested elsewhere
    with pytest.raises(CaptureError, match=r"^CUDA out of memory\.$"):
        next(taken)
    assert not moved
    assert torch.equal(parameters(parts), before)
    assert all(p.grad is None for p in parts.vae.parameters())
    assert cuda.log == ["capture", "stream is set back", ("reset",), *expected, ("free",)]
