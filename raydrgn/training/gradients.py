"""How workers add up the gradients of steps of fixed shapes: in one message after the last of them.

Most of a network's weights are those of the encoder's first layer, whose gradient the backward pass
gives last: little of an exchange in several messages could hide behind it. ``raydrgn bench
exchange`` counts how much.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import distributed, nn


class GradientExchange:
    """Adds up the gradients of a group of workers."""

    def __init__(self, group: Any = None) -> None:
        """Take a process group of torch; None means all workers, of which there may be one."""
        self._group = group

    @property
    def num_workers(self) -> int:
        """Workers of the group."""
        return distributed.get_world_size(self._group) if distributed.is_initialized() else 1

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradient of each parameter by its sum over the workers."""
        if self.num_workers == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        message = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(message, group=self._group)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, total in zip(gradients, message.split(sizes), strict=True):
            gradient.copy_(total.view_as(gradient))
