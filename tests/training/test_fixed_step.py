"""Steps of fixed shapes: the same fit as the plain loop, and nothing that waits for the host."""

import sys

import pytest
import torch
from torch import distributed
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from plain import all_weights, assemble, small_run, step_losses
from processes import run_group
from raydrgn.ctf import CTFParameters
from raydrgn.data.batch import ParticleBatch
from raydrgn.data.store import Sharing
from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.directory import Position
from raydrgn.training import prefetch, steps
from raydrgn.training.fixed_step import (
    CaptureError,
    FixedStep,
    first_error,
    require_compiler,
)
from raydrgn.training.gpu_memory import Card
from raydrgn.training.optimiser import make_optimiser
from raydrgn.training.prefetch import StepInput
from raydrgn.training.step import SliceLattice
from raydrgn.training.steps import FixedSteps, PlainSteps, is_captured

STEPS = 20
"""Of 8 of 53 particles: two epochs, each of which ends with a batch of 5, and a part of one."""

FIXED = {"resources.compile": "on"}
VALUES = {"train.warmup_steps": 0, "train.learning_rate": 1e-3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def _without_compiler(monkeypatch):
    """Take the steps as they would be compiled; tests/training/test_compile.py compiles them."""
    monkeypatch.setattr(FixedStep, "compile", lambda self: None)


def made(data, **values):
    run = small_run(data, data / "run", num_particles=53, **{**VALUES, **values})
    return assemble(run)


def losses(parts, count=STEPS):
    return step_losses(parts.loop, parts.plan, count)


def parameters(parts):
    return all_weights(parts.vae)


@pytest.mark.parametrize("store", ["device", "disk"])
@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_filled_up_batches_and_what_is_sent_ahead_fit_as_the_plain_loop(
    data, monkeypatch, fraction, store
):
    monkeypatch.setattr(prefetch, "PREFETCHED_STEPS", 3)
    monkeypatch.setattr("raydrgn.training.step.CACHE_ROWS", 100)  # several micro-batches
    values = {"train.points_fraction": fraction, "resources.shard_store": store}
    plain, fixed = made(data, **values), made(data, **values, **FIXED)
    assert isinstance(plain.loop._steps, PlainSteps)
    assert isinstance(fixed.loop._steps, FixedSteps)
    before = parameters(plain)
    torch.testing.assert_close(losses(plain), losses(fixed), rtol=1e-5, atol=1e-5)
    assert fixed.loop._steps._step.num_parts > 1
    assert (parameters(plain) - before).abs().max() > 1e-3
    torch.testing.assert_close(parameters(plain), parameters(fixed), rtol=0, atol=1e-6)


def test_it_goes_on_within_an_epoch_with_the_same_draws(data):
    whole, resumed = made(data, **FIXED), made(data, **FIXED)
    selections = whole.plan.batches(1)
    expected = list(whole.loop._steps.take(1, 0, selections))
    for of_step in resumed.loop._steps.take(1, 0, selections[:3]):
        assert torch.equal(of_step, expected.pop(0))
    for of_step in resumed.loop._steps.take(1, 3, selections[3:]):
        assert torch.equal(of_step, expected.pop(0))


@pytest.mark.parametrize("first", [{}, FIXED])
def test_a_checkpoint_of_either_kind_of_steps_serves_the_other(data, first):
    second = {} if first else FIXED
    begun, undisturbed = made(data, **first), made(data, **first)
    taken = Position(3, 0)
    losses(begun, 14)
    begun.loop._save_checkpoint(taken, 1e-3)
    content = begun.writer.checkpoint_at(taken)
    checkpoint = Checkpoint.from_bytes(content)
    [group] = checkpoint.optimiser["param_groups"]
    assert group["lr"] == 1e-3
    assert not group["capturable"]
    going_on = made(data, **second)
    assert going_on.loop.load(checkpoint) == taken
    losses(undisturbed, 14)
    selections = undisturbed.plan.batches(3)
    expected = torch.stack(list(undisturbed.loop._steps.take(3, 0, selections)))
    found = torch.stack(list(going_on.loop._steps.take(3, 0, selections)))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_workers_add_up_their_gradients(data, tmp_path):
    alone = made(data, **FIXED)
    losses(alone)
    run = small_run(data, tmp_path / "run", num_particles=53, **VALUES, **FIXED)
    run_group(_worker, 2, run, str(tmp_path), world=2)
    shared = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.equal(*shared)
    torch.testing.assert_close(shared[0], parameters(alone), rtol=0, atol=1e-6)


def _worker(rank, world, run, folder):
    torch.set_num_threads(1)
    FixedStep.compile = lambda self: None
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world
    )
    parts = assemble(run, rank=rank, world=world)
    losses(parts)
    torch.save(parameters(parts), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


FULL = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", FULL)
def test_too_little_memory_halves_the_micro_batches(data, error):
    whole, cut = made(data, **FIXED), made(data, **FIXED)
    expected = losses(whole)
    _limit_memory(cut, most=3, error=error)
    torch.testing.assert_close(losses(cut), expected, rtol=1e-5, atol=1e-5)
    assert cut.loop._steps._step.num_parts == 4


@pytest.mark.parametrize("store", ["device", "disk"])
def test_only_a_micro_batch_of_particles_is_taken_at_a_time(data, store):
    values = {"resources.shard_store": store}
    parts = made(data, **FIXED, **values)
    step, sizes = parts.loop._steps._step, []
    gather = step._gather

    def recorded(rows, of_batch):
        sizes.append(len(rows))
        return gather(rows, of_batch)

    step._gather = recorded
    _limit_memory(parts, most=2)
    losses(parts)
    assert set(sizes[-STEPS:]) == {2}


@pytest.mark.parametrize("error", FULL)
def test_too_little_memory_for_one_particle_ends_in_words(data, monkeypatch, error):
    parts = made(data, **FIXED)
    _limit_memory(parts, most=0, error=error)
    card = Card(name="NVIDIA H100", total=80e9, free=3e8, used_by_others=7.8e10)
    monkeypatch.setattr(steps, "card_of", lambda device, sharing: card)
    with pytest.raises(RaydrgnError) as caught:
        losses(parts)
    text = str(caught.value)
    assert "NVIDIA H100 has 0.3 of 80.0 GB free; other processes hold 78.0 GB" in text
    assert "One particle at a time needs about" in text
    assert "--gpus-per-worker 0" in text


def test_other_errors_are_not_taken_for_a_lack_of_memory(data):
    parts = made(data, **FIXED)
    _limit_memory(parts, most=0, error=RuntimeError("mat1 and mat2 shapes"))
    with pytest.raises(RuntimeError, match="mat1"):
        losses(parts)
    assert parts.loop._steps._step.num_parts == 1


def _limit_memory(parts, *, most, error=FULL[0]):
    """Let passes over more than some particles fail, as a full GPU does."""
    step = parts.loop._steps._step
    losses_of = step._losses_of

    def limited(batch, *others):
        if len(batch) > most:
            raise error
        return losses_of(batch, *others)

    step._losses_of = limited


def test_a_step_that_cannot_be_captured_goes_on_unless_it_was_asked_for(data):
    expected = losses(made(data, **FIXED))

    def refuse(given):
        raise CaptureError("operation not permitted when stream is capturing")

    parts = made(data, **FIXED)
    notes = []
    fixed = parts.loop._steps
    fixed._take, fixed._note = refuse, notes.append
    with pytest.raises(RaydrgnError, match=r"cannot capture .*--set resources\.compile=off it"):
        losses(parts)
    object.__setattr__(fixed._config.resources, "compile", "auto")
    assert torch.equal(losses(parts), expected)
    assert notes == [
        "the step is not captured as one graph (operation not permitted when stream is capturing), "
        "and takes longer"
    ]


@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_what_a_gpu_lacks_is_noted_before_the_first_step(data, monkeypatch, has_bfloat16):
    """That it has no bfloat16, what others hold of it, what a step needs and how it is cut."""
    fixed = made(data, **FIXED | {"train.amp": True}).loop._steps
    need = fixed._memory.network + 3.5 * fixed._memory.per_particle
    card = Card(name="Tesla T4", total=16e9, free=need / 0.9, used_by_others=9e9)
    notes, asked = [], []

    def card_of(device, sharing=None):
        asked.append(sharing)
        return card

    monkeypatch.setattr(steps, "card_of", card_of)
    monkeypatch.setattr("raydrgn.training.fixed_step.card_of", card_of)
    monkeypatch.setattr(steps, "has_bfloat16", lambda device: has_bfloat16)
    object.__setattr__(fixed._config.resources, "compile", "auto")
    fixed._device, fixed._note, fixed._sharing = torch.device("cuda"), notes.append, Sharing(2, 0.5)
    assert fixed._begin(10) is fixed._step
    assert set(asked) == {Sharing(2, 0.5)}
    assert fixed._step.num_parts == 3  # of 8 particles
    if not has_bfloat16:
        assert notes.pop(0) == (
            "Tesla T4 does not support bfloat16; float32 is used, and train.amp has no effect"
        )
    assert notes[0].endswith("of 16.0 GB free; other processes hold 9.0 GB")
    assert notes[1].startswith("a step needs about 0.00 GB of the GPU")
    assert notes[1].endswith("particles, in 3 parts")


def test_a_capture_that_fails_is_named_by_its_first_error():
    of_end = RuntimeError("operation failed due to a previous error during capture")
    of_end.__context__ = torch.OutOfMemoryError("CUDA out of memory.")  # raised meanwhile
    assert str(first_error(of_end)) == "CUDA out of memory."
    assert str(first_error(RuntimeError("alone"))) == "alone"


def test_capturing_is_left_out_where_few_steps_are_left():
    assert is_captured("auto", 100_000)
    assert not is_captured("auto", 100)
    assert is_captured("on", 100)
    assert not is_captured("off", 100_000)


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="'no-such-compiler' is not found"):
        require_compiler()


