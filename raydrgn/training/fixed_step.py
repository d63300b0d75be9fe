"""A step whose shapes never change, and of which nothing waits for the host.

From the numbers of particles to moved weights it is a function of tensors of one device. So a GPU
can take it as one captured graph, which costs the host the same whatever the number of kernels; and
``torch.compile`` compiles its losses once.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.data.store import ALONE, Sharing
from raydrgn.errors import ConfigError
from raydrgn.model.device import free_gpu, full_gpu
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.shapes import Float, Int
from raydrgn.training.gpu_memory import StepMemory, card_of
from raydrgn.training.gradients import GradientExchange
from raydrgn.training.prefetch import PADDING, StepInput
from raydrgn.training.step import SliceLattice, evaluate_losses, rows_on_cpu

Gather = Callable[[Int[Tensor, " p"], slice], ParticleBatch]
"""Returns particles of a micro-batch, on the device, without waiting for it.

Takes their numbers, and which of the batch they are.
"""


class FixedStep:
    """Takes optimiser steps on batches of one size.

    The gradient is that of the mean over the particles of all workers, which add up their shares
    after the last micro-batch. The learning rate is a tensor that the optimiser reads.
    """

    def __init__(
        self,
        vae: HeterogeneousVAE,
        optimiser: torch.optim.Optimizer,
        lattice: SliceLattice,
        gather: Gather,
        noise: Float[Tensor, "rows zdim"],
        *,
        beta: float,
        amp_dtype: torch.dtype | None,
        exchange: GradientExchange | None = None,
    ) -> None:
        """Connect the parts.

        Args:
            vae: Network.
            optimiser: Of the network's parameters.
            lattice: Points of the images.
            gather: Returns particles.
            noise: One draw for each particle of the worker's part; may be overwritten by others.
            beta: Weight of the KL divergence.
            amp_dtype: Type of the operands of matrix products, if not single precision.
            exchange: With other workers; None means all of the process group, if there is one.
        """
        self.num_parts = 1
        """Micro-batches of a batch: forward and backward passes, one after the other."""

        self._vae = vae
        self._optimiser = optimiser
        self._lattice = lattice
        self._gather = gather
        self._noise = noise
        self._beta = beta
        self._amp_dtype = amp_dtype
        self._exchange = exchange or GradientExchange()
        [self._rate] = [group["lr"] for group in optimiser.param_groups]
        self._losses_of = self._losses

    @property
    def device(self) -> torch.device:
        """Where the steps are taken."""
        return self._lattice.plane.device

    @property
    def is_alone(self) -> bool:
        """Whether there is no other worker."""
        return self._exchange.num_workers == 1

    def compile(self) -> None:
        """Let ``torch.compile`` compile the losses of a micro-batch, and their gradient."""
        self._losses_of = torch.compile(self._losses, dynamic=False, fullgraph=True)

    def __call__(self, given: StepInput) -> Float[Tensor, "3"]:
        """Take a step; return this worker's sums of total, reconstruction and KL.

        Where the device has too little memory for a micro-batch, smaller ones are taken from then
        on, down to one particle each.

        Raises:
            RuntimeError: If there is too little for one particle, as ``full_gpu`` tells.
        """
        while True:
            try:
                losses = self.add_gradients(given)
                break
            except RuntimeError as error:
                if full_gpu(error) is None or self.num_parts >= len(given.rows):
                    raise
            free_gpu()  # libraries allocate beside torch
            self.num_parts = min(2 * self.num_parts, len(given.rows))
        self.exchange()
        self.move(given)
        return losses

    def alone(self, given: StepInput) -> Float[Tensor, "3"]:
        """Take a step of a single worker: the same, without a decision of the host."""
        losses = self.add_gradients(given)
        self.move(given)
        return losses

    def add_gradients(self, given: StepInput) -> Float[Tensor, "3"]:
        """Compute this worker's share of the gradient; return its losses."""
        self.drop_gradients()
        counts = (given.rows != PADDING).float()
        rows = given.rows.clamp(min=0)
        size = -(-len(rows) // self.num_parts)
        sums = []
        for start in range(0, len(rows), size):
            of_batch = slice(start, start + size)
            chosen = rows[of_batch]
            batch = self._gather(chosen, of_batch)
            losses = self._losses_of(batch, self._noise[chosen], counts[of_batch], given.points)
            (losses[0] * given.factor).backward()
            sums.append(losses.detach())
        return torch.stack(sums).sum(0)

    def drop_gradients(self) -> None:
        """Give back the memory of the gradients."""
        self._optimiser.zero_grad(set_to_none=True)

    def exchange(self) -> None:
        """Add up the gradients of all workers."""
        self._exchange.add_up(self._vae.parameters())

    def move(self, given: StepInput) -> None:
        """Let the optimiser move the weights."""
        self._rate.copy_(given.rate)
        self._optimiser.step()

    def _losses(
        self,
        batch: ParticleBatch,
        noise: Float[Tensor, "b zdim"],
        counts: Float[Tensor, " b"],
        points: Int[Tensor, " m"] | None,
    ) -> Float[Tensor, "3"]:
        return torch.stack(
            evaluate_losses(
                self._vae,
                batch,
                self._lattice,
                noise=noise,
                beta=self._beta,
                points=points,
                amp_dtype=self._amp_dtype,
                weights=counts,
            )
        )


class CaptureError(RuntimeError):
    """CUDA cannot record a step as a graph."""


class CapturedStep:
    """The steps of a ``FixedStep`` as CUDA graphs: one launch from the host for all kernels.

    The first few steps are taken as they are, on a stream of their own, which lets every library
    allocate what it keeps. The graph then reads its input from tensors of its own, and weights,
    moments and particles where they are. Of several workers, the exchange lies between the
    gradients' graph and the step of the optimiser.
    """

    WARM_UP = 3

    def __init__(self, step: FixedStep) -> None:
        self._step = step
        self._stream = torch.cuda.Stream(step.device)
        self._graph = torch.cuda.CUDAGraph()
        self._left = self.WARM_UP
        self._given: StepInput | None = None
        self._losses: Tensor | None = None
        self._is_alone = step.is_alone

    def __call__(self, given: StepInput) -> Float[Tensor, "3"]:
        """Take a step; return this worker's sums of total, reconstruction and KL.

        Raises:
            CaptureError: If CUDA cannot record the step, which has then not been taken, or has too
                little memory for the graph.
            RuntimeError: If there is too little memory for one particle, as ``full_gpu`` tells.
        """
        if self._left:
            self._left -= 1
            return self._taken_as_it_is(given)
        if self._given is None:
            self._capture(given)
        assert self._given is not None
        assert self._losses is not None
        self._given.copy_(given)
        self._graph.replay()
        if not self._is_alone:
            self._step.exchange()
            self._step.move(self._given)
        return self._losses.clone()  # the next step overwrites them

    def _taken_as_it_is(self, given: StepInput) -> Float[Tensor, "3"]:
        before = torch.cuda.current_stream(self._step.device)
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            losses = self._step(given)
        before.wait_stream(self._stream)
        return losses

    def _capture(self, given: StepInput) -> None:
        """Record the step, without taking it; other threads may use the GPU meanwhile."""
        self._given = given.clone()
        pool = torch.cuda.graph_pool_handle()
        self._step.drop_gradients()  # the graph has its own, in memory of its own
        torch.cuda.synchronize(self._step.device)
        reason = self._record(self._given, pool)
        if reason is not None:  # the error itself, and what it held of the pool, is gone
            self._given = self._losses = None
            self._step.drop_gradients()
            self._give_back(pool)
            raise CaptureError(reason)

    def _record(self, given: StepInput, pool: Any) -> str | None:
        """Record the step; return why CUDA cannot."""
        step = self._step.alone if self._is_alone else self._step.add_gradients
        before = torch.cuda.current_stream(self._step.device)
        try:
            with torch.cuda.graph(
                self._graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                self._losses = step(given)
        except RuntimeError as error:  # too little memory is one: smaller parts may fit, uncaptured
            return str(first_error(error)).partition("\n")[0]
        finally:
            torch.cuda.set_stream(before)  # where the capture fails, torch may leave its own
        return None

    def _give_back(self, pool: Any) -> None:
        """Give back the memory of a capture that has failed, for steps that are not captured.

        A graph of torch before 2.14 does so by itself only if its capture has ended well, and the
        memory stays taken until the process ends. None of the errors here matters beside that of
        the capture.
        """
        index = self._stream.device_index
        has_ended = self._has_ended()  # no graph knows it after its reset
        with suppress(RuntimeError):
            self._graph.reset()
        if not has_ended:
            # Fails where torch's own end of the capture has done so, as of 2026 it does (#180395).
            with suppress(RuntimeError, AttributeError):  # AttributeError: not in every torch
                torch._C._cuda_endAllocateToPool(index, pool)
        if not has_ended and not _reset_always_releases():
            # Not twice: torch counts who has the pool, and below 0 nothing is given back any more.
            with suppress(RuntimeError, AttributeError):
                torch._C._cuda_releasePool(index, pool)
        with suppress(RuntimeError):
            free_gpu()

    def _has_ended(self) -> bool:
        """Return whether the capture has ended well, and an error came after it."""
        try:
            self._graph.pool()
        except RuntimeError:
            return False
        return True


def _reset_always_releases() -> bool:
    """Return whether a graph's reset gives back the memory of a capture that has failed, too.

    By the number of the version alone: a build before the release of 2.14 may do so already, and
    memory that stays taken is the smaller harm.
    """
    major, minor = torch.__version__.split(".")[:2]
    return (int(major), int(minor)) >= (2, 14)


def first_error(error: BaseException) -> BaseException:
    """Return the error that came first: after one within a capture, its end fails too."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


def num_parts(
    memory: StepMemory,
    size: int,
    *,
    num_compared: int,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    sharing: Sharing = ALONE,
) -> int:
    """Return into how many micro-batches a batch is cut.

    On a GPU each is to fit into the memory, on a CPU into the cache.

    Args:
        memory: What the step needs.
        size: Particles of the batch.
        num_compared: Points at which slices are compared.
        device: Where the step is taken.
        amp_dtype: Type of the operands of matrix products, if not single precision.
        sharing: The worker's share of the memory.
    """
    if device.type == "cuda":
        return memory.parts(size, free=card_of(device, sharing).free)
    return min(-(-size * num_compared // rows_on_cpu(amp_dtype)), size)


def require_compiler() -> None:
    """Refuse to compile without the C++ compiler that ``torch.compile`` calls.

    Raises:
        ConfigError: If there is none.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"resources.compile=on needs a C++ compiler on a CPU, and {compiler!r} is not found. "
            "Install one, name it in the environment variable CXX, or set resources.compile=off."
        )
