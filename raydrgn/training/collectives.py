"""What the workers of a fit exchange, by torch.distributed; nothing where there is one."""

from typing import Any, TypeVar

from torch import Tensor, distributed

T = TypeVar("T")


class WorkerGroup:
    """All workers of Ray Train's group, or this process alone."""

    @property
    def size(self) -> int:
        """Number of workers."""
        return distributed.get_world_size() if distributed.is_initialized() else 1

    @property
    def is_first(self) -> bool:
        """Whether this is the first worker."""
        return not distributed.is_initialized() or distributed.get_rank() == 0

    def add_up(self, tensors: list[Tensor]) -> None:
        """Add up tensors over all workers, in place, on the first worker; others keep parts."""
        if distributed.is_initialized():
            for tensor in tensors:
                distributed.reduce(tensor, dst=0)

    def from_first(self, value: T) -> T:
        """Return what the first worker gives."""
        if not distributed.is_initialized():
            return value
        shared: list[Any] = [value]
        distributed.broadcast_object_list(shared, src=0)
        received: T = shared[0]
        return received

    def all_of(self, value: T) -> list[T]:
        """Return what each worker gives, in their order."""
        if not distributed.is_initialized():
            return [value]
        everyone: list[Any] = [value] * self.size
        distributed.all_gather_object(everyone, value)
        return everyone
