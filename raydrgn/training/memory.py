"""What to do where training runs out of memory."""

import re

import torch

NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory")
"""Messages of torch's plain RuntimeError."""

OUT_OF_MEMORY = (
    "Training ran out of memory{where}. A smaller --batch-size needs less; the steps become more "
    "and noisier, so the learning rate should fall with it (for half the batch, --lr times 0.7). "
    "--set train.points_fraction=0.1 needs less too: each step compares fewer Fourier points, and "
    "training may need more epochs. Both are settings of a new run: choose another -o."
)


def out_of_memory_message(error: BaseException) -> str | None:
    """Return what to do if training failed for lack of memory; None for other failures."""
    if isinstance(error, torch.OutOfMemoryError):
        return OUT_OF_MEMORY.format(where=" on the GPU")
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        return OUT_OF_MEMORY.format(where="")
    return None