# --- nothing waits for the host -------------------------------------------------------------------


@pytest.fixture
def _adam_on_meta(monkeypatch):
    """Let Adam's fused step, which a GPU takes, run on tensors without values.

    Its kernel writes in place, and nothing depends on what it writes.
    """
    module = sys.modules[torch.optim.Optimizer.__module__]
    found = module._get_fused_kernels_supported_devices
    monkeypatch.setattr(module, "_get_fused_kernels_supported_devices", lambda: [*found(), "meta"])
    library = torch.library.Library("aten", "IMPL", "Meta")
    library.impl("_fused_adam_.tensor_lr", lambda *_, **__: None)
    yield
    library._destroy()


BOX, SIZE, PARTICLES = 16, 8, 53

TAKEN = ["__call__", "alone", "add_gradients"]
"""A step as it is, and what a graph captures of it: with one worker, and with several."""


def step_on(lattice, *, domain, amp_dtype=None):
    """Return a step on made-up tensors of the lattice's device, and its input."""
    config = ModelConfig(
        zdim=2, encoder_width=16, decoder_width=16, encoder_layers=1, domain=domain
    )
    with torch.device(lattice.plane.device):
        vae = HeterogeneousVAE(config, box=BOX, num_pixels=2 * lattice.num_points)
        particles = ParticleBatch(
            coefficients=torch.empty(PARTICLES, lattice.num_points, 2),
            rotations=torch.empty(PARTICLES, 3, 3),
            pixel_size_angstrom=torch.empty(PARTICLES),
            ctf=CTFParameters.from_columns(torch.empty(PARTICLES, 7)),
        )
        step = FixedStep(
            vae,
            make_optimiser(vae.parameters(), rate=torch.empty(())),
            lattice,
            lambda rows, of_batch: particles.chosen(rows),
            torch.empty(PARTICLES, 2),
            beta=0.5,
            amp_dtype=amp_dtype,
        )
        given = StepInput(
            rows=torch.empty(SIZE, dtype=torch.int64),
            points=torch.empty(20, dtype=torch.int64),
            rate=torch.empty(()),
            factor=torch.empty(()),
        )
    return step, given


