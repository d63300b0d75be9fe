"""The model of a mixture of factor analysers, from the weights of its run."""

import torch

from raydrgn.mfa.model import FactorModel
from raydrgn.run.reader import RunReader
from raydrgn.run.weights import read_network_tensors


def read_mixture(run: RunReader, epoch: int | None) -> FactorModel:
    """Return the model of an epoch, on the CPU.

    Args:
        run: A run of ``--method mfa``.
        epoch: Its epoch; None for the weights of the last.

    Raises:
        RunDirectoryError: If the weights are damaged.
    """
    tensors = read_network_tensors(run.files.weights(epoch))
    return FactorModel.from_tensors(tensors, box=run.box, device=torch.device("cpu"))
