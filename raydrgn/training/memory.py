"""What to do where training runs out of memory, or would."""

import re
from dataclasses import dataclass

import torch

from raydrgn.data.store import ALONE, Sharing, free_memory
from raydrgn.errors import ConfigError
from raydrgn.mfa.memory import fit_bytes, grid_file_where_needed
from raydrgn.mfa.slice_grid import SliceGridFile
from raydrgn.model.device import full_gpu
from raydrgn.run.config import RunConfig
from raydrgn.training.gpu_memory import card_of
from raydrgn.wording import in_bytes

NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory")
"""Messages of torch's plain RuntimeError."""

OUT_OF_MEMORY = (
    "Training ran out of memory{where}. A smaller --batch-size needs less; the steps become more "
    "and noisier, so the learning rate should fall with it (for half the batch, --lr times 0.7). "
    "--set train.points_fraction=0.1 needs less too: each step compares fewer Fourier points, and "
    "training may need more epochs. A mixture of factor analysers needs less with a smaller "
    "--components or a smaller box. All are settings of a new run: choose another -o."
)


@dataclass(frozen=True, slots=True)
class Room:
    """What memory a worker has, and how much of it a fit takes beside its particles."""

    sharing: Sharing = ALONE
    """With how many others it shares the memory."""

    reserved: int = 0
    """Bytes of the grids of a mixture of factor analysers, where it computes.

    A network is small beside the memory that is left free for it.
    """

    grid_file: SliceGridFile | None = None
    """For the grid of slices, where memory has no room for it."""

    @classmethod
    def of(cls, config: RunConfig, device: torch.device, sharing: Sharing) -> "Room":
        """Find room for a fit, before particles are read.

        Args:
            config: Of the run.
            device: Where this worker computes.
            sharing: Its share of the memory.

        Raises:
            ConfigError: If a mixture of factor analysers does not fit even with the grid of its
                slices on disk; names the components and the box that would.
            StorageError: If the local disk has no room for that grid.
        """
        if config.mfa is None:
            return cls(sharing)
        box, components = config.data.box, config.mfa.components
        free, least = free_memory(device, sharing), _least_bytes(box, components, device)
        if least > free:
            raise ConfigError(_too_large(config, device, sharing, needed=least, free=free))
        file = grid_file_where_needed(box, components, device=device, free=free)
        needed = fit_bytes(box, components, device=device, is_in_slabs=file is not None)
        return cls(sharing, needed, file)

    def note(self) -> str | None:
        """Return what a person should know of it."""
        if self.grid_file is None:
            return None
        return (
            "Memory has no room for the Fourier grid of the components: its "
            f"{in_bytes(self.grid_file.num_bytes)} are in {self.grid_file.folder}, and each pass "
            "reads them again for each block of particles, which takes longer. Results are the "
            "same."
        )


WHOLE_MACHINE = Room()
"""Of a worker alone, whose fit is small."""


def _least_bytes(box: int, components: int, device: torch.device) -> int:
    """Return the memory that a fit needs with the grid of slices where it is smallest."""
    return fit_bytes(box, components, device=device, is_in_slabs=device.type == "cpu")


def _too_large(
    config: RunConfig, device: torch.device, sharing: Sharing, *, needed: int, free: float
) -> str:
    assert config.mfa is not None
    box, components = config.data.box, config.mfa.components
    fewer = [k for k in range(1, components) if _least_bytes(box, k, device) <= free]
    smaller = [n for n in range(16, box, 2) if _least_bytes(n, components, device) <= free]
    remedies = [f"--components {fewer[-1]} would fit"] if fewer else []
    if smaller:
        remedies.append(f"images of {smaller[-1]} px would fit (raydrgn downsample)")
    return (
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
