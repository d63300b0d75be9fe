"""What only a GPU shows: ``pytest -m gpu``. Without one each test is skipped, with the reason."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import plain_em
from device_loops import exchange_alone, fit_together, losses, made, parameters
from plain import SMALL, assert_same_run, latents, small_run, weights
from raydrgn.errors import RaydrgnError
from raydrgn.fourier.shells import shell_correlation
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.device import has_bfloat16
from raydrgn.remote.allocation import Allocation
from raydrgn.remote.progress import silent
from raydrgn.run.directory import Position
from raydrgn.run.reader import open_run
from raydrgn.run.weights import read_network_tensors
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training import pretraining, reduction
from raydrgn.training.encoding import encode_particles
from raydrgn.training.fixed_step import CapturedStep, CaptureError
from raydrgn.training.in_process import train_here
from raydrgn.training.prepare_run import RunRequest, begin

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
]

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
ONE_CPU, ONE_GPU = (Allocation(1, cpus=1, gpus=gpus) for gpus in (0.0, 1.0))
SINGLE_BOUND = 1e-3
"""Of losses and weights in single precision: between devices, and between numbers of workers."""

HALF_BOUND = 2e-2
"""Of the losses of 50 steps in bfloat16, relative to those in single precision."""

MIXTURE_BOUND = 1e-3
"""Of a mixture's latents, in their SD. A GPU's operations on a CPU differ by 1.6e-4.

A card adds up in no fixed order, so that two of its fits differ, too: three times that is within
the bound, whatever it is.
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    """A mixture of factor analysers of the same particles, fitted by a CPU, and twice by a GPU."""
    folder = tmp_path_factory.mktemp("mixtures")
    simulate(str(folder), Simulation(phantom="swing", num_particles=400, box=20, snr=0.5, seed=5))
    values = plain_em.SMALL | {"mfa__components": 3, "mfa__states": 6, "train__epochs": 4}
    for name, allocation in (("cpu", ONE_CPU), ("gpu", ONE_GPU), ("again", ONE_GPU)):
        run = plain_em.prepare(folder / "particles.star", folder / name, **values)
        assert train_here(run, allocation).finished
    return folder


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("store", ["device", "host", "disk"])
@pytest.mark.parametrize("mode", ["on", "off"])
def test_losses_are_those_of_a_cpu(data, tmp_path, mode, store, precision):
    values = {
        "train.amp": False,
        "resources.shard_store": store,
        "data.precision": precision,
    }
    expected = losses(made(small_run(data, tmp_path / "cpu", **values), CPU))
    values["resources.compile"] = mode
    parts = made(small_run(data, tmp_path / "gpu", **values), CUDA)
    torch.testing.assert_close(losses(parts), expected, rtol=SINGLE_BOUND, atol=SINGLE_BOUND)
    assert isinstance(parts[0]._steps._take, CapturedStep) == (mode == "on")


def test_losses_in_bfloat16_stay_within_their_bound(data, tmp_path):
    if not has_bfloat16(CUDA):
        pytest.skip("this card has no products of bfloat16")
    single, half = (
        losses(made(small_run(data, tmp_path / str(amp), **{"train.amp": amp}), CUDA))
        for amp in (False, True)
    )
    assert not torch.equal(half, single)
    torch.testing.assert_close(half[:, :2], single[:, :2], rtol=HALF_BOUND, atol=0)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_no_step_waits_for_the_gpu(data, tmp_path):
    """Once captured, whatever waits for the device is an error."""
    run = small_run(data, tmp_path, **{"resources.compile": "on"})
    loop, plan = made(run, CUDA)
    taken = loop._steps.take(1, 0, plan.batches(1))
    for _ in range(CapturedStep.WARM_UP + 2):
        next(taken)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in taken:
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_capture_that_fails_gives_its_memory_back(data, tmp_path):
    loop, plan = made(small_run(data, tmp_path), CUDA)
    step = CapturedStep(loop._steps._step)

    def waits(given):
        taken = torch.empty(2**30, dtype=torch.uint8, device=CUDA)
        torch.cuda.synchronize()  # not permitted in a capture
        return taken

    step._left, step._step.alone, loop._steps._taken = 0, waits, step
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    with pytest.raises(CaptureError):
        next(loop._steps.take(1, 0, plan.batches(1)))
    assert torch.cuda.memory_reserved() - before < 2**28
    assert torch.ones(8, device=CUDA).sum() == 8  # nothing is taken for a capture any more


RESUME = """
import sys
from pathlib import Path
import torch
torch.use_deterministic_algorithms(True)
from test_cuda import resumed_equals_undisturbed
resumed_equals_undisturbed(Path(sys.argv[1]))
"""


