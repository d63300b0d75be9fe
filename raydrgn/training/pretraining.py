"""Pre-training of an encoder on the latents of a mixture of factor analysers.

It comes before the first epoch. The encoder is frozen from then on, and the epochs fit the decoder
to what it gives: by the usual loss it would leave these latents, and volumes become worse
(docs/mfa-measured.md). It does not generalise to other particles. The optimiser of the
pre-training ends with it: nothing is left but the weights.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import distributed

from raydrgn.data.shard import ResidentShard
from raydrgn.model.encoder import Encoder
from raydrgn.shapes import Float
from raydrgn.training.gradients import GradientExchange
from raydrgn.training.optimiser import make_optimiser, set_rate
from raydrgn.training.plan import BatchPlan
from raydrgn.training.step import SliceLattice, ctf_values, encoder_input

PASSES, STEPS = 60, 2500
"""The least of each: small sets are passed over more often."""

BATCH_SIZE = 64
"""Particles of a step over all workers, as near to it as whole batches of the run come."""

RATE_AT_128 = 2e-3
"""Highest learning rate at width 128; it falls with the square root of the width."""

WARMUP_STEPS = 100

LARGE_ERROR = 0.25
"""Error, in SDs of the latents, above which the user is warned."""

LARGE_ERROR_NOTE = (
    "the encoder has learnt the latents of the mixture badly (run.log has the error), and volumes "
    "will blur what they tell apart; start again with a wider encoder (--enc-dim), or leave out "
    "--init"
)

SPOILED_PRETRAINING = (
    "Pre-training the encoder on the latents of the mixture has led to weights that are not "
    "finite, so it was not kept. Check that no image has extreme values (raydrgn info PARTICLES), "
    "and start again, or leave out --init."
)


class EncoderPretraining:
    """Steps of supervised training, on one worker of any number: more of them change rounding only.

    Each takes some consecutive batches of the plan, in the order of the epoch of the pass's number.
    """

    def __init__(
        self,
        encoder: Encoder,
        targets: Float[np.ndarray, "2 n zdim"],
        *,
        plan: BatchPlan,
        shard: ResidentShard,
        lattice: SliceLattice,
        width: int,
    ) -> None:
        """Connect the parts.

        Args:
            encoder: What is trained.
            targets: Mean and log-variance of the latent of each of this worker's particles.
            plan: Which particles each step takes.
            shard: This worker's particles.
            lattice: Points of their images.
            width: Units of each layer of the encoder.
        """
        self._encoder = encoder
        self._mean, self._logvar = torch.from_numpy(targets).to(lattice.plane.device)
        self._plan = plan
        self._shard = shard
        self._lattice = lattice
        self._width = width
        self._batches_per_step = max(BATCH_SIZE // plan.num_strata, 1)
        self._steps_per_pass = -(-plan.num_steps // self._batches_per_step)
        self._num_passes = max(PASSES, -(-STEPS // self._steps_per_pass))
        self._squared_error = self._mean.new_zeros(self._mean.shape[1])

    @property
    def num_steps(self) -> int:
        """Steps in all."""
        return self._num_passes * self._steps_per_pass

    def __iter__(self) -> Iterator[int]:
        """Take one step after the other; yield how many are done."""
        exchange = GradientExchange()
        parameters = list(self._encoder.requires_grad_(True).parameters())
        optimiser = make_optimiser(parameters)
        peak = RATE_AT_128 * math.sqrt(128 / self._width)
        for step, loss in enumerate(self._losses()):
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            exchange.add_up(parameters)
            set_rate(optimiser, peak * _share_of_rate(step, self.num_steps))
            optimiser.step()
            yield step + 1
        optimiser.zero_grad(set_to_none=True)
        self._encoder.requires_grad_(False)

    def error(self) -> float:
        """Return the RMS error of means in the last pass over their SD, of all workers' particles.

        All workers call this.
        """
        mean = self._mean
        count = torch.full_like(self._squared_error[:1], len(mean))
        sums = torch.cat([self._squared_error, mean.sum(0), mean.square().sum(0), count])
        if distributed.is_initialized():
            distributed.all_reduce(sums)
        errors, means, squares = (sums[:-1] / sums[-1]).chunk(3)
        return float((errors.sum() / (squares - means.square()).sum()).sqrt())

    def _losses(self) -> Iterator[Float[torch.Tensor, ""]]:
        """Yield this worker's share of the loss of each step, made of the present weights.

        The loss is the squared error of mean and log-variance, summed over dimensions.
        """
        size = self._batches_per_step
        for number in range(1, self._num_passes + 1):
            self._squared_error.zero_()
            whole = self._plan.batches(number)
            starts = range(0, len(whole), size)
            selections = [torch.cat(whole[start : start + size]) for start in starts]
            batches = self._shard.batches(selections)
            for start, rows, batch in zip(starts, selections, batches, strict=True):
                hartley = encoder_input(batch, ctf_values(batch, self._lattice))
                mean, logvar = self._encoder.encode(hartley)
                errors = (mean - self._mean[rows]).square()
                self._squared_error += errors.detach().sum(0)
                of_step = range(start, min(start + size, len(whole)))
                count = sum(map(self._plan.batch_count, of_step))
                yield (errors + (logvar - self._logvar[rows]).square()).sum() / count


def _share_of_rate(step: int, num_steps: int) -> float:
    """Return a learning rate over the highest: a linear warm-up, then half a period of a cosine."""
    warmup = min(WARMUP_STEPS, num_steps // 2)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))
