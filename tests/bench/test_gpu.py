"""The table of a GPU: made on a CPU by the same functions, and refused where there is no GPU."""

import json
import pickle
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from raydrgn.bench import gpu, step, tables, train, volumes
from raydrgn.bench.settings import GpuSettings, TrainingSettings
from raydrgn.errors import ClusterError
from raydrgn.run.directory import RunDirectory
from raydrgn.training import trainer
from raydrgn.training.fixed_step import FixedStep
from raydrgn.training.result import TrainResult


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(step, "ROUND_SECONDS", 0.002)
    monkeypatch.setattr(step, "LIMIT_SIZE", {"cpu": 64})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_ends_in_a_sentence():
    with pytest.raises(ClusterError) as caught:
        gpu.rates_of_gpu()
    assert str(caught.value).startswith("There is no GPU to measure here: torch ")
    assert str(caught.value).endswith("; `raydrgn bench step` measures a CPU.")


def measured(boxes=(16,), widths=(8,), **options):
    """Return the rates of networks on this machine's CPU, and what is reported of the progress."""
    networks, shown = [], []
    gpu.measure(
        GpuSettings(boxes=boxes, widths=widths, batch_size=4, num_particles=100),
        networks,
        device=torch.device("cpu"),
        progress=lambda phase, done, total, *, unit: shown.append((done, total)),
        **options,
    )
    return networks, shown


def rows_of(networks):
    table = gpu.GpuRates(device="CPU", driver="none", torch="2", date="today", networks=networks)
    return tables.gpu_rows(table)


@pytest.mark.usefixtures("quick")
def test_it_measures_each_network_on_each_box():
    found, shown = measured((16, 24), (8, 16), with_path=False)
    assert [(rates.box, rates.width) for rates in found] == [(16, 8), (16, 16), (24, 8), (24, 16)]
    assert shown == [(done, 12) for done in range(1, 13)]
    for rates in found:
        assert rates.all_points.flop_per_particle > 2 * rates.quarter.flop_per_particle
        assert rates.volumes.volumes_per_s > 0
        assert not rates.failures
    names = [name for name, _ in rows_of(found)]
    assert names.count("  step, all points") == 4
    assert "24 px, 16 × 3" in names


FULL = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has a total capacity of 79.10 GiB of which "
    "1.00 GiB is free. Of the allocated memory 70 GiB is allocated by PyTorch"
)


STEP = step.StepRate(
    device="CPU",
    precision="float32",
    particles_per_s=1000.0,
    flop_per_particle=1.0,
    flop_per_s=1e3,
    limit_flop_per_s=1e12,
    share=0.5,
)


@pytest.fixture
def quick_figures(monkeypatch):
    """Let each figure be known at once; return errors to raise, by what is measured."""
    errors = {}

    def rate_of(what, rate):
        if what in errors:
            raise errors[what]
        return rate

    def step_rate(model, train, *, box, **_):
        return rate_of(("step", box, train.points_fraction), STEP)

    def path_rate(settings, folder, *, times):
        assert times == 200  # 20 s of 1000 particles/s, of 100 images
        return rate_of(("path", settings.box, *settings.assignments), 800.0)

    decoding = volumes.DecodingRates(
        device="CPU",
        precision="float32",
        volumes_per_s=3.0,
        flop_per_volume=1.0,
        flop_per_s=3.0,
        limit_flop_per_s=1e12,
        share=0.0,
    )
    monkeypatch.setattr(step, "measure", step_rate)
    monkeypatch.setattr(train, "path_rate", path_rate)
    monkeypatch.setattr(volumes, "decoder_state", lambda box, **_: box)
    monkeypatch.setattr(volumes, "measure", lambda box, **_: rate_of(("volumes", box), decoding))
    monkeypatch.setattr(gpu, "cryodrgn_rate", lambda settings, folder: None)
    return errors


def test_what_fails_is_said_in_words_and_does_not_end_the_rest(quick_figures, caplog):
    caplog.set_level("INFO")
    quick_figures["step", 24, 1.0] = FULL
    quick_figures["volumes", 16] = RuntimeError("mat1 and mat2\nshapes")
    quick_figures["path", 16, gpu.FROM_HOST] = ClusterError("No worker could be started.")
    found, shown = measured((16, 24))
    assert shown[-1] == (12, 12)
    rows = rows_of(found)
    small = rows[rows.index(("16 px, 8 × 3", "")) + 1 : rows.index(("24 px, 8 × 3", ""))]
    assert small == [
        ("  limit (one large product)", "1.0 TFLOP/s, float32"),
        ("  step, all points", "1,000 particles/s"),
        ("  … share of the limit", "50 %"),
        ("  step, a quarter of the points", "1,000 particles/s"),
        ("  … share of the limit", "50 %"),
        ("  volumes", "failed: RuntimeError: mat1 and mat2"),
        ("  whole path, all points", "800 particles/s"),
        ("  … of the step", "80 %"),
        ("  … from the host's memory", "failed: No worker could be started."),
    ]
    unknown = "failed: How long an epoch must be is not known without the rate of the step."
    assert rows[rows.index(("24 px, 8 × 3", "")) + 1 :] == [
        (
            "  step, all points",
            "failed: the memory of the GPU is full. GPU 0 has a total capacity of 79.10 GiB of "
            "which 1.00 GiB is free",
        ),
        ("  step, a quarter of the points", "1,000 particles/s"),
        ("  … share of the limit", "50 %"),
        ("  volumes", "3.0/s, float32"),
        ("  whole path, all points", unknown),
        ("  … from the host's memory", unknown),
    ]
    with_traceback = [record.message for record in caplog.records if record.exc_info]
    assert with_traceback == ["16 px, 8 × 3: volumes failed: RuntimeError: mat1 and mat2"]


