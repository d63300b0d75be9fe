"""The loop on one process: repeatable, resumable, and it learns."""

from functools import partial

import numpy as np
import pytest
import torch

from plain import assemble, assert_same_run, fit, latents, small_run, weights
from raydrgn.errors import RaydrgnError
from raydrgn.evaluation.evaluation import evaluate
from raydrgn.fourier.shells import shell_correlation
from raydrgn.geometry.lattice import half_disc
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.model.volume import decode_volumes
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.directory import Position
from raydrgn.run.metrics import epoch_rows
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import Simulation, simulate
from raydrgn.training import loop, reduction
from raydrgn.training.prepare_run import RunRequest, begin
from raydrgn.training.sinks import divergence_message

EPOCHS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def undisturbed(data):
    root = data / "undisturbed"
    run = small_run(data, root, **{"train.epochs": EPOCHS})
    fit(run)
    return root


def test_the_same_seed_gives_the_same_weights_and_latents(data, undisturbed, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": EPOCHS})
    fit(run)
    assert_same_run(undisturbed, tmp_path, EPOCHS)


def test_another_seed_gives_others(data, undisturbed, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": 1, "train.seed": 1})
    fit(run)
    assert not np.array_equal(latents(tmp_path, 1), latents(undisturbed, 1))


@pytest.mark.parametrize("store", ["host", "disk", "device"])
def test_all_stores_train_alike(data, undisturbed, tmp_path, store):
    values = {"train.epochs": EPOCHS, "resources.shard_store": store}
    run = small_run(data, tmp_path, **values)
    fit(run)
    assert_same_run(undisturbed, tmp_path, EPOCHS)


def test_a_run_stopped_within_an_epoch_goes_on_bit_by_bit(data, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(reduction, "REDUCE_SECONDS", 0.0)  # a reduction after every step
    run = small_run(data, tmp_path, **{"train.epochs": EPOCHS})
    parts = assemble(run, on_progress=lambda progress: progress.epoch == 2)
    assert not parts.loop.run(Position(1, 0))
    states = sorted(path.name for path in (tmp_path / "state").glob("*.pt"))
    assert any(name.startswith("2.") and name != "2.0.pt" for name in states)
    fit(run)
    assert_same_run(undisturbed, tmp_path, EPOCHS)
    assert [row["epoch"] for row in epoch_rows(str(tmp_path / "metrics.jsonl"))] == [1, 2, 3]


def test_a_damaged_state_is_noticed_and_the_one_before_used(data, undisturbed, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": 2})
    fit(run)
    newest = tmp_path / "state" / "3.0.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    parts = assemble(run)
    latest = parts.writer.latest_checkpoint()
    assert latest.content is not None
    assert "3.0.pt" in latest.problems[0]
    # the schedule depends on the number of epochs: compare with a run of the same number
    again = tmp_path / "again"
    fit(small_run(data, again, **{"train.epochs": 2}))
    fit(run)
    assert_same_run(again, tmp_path, 2)


@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_a_loss_that_is_not_finite_names_the_rows_and_keeps_the_last_state(
    data, tmp_path, monkeypatch, half
):
    monkeypatch.setattr("raydrgn.training.loop.choose_amp_dtype", lambda device, amp: half)
    run = small_run(data, tmp_path, **{"train.epochs": EPOCHS})
    parts = assemble(run)
    assert parts.loop._run_epoch(1, 0)
    coefficients = parts.shard.store._values
    coefficients[17] = float("nan")
    with pytest.raises(RaydrgnError, match=r"table rows .*\b17\b") as caught:
        parts.loop.run(Position(2, 0))
    assert ("in single precision" in str(caught.value)) == (half is not None)
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path, 1).values())


def spoil_gradient(parts):
    """Let the gradient of a parameter turn NaN in the step after those that follow."""
    parameter = next(p for p in parts.vae.decoder.parameters() if p.requires_grad)
    parameter.register_hook(lambda gradient: gradient * float("nan"))


@pytest.mark.parametrize("spoiled", [3, 26])
def test_weights_that_a_gradient_has_spoiled_are_not_kept(data, tmp_path, monkeypatch, spoiled):
    """Within an epoch, where a checkpoint is due after each step, and in its last step.

    The loss of that step is finite: it was made with the weights before.
    """
    monkeypatch.setattr(reduction, "REDUCE_SECONDS", 0.0)  # a reduction after every step
    run = small_run(data, tmp_path, **{"train.epochs": 2, "train.checkpoint_minutes": 1e-9})
    parts = assemble(run)
    assert parts.plan.num_steps == 26
    losses_of = parts.loop._steps.take

    def take(epoch, first, selections):
        for step, losses in enumerate(losses_of(epoch, first, selections), start=1):
            yield losses
            if step == spoiled - 1:
                spoil_gradient(parts)

    parts.loop._steps.take = take
    last = (parts.plan.batches(1)[spoiled - 1] + parts.plan.rows[0]).tolist()
    named = f"^The loss or its gradient is not finite before epoch 1, step {spoiled}: the batch of "
    with pytest.raises(RaydrgnError, match=f"{named}table rows {', '.join(map(str, last))}"):
        parts.loop.run(Position(1, 0))
    kept = Checkpoint.from_bytes(parts.writer.checkpoint_at(Position(1, spoiled - 1)))
    assert all(torch.isfinite(tensor).all() for tensor in kept.model.values())
    assert not list(tmp_path.glob("weights.*"))


def test_a_loss_that_is_not_finite_in_half_precision_suggests_single_precision():
    whole, half = (
        divergence_message(Position(2, 7), [17], uses_amp=uses_amp) for uses_amp in (False, True)
    )
    assert "train.amp" not in whole
    assert half.endswith("or in single precision: --resume --set train.amp=false.")
    assert "table rows 17." in half


def test_where_memory_is_short_fewer_are_encoded_at_a_time(data, tmp_path, monkeypatch):
    """A step is cut to what fits; the latents at the end of an epoch must not fail after it."""
    parts = assemble(small_run(data, tmp_path, **{"train.epochs": 2}))
    parts.loop.encode(1)
    encoder, sizes = parts.vae.encoder, []
    encode = encoder.encode

    def limited(images):
        sizes.append(len(images))
        if len(images) > 70:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return encode(images)

    monkeypatch.setattr(encoder, "encode", limited)
    parts.loop.encode(2)
    assert sizes == [203, 128, 64, 64, 64, 11]
    np.testing.assert_allclose(latents(tmp_path, 2), latents(tmp_path, 1), atol=1e-6)
    monkeypatch.setattr(encoder, "encode", partial(refuse, torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):
        parts.loop.encode(2)


def refuse(error, images):
    raise error


def test_metrics_weigh_every_particle_alike(undisturbed):
    rows = epoch_rows(str(undisturbed / "metrics.jsonl"))
    assert [row["particles"] for row in rows] == [203] * EPOCHS
    for row in rows:  # total = reconstruction + β·KL / pixels, β = 1/2, 2·n pixels of the disc
        assert row["total"] == pytest.approx(
            row["reconstruction"] + 0.5 * row["kl"] / (2 * len(half_disc(16))), abs=2e-6
        )


def test_it_tells_two_states_apart_and_makes_their_volumes(tmp_path):
    """Two compositions, 600 noisy images: latents tell them apart, volumes are the truth's."""
    simulate(str(tmp_path / "all"), Simulation(num_particles=10, box=24, snr=1.0))
    maps = tmp_path / "maps"
    maps.mkdir()
    for number in (0, 5):
        name = f"vol_{number:03d}.mrc"
        (maps / name).write_bytes((tmp_path / "all" / "truth" / name).read_bytes())
    data = tmp_path / "data"
    simulate(str(data), Simulation(num_particles=600, box=24, snr=0.5, maps=f"{maps}/*.mrc"))
    root = tmp_path / "run"
    source = ParticleSource(particles=str(data / "particles.star"))
    values = {
        "model.zdim": 2,
        "model.encoder_width": 64,
        "model.decoder_width": 64,
        "model.encoder_layers": 2,
        "model.decoder_layers": 2,
        "train.epochs": 25,
    }
    run = begin(RunRequest(root=str(root), source=source, values=values))
    storage.write_bytes(str(root / "config.yaml"), run.config.to_yaml().encode())
    run.table.write(str(root / "particles.parquet"))
    fit(run)
    result = evaluate(open_run(str(root)), str(data / "truth"))
    assert result.separation.rand_index > 0.95
    assert result.separation.neighbour_accuracy > 0.98
    assert result.fsc > result.fsc_of_mean + 0.03
    assert min(state.fsc for state in result.states) > 0.85
    # as a GPU decodes: operands of products in float16
    opened = open_run(str(root))
    decoder = opened.decoder(25).build(torch.device("cpu"))
    z = torch.from_numpy(opened.latents(25)[:4])
    single, half = (
        decode_volumes(decoder, z, box=24, amp_dtype=half) for half in (None, torch.float16)
    )
    assert not torch.equal(single, half)
    assert shell_correlation(single, half)[:, 1:].min() > 0.9999


def test_the_log_has_a_line_per_interval_and_per_epoch(data, tmp_path, monkeypatch):
    monkeypatch.setattr(reduction, "REDUCE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "LOG_SECONDS", 0.0)
    run = small_run(data, tmp_path, **{"train.epochs": 2})
    fit(run)
    lines = (tmp_path / "run.log").read_text().splitlines()
    steps = [line for line in lines if "epoch 2/2: 80/203 particles: loss " in line]
    assert len(steps) == 1  # after 10 steps of 8 particles
    [end] = [line for line in lines if "epoch 2/2: finished, mean over the epoch: loss " in line]
    row = epoch_rows(str(tmp_path / "metrics.jsonl"))[1]
    assert f"loss {row['total']:.6f}" in end
    assert f"learning rate {row['learning_rate']:.2e}" in end
