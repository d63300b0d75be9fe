"""What to do where training runs out of memory, or would."""

import re

import torch

from raydrgn.data.store import ALONE, Sharing, free_memory
from raydrgn.errors import ConfigError
from raydrgn.mfa.memory import fit_bytes
from raydrgn.model.device import full_gpu
from raydrgn.run.config import RunConfig
from raydrgn.training.gpu_memory import card_of

NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory")
"""Messages of torch's plain RuntimeError."""

OUT_OF_MEMORY = (
    "Training ran out of memory{where}. A smaller --batch-size needs less; the steps become more "
    "and noisier, so the learning rate should fall with it (for half the batch, --lr times 0.7). "
    "--set train.points_fraction=0.1 needs less too: each step compares fewer Fourier points, and "
    "training may need more epochs. A mixture of factor analysers needs less with a smaller "
    "--components or a smaller box. All are settings of a new run: choose another -o."
)


def reserved_bytes(config: RunConfig, device: torch.device) -> int:
    """Return what a fit takes beside its particles on a device, as far as that is large.

    Of a mixture of factor analysers these are its grids. A network is small beside the memory that
    is left free for it.
    """
    if config.mfa is None:
        return 0
    return fit_bytes(config.data.box, config.mfa.components, device=device)


def require_memory(config: RunConfig, device: torch.device, sharing: Sharing = ALONE) -> None:
    """Refuse a mixture of factor analysers whose grids do not fit, before particles are read.

    Args:
        config: Of the run.
        device: Where this worker computes.
        sharing: Its share of the memory.

    Raises:
        ConfigError: If they do not fit; names the components and the box that would.
    """
    if config.mfa is None:
        return
    box, components = config.data.box, config.mfa.components
    free, needed = free_memory(device, sharing), reserved_bytes(config, device)
    if needed <= free:
        return
    fewer = [k for k in range(1, components) if fit_bytes(box, k, device=device) <= free]
    smaller = [n for n in range(16, box, 2) if fit_bytes(n, components, device=device) <= free]
    remedies = [f"--components {fewer[-1]} would fit"] if fewer else []
    if smaller:
        remedies.append(f"images of {smaller[-1]} px would fit (raydrgn downsample)")
    raise ConfigError(
        f"A fit of {components} components at {box} px needs {needed / 1e9:.1f} GB of memory for "
        f"each worker, and {free / 1e9:.1f} GB are free: {'; '.join(remedies) or 'too little'}."
        f"{_others(device, sharing)}"
    )


def _others(device: torch.device, sharing: Sharing) -> str:
    """Return a sentence about the other processes on a GPU; empty where there are none."""
    if device.type != "cuda":
        return ""
    card = card_of(device, sharing)
    return f" {card.in_words()}." if card.used_by_others else ""


def out_of_memory_message(error: BaseException) -> str | None:
    """Return what to do if training failed for lack of memory; None for other failures."""
    held = full_gpu(error)
    if held is not None:
        return OUT_OF_MEMORY.format(where=f" on the GPU. {held}".rstrip(". "))
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        return OUT_OF_MEMORY.format(where="")
    return None
