"""Where networks compute, on a GPU that torch can use, else on CPUs, and in which precision."""

import gc
import logging
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

log = logging.getLogger(__name__)

CAPACITY = re.compile(r"GPU \d+ has a total capacity.*?(?= Of the allocated| If reserved|\n|$)")
"""In torch's message: how much a GPU has, what is free, and which processes hold the rest."""

FULL_FOR_LIBRARIES = re.compile(
    r"CUDA error: out of memory|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)"
    r"|CUSOLVER_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED"
)
"""In other errors of torch: of a full card CUDA itself, which takes memory for a process's first
call and for kernels, and libraries say no more."""

BUSY = "CUDA-capable device(s) is/are busy or unavailable"
"""In CUDA's error of a process's first call, where the card lets no further process on it."""

BUSY_GPU = (
    "The GPU takes no further process: its compute mode lets one at a time use it, or none. "
    "`nvidia-smi` shows the mode (E. Process: one), and who uses the GPU. End that process, use "
    "another GPU (CUDA_VISIBLE_DEVICES), and have no more workers than GPUs; or let processes "
    "share it, which an administrator does with `nvidia-smi -c 0`. CUDA_VISIBLE_DEVICES= raydrgn … "
    "computes on CPUs."
)

BUILD = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
"""One of the kinds of code that torch is built with, as ``sm_90a``."""


def default_device() -> torch.device:
    """Return the GPU of this process, or its CPUs if it has none that torch has code for."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    problem = _card_without_code([torch.cuda.current_device()])
    if problem is None:
        return torch.device("cuda")
    log.warning("computing on CPUs: %s. %s.", *problem)
    return torch.device("cpu")


def has_code(builds: Sequence[str], capability: tuple[int, int]) -> bool:
    """Return whether one of torch's builds runs on GPUs of a compute capability.

    Machine code (``sm``) runs on its major version, from its minor version on, and intermediate
    code (``compute``) on all later versions too. With an ``a`` either is for one version alone, and
    with an ``f`` for its major version. Names of other makers' GPUs are not understood, and pass.
    """
    found = BUILD.findall(" ".join(builds))
    return not found or any(
        _runs(kind, (int(major), int(minor)), suffix, capability)
        for kind, major, minor, suffix in found
    )


def _runs(kind: str, built: tuple[int, int], suffix: str, capability: tuple[int, int]) -> bool:
    if suffix == "a":
        return built == capability
    is_general = kind == "compute" and not suffix
    return built <= capability and (is_general or built[0] == capability[0])


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bfloat16 faster than those of float32.

    Older GPUs than those of compute capability 8.0 have bfloat16 in name only: torch converts every
    product there, which is slower than single precision. Of CPUs those with matrix units have it
    (Intel's AMX). Those with vector instructions for it alone (AVX-512 BF16) are not faster.
    """
    if device.type == "cpu":
        ask: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
        capabilities = ask()  # of a version of torch that cannot tell, none
        return bool(capabilities.get("amx_bf16", False))
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
        is_full = isinstance(error, RuntimeError) and FULL_FOR_LIBRARIES.search(str(error))
        return "" if is_full else None
    found = CAPACITY.search(str(error))
    return found.group().strip() if found else ""


def busy_gpu(error: BaseException) -> str | None:
    """Return what to do about a GPU that lets no further process on it; None for other errors."""
    return BUSY_GPU if isinstance(error, RuntimeError) and BUSY in str(error) else None


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
    """Return why torch cannot use the GPUs that it is to use, and what helps; None if it can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reason is given below
        if torch.cuda.is_available():
            return _card_without_code(range(torch.cuda.device_count()))
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


def _card_without_code(numbers: Iterable[int]) -> tuple[str, str] | None:
    """Return which GPU torch has no code for, and what helps; None if it has for all of these."""
    builds = torch.cuda.get_arch_list()
    for number in numbers:
        capability = torch.cuda.get_device_capability(number)
        if has_code(builds, capability):
            continue
        version = ".".join(map(str, capability))
        remedy = "Install a build of torch that has (see pytorch.org)"
        if torch.cuda.device_count() > 1:
            remedy += ", hide this GPU with CUDA_VISIBLE_DEVICES"
        return (
            f"torch {torch.__version__} has no code for {torch.cuda.get_device_name(number)} "
            f"(compute capability {version}; it has {', '.join(builds)})",
            remedy,
        )
    return None
