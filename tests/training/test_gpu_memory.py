"""What a step needs of a GPU's memory, and how it is told who holds the rest."""

import os
import sys

import pytest
import torch

from raydrgn.ctf import CTFParameters
from raydrgn.data.batch import ParticleBatch
from raydrgn.data.store import Sharing
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.training import gpu_memory
from raydrgn.training.fixed_step import num_parts
from raydrgn.training.gpu_memory import Card, Process, StepMemory, processes_of, too_small_message
from raydrgn.training.step import SliceLattice, evaluate_losses

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def kept_bytes(vae, lattice, *, count, points, half):
    """Return the bytes that autograd keeps of a forward pass, weights aside."""
    kept, weights = {}, {p.untyped_storage().data_ptr() for p in vae.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    batch = ParticleBatch(
        coefficients=torch.randn(count, lattice.num_points, 2),
        rotations=torch.eye(3).expand(count, 3, 3),
        pixel_size_angstrom=torch.full((count,), 3.0),
        ctf=CTFParameters.from_columns(
            torch.tensor([15_000.0, 14_500.0, 30.0, 300.0, 2.7, 0.1, 0.0]).expand(count, 7)
        ),
    )
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        evaluate_losses(
            vae,
            batch,
            lattice,
            noise=torch.zeros(count, vae.config.zdim),
            beta=1.0,
            points=points,
            amp_dtype=half,
        )
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("half", [None, torch.bfloat16])
@pytest.mark.parametrize("domain", ["fourier", "hartley"])
@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_the_count_covers_what_the_backward_pass_needs_and_little_more(half, domain, fraction):
    config = ModelConfig(domain=domain, decoder_width=128, encoder_width=64)
    lattice = SliceLattice.of_box(32, device=CPU)
    vae = HeterogeneousVAE(config, box=32, num_pixels=2 * lattice.num_points)
    num_compared = round(fraction * lattice.num_points)
    points = None if fraction == 1 else torch.arange(num_compared)
    few, many = (
        kept_bytes(vae, lattice, count=count, points=points, half=half) for count in (2, 6)
    )
    of_particle = (many - few) / 4
    counts = {"num_points": lattice.num_points, "num_compared": num_compared}
    memory, of_two = (
        StepMemory.of(vae, **counts, uses_amp=half is not None, num_workers=workers)
        for workers in (1, 2)
    )
    assert of_particle < memory.per_particle < 2.5 * of_particle
    of_matrices = few - 2 * of_particle
    assert of_matrices > 0
    needed = sum(4 * p.nbytes for p in vae.parameters()) + sum(b.nbytes for b in vae.buffers())
    assert needed + of_matrices <= memory.network < 1.1 * (needed + of_matrices)
    assert of_two.network - memory.network == sum(p.nbytes for p in vae.parameters())


@pytest.mark.parametrize(
    ("free", "parts"), [(1e6, 1), (100_000 / 0.9, 1), (60_000 / 0.9, 2), (30_000 / 0.9, 8), (0, 8)]
)
def test_a_batch_is_cut_into_parts_that_fit(free, parts):
    memory = StepMemory(network=20_000, per_particle=10_000)
    assert memory.parts(8, free=free) == parts

    def fits(parts):
        return 20_000 + -(-8 // parts) * 10_000 <= 0.9 * free + 1e-6

    assert fits(parts) or parts == 8
    assert parts == 1 or not fits(parts - 1)  # no more than are needed


def test_what_a_step_needs_is_in_words():
    memory = StepMemory(network=300_000_000, per_particle=150_000_000)
    assert memory.in_words(16, 2) == (
        "a step needs about 1.50 GB of the GPU: 0.30 GB for network and optimiser, 150 MB for each "
        "of 8 particles, in 2 parts"
    )


def test_other_processes_are_named_with_what_they_hold(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    lines = [
        "GPU-11-22, 4711, /usr/bin/python, with a comma, 61035",
        f"GPU-11-22, {os.getpid()}, python, 5000",
        "GPU-99-99, 4712, elsewhere, 100",
        "GPU-11-22, 4713, unknown, [N/A]",
        "",
        "a message",
    ]
    program.write_text(f"#!{sys.executable}\nprint({chr(10).join(lines)!r})\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = processes_of("11-22")
    other, mine = found
    assert other == Process(4711, "/usr/bin/python, with a comma", 61035 * 2**20)
    assert mine == Process(os.getpid(), "python", 5000 * 2**20)
    card = Card(name="GPU", total=8e10, free=1e9, used_by_others=6.4e10, processes=(other,))
    assert card.in_words() == (
        "GPU has 1.0 of 80.0 GB free; process 4711 (/usr/bin/python, with a comma) holds 64.0 GB"
    )
    text = too_small_message(StepMemory(network=10**9, per_particle=10**9), card)
    assert "process 4711" in text
    assert "needs about 2.00 GB" in text


@pytest.mark.parametrize("content", [None, "raise SystemExit(9)"])
def test_a_driver_that_names_nobody_is_no_error(tmp_path, monkeypatch, content):
    if content:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!{sys.executable}\n{content}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert processes_of("11-22") == ()
    card = Card(name="GPU", total=8e10, free=1e9, used_by_others=6.4e10)
    assert card.in_words().endswith("other processes hold 64.0 GB")


@pytest.fixture
def _card_of_80_gb(monkeypatch):
    """78 GB are free, and this process has set 1 GB aside that it does not use."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (78 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 15 * 10**8)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 5 * 10**8)
    properties = type("Properties", (), {"name": "GPU", "uuid": "11-22"})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)


@pytest.mark.usefixtures("_card_of_80_gb")
def test_a_card_of_one_process_has_no_others():
    card = gpu_memory.card_of(CUDA)
    assert card.free == 79e9
    assert card.used_by_others == 0


OTHER = Process(4711, "python", 30e9)


@pytest.mark.usefixtures("_card_of_80_gb")
@pytest.mark.parametrize(
    ("used", "held", "processes"),
    [
        (9.5e9, 30.5e9, (OTHER,)),  # with 8 GB of NCCL
        (1e9, 37.5e9, (OTHER,)),  # less than torch has: no more is known than without
        (40e9, 0, ()),
        (None, 37.5e9, ()),  # in a container that has numbers of its own: any may be this process
    ],
)
def test_what_the_driver_counts_to_this_process_is_not_that_of_others(
    monkeypatch, used, held, processes
):
    own = () if used is None else (Process(os.getpid(), "python", used),)
    monkeypatch.setattr(gpu_memory, "processes_of", lambda _: (OTHER, *own))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (40 * 10**9, 80 * 10**9))
    card = gpu_memory.card_of(CUDA)
    assert card.used_by_others == held
    assert card.processes == processes


@pytest.mark.usefixtures("_card_of_80_gb")
def test_a_worker_on_the_same_card_is_no_other_process(monkeypatch):
    monkeypatch.setattr(gpu_memory, "processes_of", lambda _: ())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (40 * 10**9, 80 * 10**9))
    held = [gpu_memory.card_of(CUDA, Sharing.of_worker(gpus=g)).used_by_others for g in (1, 0.5)]
    assert held == [37.5e9, 0]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20 * 10**9, 80 * 10**9))
    assert gpu_memory.card_of(CUDA, Sharing.of_worker(gpus=0.5)).used_by_others == 57.5e9


@pytest.mark.usefixtures("_card_of_80_gb")
def test_workers_that_share_a_card_cut_their_batches_to_its_parts():
    memory = StepMemory(network=10**9, per_particle=10**9)
    parts = {
        gpus: num_parts(
            memory, 64, num_compared=1, device=CUDA, sharing=Sharing.of_worker(gpus=gpus)
        )
        for gpus in (1.0, 0.5, 0.25)
    }
    assert parts == {1.0: 1, 0.5: 2, 0.25: 4}
    for gpus, number in parts.items():
        # of 79 and 2 × 40 and 4 × 20.5 GB, which each worker's own 1 GB is counted to
        assert memory.network + 64 / number * memory.per_particle <= 0.9 * (gpus * 78e9 + 1e9)
