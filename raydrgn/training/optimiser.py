"""Adam, the same on every device, with its learning rate where a captured graph can read it."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from raydrgn.shapes import Float


def make_optimiser(
    parameters: Iterable[nn.Parameter], *, rate: Float[Tensor, ""] | None = None
) -> torch.optim.Adam:
    """Make the optimiser.

    Args:
        parameters: What it moves; all on one device.
        rate: The learning rate, on the device of the parameters: a tensor that changes from step
            to step, so that nothing of a step is a number of the host. None means a plain number,
            which ``set_rate`` gives.
    """
    on_device = rate is not None and rate.device.type != "cpu"
    optimiser = torch.optim.Adam(parameters, fused=True, capturable=on_device)
    if on_device:  # steps are taken before a graph is captured, or without; torch would warn
        optimiser._warned_capturable_if_run_uncaptured = True
    else:  # never captured; torch would ask a GPU of the machine, which takes memory of it
        optimiser._accelerator_graph_capture_health_check = _ask_no_gpu  # type: ignore[method-assign]
    if rate is not None:
        for group in optimiser.param_groups:
            group["lr"] = rate
    return optimiser


def _ask_no_gpu() -> None:
    """Stand for torch's question whether a step is being captured."""


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the steps that follow, as a plain number."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def saved_state(optimiser: torch.optim.Optimizer, rate: float) -> dict[str, Any]:
    """Return the state to keep in a checkpoint, in which the learning rate is a plain number."""
    state = optimiser.state_dict()
    groups = [{**group, "lr": rate, "capturable": False} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_state(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put the moments where a checkpoint left them, whatever device it was written on.

    How the optimiser computes, and where its learning rate is kept, stay its own.
    """
    own = [{k: v for k, v in group.items() if k != "params"} for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, options in zip(optimiser.param_groups, own, strict=True):
        group.update(options)
