"""Whether the weights of a run fit on the disk of its directory."""

import logging
import shutil

import torch

from raydrgn.geometry.lattice import half_disc
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.config import RunConfig
from raydrgn.run.recipe import TrainConfig
from raydrgn.run.writer import KEPT_EPOCHS
from raydrgn.wording import counted, in_bytes

log = logging.getLogger(__name__)


def warn_of_room(config: RunConfig, root: Uri) -> None:
    """Warn if the weights of the epochs that are kept do not fit on the disk of the run."""
    if not storage.is_local(root):
        return
    folder = storage.local_path(storage.absolute(root))
    while not storage.exists(str(folder)):
        folder = folder.parent
    if config.mfa is not None:
        each = mfa_weights_bytes(config.mfa.components, config.data.box)
    else:
        each = weights_bytes(config.model, config.data.box)
    count = kept_epochs(config.train)
    needed = count * each
    free = shutil.disk_usage(folder).free
    if needed > free:
        log.warning(
            "%s has %s free, but the weights of %s need %s",
            *(folder, in_bytes(free, none="0 B"), counted(count, "epoch"), in_bytes(needed)),
        )


def kept_epochs(train: TrainConfig) -> int:
    """Return of how many epochs a run has weights at most, while it trains or after it."""
    return min(train.epochs, train.epochs // train.keep_epochs + KEPT_EPOCHS)


def mfa_weights_bytes(components: int, box: int) -> int:
    """Return the size of one epoch of a mixture: volumes at the voxels of a mask or a ball."""
    return 4 * (components + 3) * box**3 // 2


def weights_bytes(model: ModelConfig, box: int) -> int:
    """Return the size of one epoch's weights: parameters and Adam's two moments, float32."""
    with torch.device("meta"):
        vae = HeterogeneousVAE(model, box=box, num_pixels=2 * len(half_disc(box)))
    return 3 * 4 * sum(parameter.numel() for parameter in vae.parameters())
