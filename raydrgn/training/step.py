"""Losses of a batch, and one step of the optimiser.

Matrix products may run in bfloat16. The contrast transfer function, the points of the slices, their
positional encoding, sums over points and the weights themselves stay in single precision.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raydrgn.ctf import contrast_transfer
from raydrgn.data.batch import ParticleBatch
from raydrgn.fourier.transforms import hartley_from_disc
from raydrgn.geometry.lattice import half_disc, plane_coordinates
from raydrgn.model.device import autocast, has_bfloat16
from raydrgn.model.loss import kl_divergence, reconstruction_error
from raydrgn.shapes import Float, Int
from raydrgn.training.optimiser import set_rate


class Losses(NamedTuple):
    """Terms of the objective, summed over a batch's particles."""

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    kl: Float[Tensor, ""]


@dataclass(frozen=True, slots=True)
class SliceLattice:
    """The half disc of an image of some box, on a device."""

    plane: Float[Tensor, "n 3"]
    """Points (x, y, 0) in cycles per pixel."""

    @classmethod
    def of_box(cls, box: int, *, device: torch.device) -> "SliceLattice":
        """Make the lattice of a box."""
        return cls(plane_coordinates(half_disc(box), box).to(device))

    @property
    def num_points(self) -> int:
        """Points of the half disc; the whole disc has twice as many pixels."""
        return len(self.plane)


def ctf_values(batch: ParticleBatch, lattice: SliceLattice) -> Float[Tensor, "b n"]:
    """Return the contrast transfer function of each particle; 1 where optics are not known."""
    if batch.ctf is None:
        return torch.ones(batch.coefficients.shape[:2], device=batch.coefficients.device)
    freqs = lattice.plane[:, :2] / batch.pixel_size_angstrom[:, None, None]
    return contrast_transfer(freqs, batch.ctf)


def encoder_input(batch: ParticleBatch, ctf: Float[Tensor, "b n"]) -> Float[Tensor, "b m"]:
    """Return the whole disc's Hartley values of phase-flipped images; where the CTF is 0, 0."""
    return hartley_from_disc(batch.coefficients * torch.sign(ctf)[..., None])


def evaluate_losses(
    model: nn.Module,
    batch: ParticleBatch,
    lattice: SliceLattice,
    *,
    noise: Float[Tensor, "b zdim"],
    beta: float,
    points: Int[Tensor, " m"] | None,
    amp_dtype: torch.dtype | None = None,
    weights: Float[Tensor, " b"] | None = None,
) -> Losses:
    """Reconstruct a batch; return reconstruction error + β·KL / pixels, and its terms.

    The error is compared at ``points`` of the half disc, or at all. Terms are sums over particles
    of means over points, so that workers' unequal shares of a batch add up.

    Args:
        model: Network.
        batch: Particles.
        lattice: Points of their images.
        noise: One draw per particle.
        beta: Weight of the KL divergence.
        points: Numbers of the points to compare at; None means all.
        amp_dtype: Type of the operands of matrix products, if not single precision.
        weights: 1 for each particle that counts, 0 for one that pads the batch; None: all
            count.
    """
    ctf = ctf_values(batch, lattice)
    hartley = encoder_input(batch, ctf)
    observed, plane = batch.coefficients, lattice.plane
    if points is not None:
        observed, ctf, plane = observed[:, points], ctf[:, points], plane[points]
    slices = plane @ batch.rotations  # a matrix product, too, but of positions
    with autocast(plane.device, amp_dtype):
        out = model(hartley, slices, noise)

    predicted = ctf[..., None] * out.predicted
    errors = reconstruction_error(predicted, observed)
    divergences = kl_divergence(out.mean, out.logvar)
    if weights is not None:
        errors, divergences = errors * weights, divergences * weights
    reconstruction, kl = errors.sum(), divergences.sum()
    return Losses(reconstruction + beta * kl / (2 * lattice.num_points), reconstruction, kl)


def choose_amp_dtype(device: torch.device, *, amp: bool) -> torch.dtype | None:
    """Return the type of the operands of matrix products, None for single precision.

    It is bfloat16 where that is asked for and the device has it. It has the range of single
    precision, so that no gradient is lost and none has to be scaled; float16 has not.
    """
    return torch.bfloat16 if amp and has_bfloat16(device) else None


CACHE_ROWS = 4096
"""Points × particles of a micro-batch on a CPU: activations of a few MB, which fit the cache."""

AMP_ROWS = 16_384
"""The same where matrix units multiply in bfloat16: products are so fast that what each micro-batch
does once, such as converting the weights, counts for more than the cache."""


def rows_on_cpu(amp_dtype: torch.dtype | None) -> int:
    """Return the points × particles of a micro-batch on a CPU."""
    return CACHE_ROWS if amp_dtype is None else AMP_ROWS


class TrainStep:
    """Takes optimiser steps on one worker's parts of the global batches.

    The gradient is that of the mean over the global batch: this worker's sum is multiplied by
    workers / particles, since DistributedDataParallel averages over workers.

    On a CPU a batch goes forward and backward in micro-batches, which nearly doubles the rate;
    workers add up their gradients after the last micro-batch.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        lattice: SliceLattice,
        *,
        beta: float,
        amp: bool,
        world: int = 1,
    ) -> None:
        self._model = model
        self._optimiser = optimiser
        self._lattice = lattice
        self._beta = beta
        self._on_cpu = lattice.plane.device.type == "cpu"
        self._amp_dtype = choose_amp_dtype(lattice.plane.device, amp=amp)
        self._world = world

    def __call__(
        self,
        batch: ParticleBatch,
        *,
        noise: Float[Tensor, "b zdim"],
        points: Int[Tensor, " m"] | None,
        batch_count: int,
        learning_rate: float,
    ) -> Float[Tensor, "3"]:
        """Take a step; return this worker's sums of total, reconstruction and KL, on the device."""
        self._optimiser.zero_grad(set_to_none=True)
        size = self._micro_batch_size(len(batch), points)
        *others, last = zip(batch.micro_batches(size), noise.split(size), strict=True)
        with self._no_sync():
            sums = [self._backward(*micro_batch, points, batch_count) for micro_batch in others]
        sums.append(self._backward(*last, points, batch_count))
        set_rate(self._optimiser, learning_rate)
        self._optimiser.step()
        return torch.stack(sums).sum(0)

    def _micro_batch_size(self, count: int, points: Int[Tensor, " m"] | None) -> int:
        if not self._on_cpu:
            return max(count, 1)
        per_particle = self._lattice.num_points if points is None else len(points)
        return max(rows_on_cpu(self._amp_dtype) // per_particle, 1)

    def _backward(
        self,
        batch: ParticleBatch,
        noise: Float[Tensor, "b zdim"],
        points: Int[Tensor, " m"] | None,
        batch_count: int,
    ) -> Float[Tensor, "3"]:
        losses = evaluate_losses(
            self._model,
            batch,
            self._lattice,
            noise=noise,
            beta=self._beta,
            points=points,
            amp_dtype=self._amp_dtype,
        )
        (losses.total * (self._world / batch_count)).backward()
        return torch.stack([term.detach() for term in losses])

    def _no_sync(self) -> AbstractContextManager[None]:
        if isinstance(self._model, DistributedDataParallel):
            return self._model.no_sync()
        return nullcontext()
