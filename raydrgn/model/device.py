"""Where networks compute: on a GPU that torch can use, else on CPUs."""

import os
import socket

import torch


def default_device() -> torch.device:
    """Return the GPU of this process, or its CPUs if it has none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gpu_problem() -> str | None:
    """Return why torch cannot use the GPUs of this machine, with what helps; None if it can.

    Asked by a process that Ray has started for it, which may hide the GPUs from it.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]
    if torch.cuda.is_available():
        return None
    built = "is built without CUDA" if torch.version.cuda is None else "finds none it can use"
    return (
        f"Ray counts GPUs on {socket.gethostname()}, but torch {torch.__version__} there {built}. "
        "Install a torch for these GPUs, or compute on CPUs with --gpus-per-worker 0."
    )
