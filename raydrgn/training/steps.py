"""The steps of an epoch, one after the other: as they come, or in shapes that never change."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from raydrgn.data.batch import ParticleBatch
from raydrgn.data.shard import ResidentShard
from raydrgn.data.store import Sharing
from raydrgn.data.streaming import HostStream, to_device
from raydrgn.errors import RaydrgnError
from raydrgn.model.device import full_gpu, has_bfloat16
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.remote.resources import Compile
from raydrgn.run.config import RunConfig
from raydrgn.shapes import Float, Int
from raydrgn.training.fixed_step import (
    CapturedStep,
    CaptureError,
    FixedStep,
    num_parts,
    require_compiler,
)
from raydrgn.training.gpu_memory import StepMemory, card_of, too_small_message
from raydrgn.training.plan import BatchPlan
from raydrgn.training.prefetch import StepInput, padded, prefetched
from raydrgn.training.schedule import RateSchedule
from raydrgn.training.step import SliceLattice, TrainStep, choose_amp_dtype

CAPTURED_STEPS = 500
"""Steps from which capturing pays on a GPU.

It takes about a second, by estimate, and saves the launches of some 300 kernels, 2 ms or more, in
each step after.
"""


@runtime_checkable
class Steps(Protocol):
    """Takes the steps of epochs."""

    def take(
        self, epoch: int, first: int, selections: Sequence[Int[Tensor, " _"]]
    ) -> Iterator[Float[Tensor, "3"]]:
        """Take the steps of an epoch; yield the losses of each, without waiting for the device.

        Args:
            epoch: Number of the epoch.
            first: Step to begin with.
            selections: Particles of the steps from there on, numbered within the worker's part.
        """
        ...


class PlainSteps:
    """Steps as they come, on a CPU: where an epoch ends with a smaller batch, it stays smaller."""

    def __init__(
        self,
        step: TrainStep,
        plan: BatchPlan,
        shard: ResidentShard,
        *,
        zdim: int,
        rate: RateSchedule,
    ) -> None:
        self._step = step
        self._plan = plan
        self._shard = shard
        self._zdim = zdim
        self._rate = rate

    def take(
        self, epoch: int, first: int, selections: Sequence[Int[Tensor, " _"]]
    ) -> Iterator[Float[Tensor, "3"]]:
        """Take the steps of an epoch; yield the losses of each."""
        noise = self._plan.noise(epoch, self._zdim)
        batches = self._shard.batches(selections)
        for step, (rows, batch) in enumerate(zip(selections, batches, strict=True), start=first):
            yield self._step(
                batch,
                noise=noise[rows],
                points=self._plan.points(epoch, step),
                batch_count=self._plan.batch_count(step),
                learning_rate=self._rate(epoch, step),
            )


class FixedSteps:
    """Steps of one shape: an epoch's last batch is padded with particles of weight zero.

    On a GPU a step is a captured graph where enough of them are left to pay for it, and batches
    are cut into the largest parts that fit into its memory. On a CPU ``torch.compile`` compiles
    the losses.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        plan: BatchPlan,
        shard: ResidentShard,
        vae: HeterogeneousVAE,
        optimiser: torch.optim.Optimizer,
        lattice: SliceLattice,
        sharing: Sharing,
        note: Callable[[str], None],
    ) -> None:
        """Connect the parts; ``note`` is called with what the user should know."""
        self._config = config
        self._sharing = sharing
        self._plan = plan
        self._shard = shard
        self._lattice = lattice
        self._note = note
        self._zdim = vae.config.zdim
        self._rate = RateSchedule.of(config, plan)
        self._device = device = lattice.plane.device
        self._size = len(plan.strata)
        self._noise = torch.empty(len(shard), self._zdim, device=device)
        self._stream: HostStream | None = None
        self._coefficients: Tensor | None = None
        if not shard.is_on_device:
            store = shard.store
            self._stream = HostStream(store, self._size, device)
            self._coefficients = torch.empty(
                self._size, *store.shape[1:], dtype=store.dtype, device=device
            )
        self._amp_dtype = choose_amp_dtype(device, amp=config.train.amp)
        self._memory = StepMemory.of(
            vae,
            num_points=lattice.num_points,
            num_compared=plan.num_chosen,
            uses_amp=self._amp_dtype is not None,
            num_workers=plan.world,
        )
        self._step = FixedStep(
            vae,
            optimiser,
            lattice,
            self._gather,
            self._noise,
            beta=config.train.kl_weight(self._zdim),
            amp_dtype=self._amp_dtype,
        )
        self._take: Callable[[StepInput], Tensor] | None = None

    def take(
        self, epoch: int, first: int, selections: Sequence[Int[Tensor, " _"]]
    ) -> Iterator[Float[Tensor, "3"]]:
        """Take the steps of an epoch; yield the losses of each, without waiting for the device.

        Raises:
            RaydrgnError: If the GPU has too little memory for one particle, or the step cannot be
                compiled though that is asked for.
        """
        if self._take is None:
            epochs_left = self._config.train.epochs + 1 - epoch
            self._take = self._begin(epochs_left * self._plan.num_steps - first)
        self._noise.copy_(to_device(self._plan.noise(epoch, self._zdim), self._device))
        inputs = prefetched(
            self._plan,
            selections,
            epoch=epoch,
            first=first,
            size=self._size,
            rate=self._rate,
            device=self._device,
        )
        for given, coefficients in zip(inputs, self._streamed(selections), strict=False):
            if coefficients is not None and self._coefficients is not None:
                self._coefficients.copy_(coefficients)
            yield self._taken(given)

    def _streamed(
        self, selections: Sequence[Int[Tensor, " _"]]
    ) -> Iterator[Float[Tensor, "b n 2"] | None]:
        """Yield the coefficients of each batch where they are not on the device, else None."""
        if self._stream is None:
            return itertools.repeat(None)
        filled = (padded(selection, self._size).clamp(min=0) for selection in selections)
        return self._stream.batches(filled)

    def _gather(self, rows: Int[Tensor, " p"], of_batch: slice) -> ParticleBatch:
        streamed = self._coefficients
        return self._shard.batch(rows, None if streamed is None else streamed[of_batch])

    def _begin(self, steps_left: int) -> Callable[[StepInput], Tensor]:
        """Return what takes the steps that are left."""
        mode = self._config.resources.compile
        self._step.num_parts = num_parts(
            self._memory,
            self._size,
            num_compared=self._plan.num_chosen,
            device=self._device,
            amp_dtype=self._amp_dtype,
            sharing=self._sharing,
        )
        if self._device.type != "cuda":
            if mode == "on":
                require_compiler()
                self._step.compile()
            return self._step
        card = card_of(self._device, self._sharing)
        if self._config.train.amp and not has_bfloat16(self._device):
            self._note(
                f"{card.name} does not support bfloat16; float32 is used, and train.amp has no "
                "effect"
            )
        if card.used_by_others:
            self._note(card.in_words())
        self._note(self._memory.in_words(self._size, self._step.num_parts))
        return CapturedStep(self._step) if is_captured(mode, steps_left) else self._step

    def _taken(self, given: StepInput) -> Float[Tensor, "3"]:
        assert self._take is not None
        try:
            return self._take(given)
        except CaptureError as error:
            if self._config.resources.compile == "on":
                raise RaydrgnError(
                    f"CUDA cannot capture the training step ({error}). With --set "
                    "resources.compile=off it is taken kernel by kernel."
                ) from error
            self._note(f"the step is not captured as one graph ({error}), and takes longer")
        except RuntimeError as error:
            if full_gpu(error) is None:
                raise
            card = card_of(self._device, self._sharing)
            raise RaydrgnError(too_small_message(self._memory, card)) from error
        self._take = self._step  # the error, and what it holds of the step, is gone
        return self._taken(given)


def is_captured(mode: Compile, steps_left: int) -> bool:
    """Return whether the steps of a GPU are to be captured."""
    return mode == "on" or (mode == "auto" and steps_left >= CAPTURED_STEPS)
