"""Why a GPU cannot be used, and what half precision does to what must be exact."""

import pytest
import torch

from raydrgn.model.device import autocast, gpu_problem, has_bfloat16

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver.\nAnd more lines."
)


@pytest.fixture
def broken_cuda(monkeypatch):
    def make(message):
        def init():
            raise RuntimeError(message)

        monkeypatch.setattr(torch.version, "cuda", "12.8")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return make


def test_a_driver_too_old_for_torch_is_named_with_the_way_to_go_on(broken_cuda):
    broken_cuda(TOO_OLD)
    text = gpu_problem()
    assert "there the driver is too old for torch" in text
    assert "needs one of CUDA 12.8" in text
    assert "found version 11040" in text
    assert text.endswith("or compute on CPUs with --gpus-per-worker 0.")
    assert "\n" not in text


def test_other_reasons_are_torch_s_own(broken_cuda):
    broken_cuda("No CUDA GPUs are available")
    assert "finds none it can use (No CUDA GPUs are available). Install a torch" in gpu_problem()


def test_bfloat16_in_name_only_does_not_count(monkeypatch):
    asked = []

    def supported(*, including_emulation=True):
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not has_bfloat16(torch.device("cuda"))
    assert asked == [False]
    assert not has_bfloat16(torch.device("cpu"))


def test_devices_without_autocast_compute_as_they_are():
    with autocast(torch.device("meta"), torch.bfloat16):
        assert (torch.empty(2, 2, device="meta") @ torch.empty(2, 2, device="meta")).dtype == (
            torch.float32
        )
    with autocast(torch.device("cpu"), torch.bfloat16):
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.bfloat16
        with autocast(torch.device("cpu"), None):
            assert (torch.eye(2) @ torch.eye(2)).dtype == torch.float32
