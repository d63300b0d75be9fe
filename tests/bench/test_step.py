"""The bench of the bare step: what it counts, and what it needs."""

import subprocess
import sys

import pytest
import torch

from raydrgn.bench import step
from raydrgn.geometry.lattice import half_disc
from raydrgn.model.vae import HeterogeneousVAE

ALONE = """
import sys

absent = "ray scipy pyarrow jaxtyping sklearn gemmi mrcfile matplotlib jinja2 umap"
sys.modules.update(dict.fromkeys(absent.split()))  # importing any of these raises
sys.argv = ["raydrgn", "bench", "step", "--box", "16", "--dim", "16", "--layers", "1",
            "--no-compile"]
from raydrgn.bench import step
from raydrgn.cli.main import main
step.ROUND_SECONDS = 0.02
main()
"""


def test_it_needs_torch_numpy_typer_and_rich_only():
    result = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "particles/s" in result.stdout
    assert "share of the limit" in result.stdout


def test_a_fused_step_that_fails_is_left_out_with_its_reason(monkeypatch, caplog):
    monkeypatch.setattr(step, "ROUND_SECONDS", 0.002)
    device, calls = torch.device("cpu"), []

    def made(*, is_fused):
        assert is_fused
        return lambda: calls.append(1)

    assert step._fused_rate(made, device, 4) > 0
    assert len(calls) > step.FIRST_STEPS

    def refused(*, is_fused):
        raise RuntimeError("no compiler\nand a stack")

    assert step._fused_rate(refused, device, 4) is None
    assert "cannot compile the step (no compiler): it is not compared" in caplog.text


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_arithmetic_is_that_of_the_matrix_products(monkeypatch, fraction):
    """Two per weight forward, and as many for each of the two gradients of a product."""
    monkeypatch.setattr(step, "ROUND_SECONDS", 0.02)
    model, train = step.configs(
        [f"train.points_fraction={fraction}"], width=32, layers=2, batch_size=4, amp=False
    )
    rate = step.measure(model, train, box=16, device=torch.device("cpu"))
    num_points = len(half_disc(16))
    vae = HeterogeneousVAE(model, box=16, num_pixels=2 * num_points)
    encoder, decoder = (
        sum(p.numel() for p in part.parameters() if p.ndim == 2)
        for part in (vae.encoder, vae.decoder)
    )
    expected = 6 * (encoder + round(fraction * num_points) * decoder)
    # less: inputs of the first layers have no gradient, and z enters once per image
    assert 0.7 * expected < rate.flop_per_particle <= expected
