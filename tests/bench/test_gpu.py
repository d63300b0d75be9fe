"""The table of a GPU: made on a CPU by the same functions, and refused where there is no GPU."""

import sys
from pathlib import Path

import pytest
import torch

from raydrgn.bench import gpu, step, tables
from raydrgn.bench.settings import GpuSettings, TrainingSettings
from raydrgn.errors import ClusterError
from raydrgn.training.fixed_step import FixedStep


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(step, "ROUND_SECONDS", 0.002)
    monkeypatch.setattr(step, "LIMIT_SIZE", {"cpu": 64})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_ends_in_a_sentence():
    with pytest.raises(ClusterError) as caught:
        gpu.run(GpuSettings())
    assert str(caught.value).startswith("There is no GPU to measure here: torch ")
    assert str(caught.value).endswith("; `raydrgn bench step` measures a CPU.")


@pytest.mark.usefixtures("quick")
def test_it_measures_each_network_on_each_box():
    settings = GpuSettings(boxes=(16, 24), widths=(8, 16), batch_size=4)
    shown = []
    found = list(
        gpu.measure(
            settings,
            device=torch.device("cpu"),
            with_path=False,
            progress=lambda phase, done, total, *, unit: shown.append((done, total)),
        )
    )
    assert [(rates.box, rates.width) for rates in found] == [(16, 8), (16, 16), (24, 8), (24, 16)]
    assert shown == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for rates in found:
        assert rates.all_points.flop_per_particle > 2 * rates.quarter.flop_per_particle
        assert rates.volumes.volumes_per_s > 0
    table = gpu.GpuRates(device="CPU", driver="none", torch="2", date="today", networks=found)
    names = [name for name, _ in tables.gpu_rows(table)]
    assert names.count("  step, all points") == 4
    assert "24 px, 16 × 3" in names


@pytest.mark.usefixtures("quick")
def test_the_steps_of_fixed_shapes_are_those_that_are_timed(monkeypatch):
    """Eager, since checks of shapes cannot be compiled; each step draws points of its own."""
    monkeypatch.setattr(FixedStep, "compile", lambda self: None)
    model, train = step.configs(
        ["train.points_fraction=0.25"], width=16, layers=1, batch_size=4, amp=True
    )
    rate = step.measure(model, train, box=16, device=torch.device("cpu"), with_compiled=True)
    assert rate.compiled_per_s > 0
    assert rate.best_per_s >= rate.particles_per_s
    assert "compiled step" in [name for name, _ in tables.step_rows(rate)]


CRYODRGN = """
import os, sys, time
epochs = next(int(word[2:]) for word in sys.argv if word.startswith("-n"))
os.mkdir("cryodrgn")
with open("calls.txt", "a") as file:
    print(*sys.argv[1:], file=file)
time.sleep(0.6 * epochs)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    def make(text):
        file = tmp_path / "bin" / "cryodrgn"
        file.parent.mkdir()
        file.write_text(f"#!{sys.executable}\n{text}")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", str(file.parent))

    return make


def test_the_start_of_cryodrgn_does_not_count(program, tmp_path):
    program(CRYODRGN)
    settings = TrainingSettings(num_particles=300, width=128, batch_size=8)
    rate = gpu.cryodrgn_rate(settings, str(tmp_path))
    assert 0 < rate < 1100  # two epochs of 300 particles in 1.2 s, and what noise adds
    calls = Path(tmp_path, "calls.txt").read_text().splitlines()
    assert [call.split()[5] for call in calls] == ["-n1", "-n3"]
    assert "--enc-dim=128" in calls[0]
    assert "--dec-layers=3" in calls[0]
    assert not Path(tmp_path, "cryodrgn").exists()


def test_cryodrgn_is_left_out_where_it_is_not_or_fails(program, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.cryodrgn_rate(TrainingSettings(), str(tmp_path)) is None
    program("raise SystemExit('no CUDA')")
    assert gpu.cryodrgn_rate(TrainingSettings(), str(tmp_path)) is None
    assert "cryodrgn has failed (no CUDA)" in caplog.text