@pytest.mark.usefixtures("_adam_on_meta")
@pytest.mark.parametrize("domain", ["fourier", "hartley"])
@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("taken", TAKEN)
def test_the_whole_step_runs_on_tensors_without_values(domain, num_parts, taken):
    """So no number of it is looked at, no shape depends on one, and no tensor is elsewhere."""
    meta = torch.device("meta")
    step, given = step_on(SliceLattice.of_box(BOX, device=meta), domain=domain)
    step.num_parts = num_parts
    for _ in range(2):
        found = getattr(step, taken)(given)
    assert found.device == meta
    assert found.shape == (3,)
    [group] = step._optimiser.param_groups
    assert {p.grad.device for p in group["params"] if p.requires_grad} == {meta}
    moments = [value.device for state in step._optimiser.state.values() for value in state.values()]
    assert set(moments) == (set() if taken == "add_gradients" else {meta})


class Products(TorchDispatchMode):
    """Notes the types of what matrix products take."""

    def __init__(self):
        super().__init__()
        self.types = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
            self.types += [value.dtype for value in arguments[-2:]]
        return function(*arguments, **(named or {}))


@pytest.mark.parametrize("domain", ["fourier", "hartley"])
@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("taken", TAKEN)
def test_with_products_of_bfloat16_too(domain, num_parts, taken):
    """On a CPU's tensors without values: those of ``meta`` have no autocast."""
    mode = FakeTensorMode()
    plane = SliceLattice.of_box(BOX, device=torch.device("cpu")).plane
    with mode:
        lattice = SliceLattice(mode.from_tensor(plane))
        step, given = step_on(lattice, domain=domain, amp_dtype=torch.bfloat16)
        step.num_parts = num_parts
        with Products() as products:
            found = getattr(step, taken)(given)
        with pytest.raises(DataDependentOutputException):
            found.sum().item()
    assert found.dtype == torch.float32
    [group] = step._optimiser.param_groups
    assert {p.grad.dtype for p in group["params"] if p.requires_grad} == {torch.float32}
    whole = products.types.count(torch.float32)
    assert whole == 2 * 2 * num_parts  # of positions: those of slices, and their encoding
    assert products.types.count(torch.bfloat16) == len(products.types) - whole > whole
