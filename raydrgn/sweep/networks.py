"""Trained networks of runs, encoder and decoder, for scoring."""

import torch

from raydrgn.errors import RunDirectoryError
from raydrgn.io.storage import Uri
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.weights import read_network_tensors
from raydrgn.training.step import SliceLattice


def read_network(root: Uri, epoch: int) -> HeterogeneousVAE:
    """Return the network of a run after an epoch, on the CPU.

    Raises:
        RunDirectoryError: If the weights are not those of the configuration.
    """
    files = RunDirectory(root)
    config = RunConfig.read(files.config)
    lattice = SliceLattice.of_box(config.data.box, device=torch.device("cpu"))
    vae = HeterogeneousVAE(config.model, box=config.data.box, num_pixels=2 * lattice.num_points)
    try:
        vae.load_state_dict(read_network_tensors(files.weights(epoch)))
    except RuntimeError as error:
        raise RunDirectoryError(
            f"{files.weights(epoch)} is not of the network in {files.config}."
        ) from error
    return vae.eval()
