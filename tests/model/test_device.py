"""Why a GPU cannot be used, and what half precision does to what must be exact."""

import pytest
import torch

from raydrgn.model.device import (
    autocast,
    default_device,
    full_gpu,
    gpu_problem,
    has_bfloat16,
    has_code,
)

CUDA_12 = "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
CUDA_13 = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"

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


@pytest.mark.parametrize(
    ("builds", "capability", "runs"),
    [
        (CUDA_12, (7, 0), True),
        (CUDA_12, (8, 9), True),  # by the code of 8.6
        (CUDA_12, (10, 0), False),
        (CUDA_13, (7, 0), False),
        (CUDA_13, (12, 1), True),
        (CUDA_13, (13, 0), True),  # compiled by the driver
        ("sm_90a compute_90a", (9, 0), True),
        ("sm_90a compute_90a", (10, 0), False),
        ("sm_100f", (10, 3), True),
        ("sm_100f", (12, 0), False),
        ("sm_86", (8, 0), False),
        ("gfx90a gfx942", (9, 4), True),
        ("", (9, 0), True),
    ],
)
def test_torch_has_code_for_a_generation_and_what_it_can_compile(builds, capability, runs):
    assert has_code(builds.split(), capability) == runs


@pytest.fixture
def cards(monkeypatch):
    """Let torch of CUDA 13 find cards of some compute capabilities."""

    def make(*capabilities):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: CUDA_13.split())
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda n: capabilities[n])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda n: f"card {n}")

    return make


def test_a_card_that_torch_has_no_code_for_is_refused_before_its_first_kernel(cards, caplog):
    cards((8, 0), (7, 0))
    assert default_device().type == "cuda"
    text = gpu_problem()
    assert f"there torch {torch.__version__} has no code for card 1 (compute capability 7.0" in text
    assert "hide this GPU with CUDA_VISIBLE_DEVICES, or compute on CPUs" in text
    cards((7, 0))
    assert "hide" not in gpu_problem()
    assert not caplog.records
    assert default_device().type == "cpu"
    assert "computing on CPUs: torch" in caplog.text
    cards((9, 0))
    assert gpu_problem() is None


NO_CONTEXT = (
    "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com/"
)


def test_a_full_gpu_is_known_by_torch_s_error_and_by_those_of_libraries():
    assert full_gpu(torch.OutOfMemoryError("CUDA out of memory.")) == ""
    status = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    assert full_gpu(RuntimeError(status)) == ""
    assert full_gpu(torch.AcceleratorError(NO_CONTEXT)) == ""  # of the first call of a process
    assert full_gpu(RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED")) == ""
    status_of_solver = "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDn…`"
    assert full_gpu(RuntimeError(status_of_solver)) == ""
    assert full_gpu(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert full_gpu(ValueError(status)) is None


def test_bfloat16_in_name_only_does_not_count(monkeypatch):
    asked = []

    def supported(*, including_emulation=True):
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not has_bfloat16(torch.device("cuda"))
    assert asked == [False]


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_tile": True, "amx_bf16": True}, True),
        ({"avx512_bf16": True, "amx_tile": False, "amx_bf16": False}, False),
        ({"neon": True, "bf16": True}, False),
    ],
)
def test_of_cpus_those_with_matrix_units_multiply_in_bfloat16(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bfloat16(torch.device("cpu")) is expected


def test_a_torch_that_cannot_name_what_a_cpu_has_computes_in_single_precision(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
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