def resumed_equals_undisturbed(folder):
    values = {"train.epochs": 3, "resources.compile": "on"}
    whole = small_run(folder, folder / "whole", **values)
    assert train_here(whole, ONE_GPU).finished
    reduction.REDUCE_SECONDS = 0.0  # a reduction after every step
    cut = small_run(folder, folder / "cut", **values)
    loop, plan = made(cut, CUDA, on_progress=lambda progress: progress.epoch == 2)
    assert plan.num_steps > CapturedStep.WARM_UP  # cut off within the captured steps
    assert not loop.run(Position(1, 0))
    assert isinstance(loop._steps._take, CapturedStep)
    assert train_here(cut, ONE_GPU).finished
    assert_same_run(folder / "whole", folder / "cut", 3)


def test_a_resumed_run_is_the_same_bit_by_bit_with_deterministic_algorithms(tmp_path):
    """In a process of its own: cuBLAS reads its workspace's size once."""
    here = Path(__file__).parent
    folders = [here, here.parent, here.parent / "training", here.parents[1]]
    given = os.environ.get("PYTHONPATH")  # where packages may be, on a machine without a network
    path = os.pathsep.join([*map(str, folders), *([given] if given else [])])
    answer = subprocess.run(
        [sys.executable, "-c", RESUME, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]


def test_too_little_memory_ends_in_words(data, tmp_path):
    run = small_run(data, tmp_path, **{"model.decoder_width": 4096, "model.decoder_layers": 3})
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 200e6  # less than the network and its moments
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(RaydrgnError, match="out of memory on the GPU"):
            train_here(run, ONE_GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("mode", ["on", "off"])
def test_two_workers_that_share_a_gpu_fit_as_one(data, tmp_path, mode):
    values = {"train.amp": False, "resources.compile": mode}
    alone = made(small_run(data, tmp_path / "alone", **values), CUDA)
    expected = losses(alone, 20)
    run = small_run(data, tmp_path / "shared", **values)
    (first, mine), (second, theirs) = fit_together(run, CUDA, tmp_path)
    assert torch.equal(first, second)
    bounds = {"rtol": SINGLE_BOUND, "atol": SINGLE_BOUND}
    torch.testing.assert_close(mine + theirs, expected, **bounds)
    torch.testing.assert_close(first, parameters(alone), **bounds)


def test_volumes_are_those_of_a_cpu(data, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": 5})
    assert train_here(run, ONE_GPU).finished
    opened = open_run(str(tmp_path))
    state, z = opened.decoder(5), opened.latents(5)[:4]
    here, there = (state.volumes(state.build(device), z).cpu() for device in (CPU, CUDA))
    assert shell_correlation(here, there)[:, 1:].min() > 0.9999


def test_latents_of_other_particles_are_those_of_a_cpu(data, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": 1})
    assert train_here(run, ONE_CPU).finished
    tensors = read_network_tensors(str(tmp_path / "weights.1.pkl"))
    here, there = (
        encode_particles(run.config, tensors, run.table, device=device, progress=silent)
        for device in (CPU, CUDA)
    )
    for name in ("mean", "logvar", "reconstruction", "correlation", "kl"):
        np.testing.assert_allclose(
            getattr(there, name), getattr(here, name), rtol=SINGLE_BOUND, atol=SINGLE_BOUND
        )


def test_a_mixture_is_that_of_a_cpu(mixtures):
    here, there, again = (latents(mixtures / name, 4) for name in ("cpu", "gpu", "again"))
    own, between = (np.abs(there - other).max() / here.std() for other in (again, here))
    assert between < max(MIXTURE_BOUND, 3 * own), f"two fits of the card differ by {own:.1e} SD"
    here, there = (plain_em.tensors(mixtures / name, 4) for name in ("cpu", "gpu"))
    assert here.keys() == there.keys()
    assert {tensor.device for tensor in there.values()} == {CPU}


def test_a_frozen_encoder_is_pretrained_and_stays_in_captured_steps(
    mixtures, tmp_path, monkeypatch
):
    monkeypatch.setattr(pretraining, "STEPS", 800)
    network = {name: value for name, value in SMALL.items() if name != "model.zdim"}
    values = {"train.init": str(mixtures / "gpu"), "train.epochs": 2, "resources.compile": "on"}
    source = ParticleSource(particles=str(mixtures / "particles.star"))
    run = begin(RunRequest(root=str(tmp_path), source=source, values={**network, **values}))
    assert train_here(run, ONE_GPU).finished
    first, second = (weights(tmp_path, epoch) for epoch in (1, 2))
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)


@pytest.mark.parametrize("backend", ["nccl", "gloo"])
def test_a_worker_exchanges_tensors_of_the_card(tmp_path, backend):
    """By gloo where workers share it: of a mixture they reduce sums in double precision."""
    exchange_alone(CUDA, backend, tmp_path)
