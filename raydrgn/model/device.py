"""Where networks compute, on a GPU that torch can use, else on CPUs, and in which precision."""

import gc
import os
import re
import socket
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch

CAPACITY = re.compile(r"GPU \d+ has a total capacity.*?(?= Of the allocated| If reserved|\n|$)")
"""In torch's message: how much a GPU has, what is free, and which processes hold the rest."""


def default_device() -> torch.device:
    """Return the GPU of this process, or its CPUs if it has none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device is a GPU that multiplies matrices of bfloat16.

    Older GPUs than those of compute capability 8.0 have it in name only: torch converts every
    product there, which is slower than single precision.
    """
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return a context in which matrix products take their operands in a type; None: as they are.

    Casts of weights are not kept for later passes, so that the context can be a part of a captured
    graph. Devices that have no such context compute in single precision anyway.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False)


def operand_type(device: torch.device) -> torch.dtype | None:
    """Return the type in which matrix products take their operands now; None: as they are."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)


def full_gpu(error: BaseException) -> str | None:
    """Return who holds the memory of a GPU that is exhausted, as torch tells; None otherwise.

    The text is empty where torch tells nothing of it.
    """
    if not isinstance(error, torch.OutOfMemoryError):
        return None
    found = CAPACITY.search(str(error))
    return found.group().strip() if found else ""


def free_gpu() -> None:
    """Give back GPU memory that this process no longer uses, for other processes on the GPU."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def gpu_problem() -> str | None:
    """Return why torch cannot use the GPUs of this machine, with what helps; None if it can.

    Asked by a process that Ray has started for it, which may hide the GPUs from it.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]
    problem = unusable_gpu()
    if problem is None:
        return None
    cause, remedy = problem
    return (
        f"Ray counts GPUs on {socket.gethostname()}, but there {cause}. {remedy}, or compute on "
        "CPUs with --gpus-per-worker 0."
    )


def unusable_gpu() -> tuple[str, str] | None:
    """Return why torch finds no GPU that it can use, and what to install; None if it finds one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reason is that of ``init``, below
        if torch.cuda.is_available():
            return None
    version = f"torch {torch.__version__}"
    if torch.version.cuda is None:
        return f"{version} is built without CUDA", "Install a torch for these GPUs"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        found = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    else:
        found = "no GPU is visible"
    if "driver" in found and "too old" in found:
        return (
            f"the driver is too old for {version}, which needs one of CUDA {torch.version.cuda} "
            f"({found})",
            "Install a newer driver, or a torch for this one",
        )
    return f"{version} finds none it can use ({found})", "Install a torch for these GPUs"