@pytest.mark.usefixtures("quick_figures")
def test_without_ray_the_figures_that_need_none_are_measured(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "ray", None)
    [small, large], shown = measured((16, 24))
    assert caplog.messages == [
        "Ray is not installed: the whole path and cryoDRGN are not measured."
    ]
    assert shown[-1] == (6, 6)
    for found in (small, large):
        assert found.all_points
        assert found.quarter
        assert found.volumes
        assert not found.failures


def test_a_gpu_is_left_to_the_workers(monkeypatch):
    """What this process measures on it itself, it measures in others, which end."""
    alone = []
    monkeypatch.setattr(gpu, "in_own_process", alone.append)
    found = gpu.NetworkRates(box=16, width=8)
    figures = gpu._bare_figures(GpuSettings(), found, torch.device("cuda"))
    for way in figures.values():
        way()
        pickle.dumps(alone[-1])
    assert [way.func for way in alone] == [gpu._step_rate, gpu._step_rate, gpu._volume_rates]


def test_a_fused_step_is_compiled_once(monkeypatch):
    fused = []

    def measured(*_, with_fused, **others):
        fused.append(with_fused)
        return STEP

    monkeypatch.setattr(step, "measure", measured)
    found = gpu.NetworkRates(box=16, width=8)
    figures = gpu._bare_figures(GpuSettings(), found, torch.device("cpu"))
    figures["all_points"]()
    figures["quarter"]()
    assert fused == [True, False]


def test_each_figure_is_logged_when_it_is_measured(quick_figures, caplog):
    caplog.set_level("INFO")
    quick_figures["path", 16] = KeyboardInterrupt()
    networks = []
    settings = GpuSettings(boxes=(16,), widths=(8,), batch_size=4, num_particles=100)
    with pytest.raises(KeyboardInterrupt):
        gpu.measure(settings, networks, device=torch.device("cpu"))
    assert caplog.messages == [
        "16 px, 8 × 3: limit (one large product) 1.0 TFLOP/s, float32; step, all points 1,000 "
        "particles/s; … share of the limit 50 %",
        "16 px, 8 × 3: step, a quarter of the points 1,000 particles/s; … share of the limit 50 %",
        "16 px, 8 × 3: volumes 3.0/s, float32",
    ]
    assert networks[0].volumes is not None
    assert not networks[0].failures


COMMAND = """
import os, signal, sys, time
import torch
from raydrgn.bench import gpu, step, volumes
from raydrgn.bench.tables import figure_rows
from raydrgn.cli.main import main

def step_rate(settings, found, device, fraction):
    if fraction < 1:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    return step.StepRate(
        device="CPU", precision="float32", particles_per_s=1000.0, flop_per_particle=1.0,
        flop_per_s=1e3, limit_flop_per_s=1e12, share=0.5,
    )

gpu._step_rate = step_rate
gpu.in_own_process = lambda work: work()
gpu.rates_of_gpu = lambda: gpu.GpuRates(device="CARD", driver="550", torch="2", date="today")
sys.argv = ["raydrgn", "bench", "gpu", "--box", "16", "--dim", "8"]
main()
"""


def test_a_limit_of_time_leaves_the_table_of_what_was_measured():
    ended = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True)
    assert ended.returncode == 130
    assert "INFO     16 px, 8 × 3: limit (one large product) 1.0 TFLOP/s" in ended.stderr
    assert "interrupted" in ended.stderr
    assert ended.stdout.startswith("CARD")
    assert "1,000 particles/s" in ended.stdout
    assert "a quarter" not in ended.stdout


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


def test_a_training_that_was_asked_to_stop_has_no_rate(monkeypatch, tmp_path):
    """The trainer takes the first SIGTERM as a request, and returns.

    Before that it is an interrupt, whatever Ray has made of it at its start.
    """

    def stopped(run, *, progress):
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        return TrainResult.of(run, finished=False, stopped=True)

    monkeypatch.setattr(train, "connected", nullcontext)
    monkeypatch.setattr(trainer, "train", stopped)
    settings = TrainingSettings(box=16, width=8, layers=1, batch_size=4, num_particles=100)
    with pytest.raises(KeyboardInterrupt):
        train.path_rate(settings, str(tmp_path))


def test_the_whole_path_takes_two_epochs_and_counts_the_second(monkeypatch, tmp_path):
    def trained(run, *, progress):
        assert run.config.train.epochs == 2
        rows = [{"epoch": 1, "rate": 50.0, "done": True}, {"epoch": 2, "rate": 80.0, "done": True}]
        metrics = Path(RunDirectory(run.root).metrics)
        metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return TrainResult.of(run, finished=True, stopped=False)

    monkeypatch.setattr(train, "connected", nullcontext)
    monkeypatch.setattr(trainer, "train", trained)
    settings = TrainingSettings(box=16, width=8, layers=1, batch_size=4, num_particles=100)
    assert train.path_rate(settings, str(tmp_path)) == 80


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
