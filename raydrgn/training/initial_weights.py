"""Weights to start from: those of an epoch of this or another run, cryoDRGN's too."""

import torch

from raydrgn.errors import RunDirectoryError
from raydrgn.geometry.lattice import half_disc
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import Position
from raydrgn.run.reader import RunReader, open_run
from raydrgn.run.weights import read_network_tensors


def find_weights(text: str) -> tuple[RunReader, Uri]:
    """Return the run and the weights file that ``RUN``, ``RUN:EPOCH`` or a weights file names.

    Raises:
        RunDirectoryError: If there is no such run or epoch.
    """
    if text.endswith(".pkl"):
        uri = storage.absolute(text)
        return open_run(storage.parent(uri)), uri
    root, _, epoch = text.rpartition(":")
    run = open_run(root if root and epoch.isdigit() else text)
    wanted = int(epoch) if root and epoch.isdigit() else None
    return run, run.files.weights(run.epoch(wanted))


def initial_checkpoint(uri: Uri, config: RunConfig) -> Checkpoint:
    """Return a checkpoint before the first step with the weights of a file, and a new optimiser.

    Raises:
        RunDirectoryError: If the weights are those of another network or box.
    """
    found = read_network_tensors(uri)
    with torch.device("meta"):
        num_pixels = 2 * len(half_disc(config.data.box))
        vae = HeterogeneousVAE(config.model, box=config.data.box, num_pixels=num_pixels)
    for name, wanted in vae.state_dict().items():
        if name not in found or found[name].shape != wanted.shape:
            theirs = _shape(found[name]) if name in found else "absent"
            raise RunDirectoryError(
                f"{uri} is of another network: {name} is {theirs} there and {_shape(wanted)} here. "
                "`raydrgn train --load` needs a run with the same box and the same network (zdim, "
                "layers, widths, encoding)."
            )
    model = {name: found[name].float() for name in vae.state_dict()}
    return Checkpoint(position=Position(1, 0), model=model, optimiser={}, sums=[0.0, 0.0, 0.0])


def _shape(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))
