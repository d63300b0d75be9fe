"""A project on a real S3 server: training that is killed and goes on, and every command on it."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
import pytest
import s3fs

import s3
from plain import SMALL, fit, latents, small_run
from raydrgn.decoding.options import VolumeOptions
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_indices
from raydrgn.io.mrc import read_header, read_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.landscape import regression
from raydrgn.run.metrics import read_metrics
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import Simulation, simulate
from raydrgn.workflows import (
    analyze,
    backproject,
    convergence,
    downsample,
    evaluate,
    export,
    filter,
    info,
    landscape,
    occupancy_classes,
    occupancy_masks,
    occupancy_score,
    parse,
    relocate,
    traverse,
    volumes,
)

EPOCHS = 8
# One worker gives the bits of one process; one latent dimension needs no UMAP.
VALUES = {**SMALL, "model.zdim": 1, "train.epochs": EPOCHS, "resources.num_workers": 1}
TINY = VolumeOptions(box=8)


@pytest.fixture(scope="module")
def project(s3_server):
    """A folder of the server with simulated particles, in the environment that leads there."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        folder = f"s3://{s3.BUCKET}/{uuid4().hex}"
        simulate(f"{folder}/data", Simulation(num_particles=96, box=16, snr=1.0, seed=5))
        yield folder
    s3fs.S3FileSystem.clear_instance_cache()


def start(project: str, *more: str) -> subprocess.Popen:
    values = [word for name, value in VALUES.items() for word in ("--set", f"{name}={value}")]
    words = ("train", f"{project}/data/particles.star", "-o", f"{project}/run")
    return subprocess.Popen(
        [sys.executable, "-m", "raydrgn", *words, *values, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},
    )


def wait_for(uri: str, process: subprocess.Popen) -> None:
    end = time.monotonic() + 250
    while not storage.exists(uri):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, f"{uri} did not come"
        time.sleep(0.2)


def kill_with_children(pid: int) -> None:
    """Kill a command and all of its Ray, as a machine does that loses power."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def download(folder: str, target: Path) -> Path:
    for name in storage.list_files(folder):
        storage.write_bytes(str(target / name), storage.read_bytes(storage.join(folder, name)))
    return target


@pytest.fixture(scope="module")
def run(project):
    """A run that was killed in its third epoch or later, and went on to its end."""
    killed = start(project, "--workers", "2")  # on Ray, and the rest in the command's process
    wait_for(f"{project}/run/z.2.pkl", killed)
    kill_with_children(killed.pid)
    killed.wait(timeout=60)
    killed.stdout.close()
    assert not storage.exists(f"{project}/run/z.{EPOCHS}.pkl")
    resumed = start(project, "--resume")
    printed, _ = resumed.communicate(timeout=280)
    assert resumed.returncode == 0, printed
    return f"{project}/run"


@pytest.mark.ray
def test_a_killed_training_ends_as_if_undisturbed_and_on_a_disk(project, run, tmp_path):
    download(f"{project}/data", tmp_path / "data")
    calm = small_run(tmp_path / "data", tmp_path / "calm", **VALUES)
    fit(calm)
    ended = latents(download(run, tmp_path / "run"), EPOCHS)
    expected = latents(tmp_path / "calm", EPOCHS)  # two workers add in another order
    np.testing.assert_allclose(ended, expected, atol=1e-4 * np.abs(expected).max())
    rows = read_metrics(f"{run}/metrics.jsonl")
    assert [row["epoch"] for row in rows if row["done"]] == [*range(1, EPOCHS + 1)]
    assert open_run(run).is_finished()
    assert not any(storage.PART_SUFFIX in name for name in storage.list_files(run))


@pytest.mark.ray
def test_results_of_a_run_lie_beside_it(project, run, tmp_path, monkeypatch):
    monkeypatch.setattr(regression, "HIDDEN", (16,))
    opened = open_run(run)
    found = analyze.run(
        analyze.AnalyzeSettings(run=run, ksample=4, pc=1, pc_points=2, skip_umap=True, volumes=TINY)
    )
    assert found.folder.uri == f"{run}/analyze.{EPOCHS}"
    assert {"report.html", "settings.json"} <= set(storage.list_names(found.folder.uri))
    volumes.run(volumes.VolumesSettings(run=run, out=f"{project}/maps", particles="0,5"))
    volume, header = read_volume(f"{project}/maps/vol_001.mrc")
    assert header.shape == (16, 16, 16)
    assert volume.std() > 0
    filter.run(filter.FilterSettings(run=run, ksample=4, drop_clusters="0", skip_volumes=True))
    kept = read_indices(f"{run}/filter/kept.ind.pkl")
    assert 0 < len(kept) < 96
    landscape.run(
        landscape.LandscapeSettings(run=run, ksample=12, states=3, sample=20, volumes=TINY)
    )
    content = storage.read_bytes(f"{run}/landscape.{EPOCHS}/landscape.parquet")
    assert pq.read_table(io.BytesIO(content)).num_rows == 96
    traverse.run(traverse.TraversePcSettings(run=run, points=3, skip_volumes=True))
    assert "z_values.txt" in storage.list_names(f"{run}/traverse.{EPOCHS}/pc1")
    evaluate.run(evaluate.EvaluateSettings(run=run, truth=f"{project}/data/truth"))
    assert opened.losses()[-1]["epoch"] == EPOCHS
    export.run_cryodrgn(export.ExportCryodrgnSettings(run=run, out=str(tmp_path / "theirs")))
    written = (tmp_path / "theirs" / f"weights.{EPOCHS}.pkl").read_bytes()
    assert written == storage.read_bytes(f"{run}/weights.{EPOCHS}.pkl")


@pytest.mark.ray
def test_convergence_follows_a_run(run):
    lines = []
    settings = convergence.ConvergenceSettings(run=run, volumes=TINY)
    convergence.watch(settings, report=lines.append)
    assert any(line.startswith(f"epoch {EPOCHS}:") for line in lines)
    assert "report.html" in storage.list_names(f"{run}/convergence.{EPOCHS}")


@pytest.mark.ray
def test_occupancies_of_a_run(project, run):
    truth = f"{project}/data/truth"
    occupancy_masks.run(
        occupancy_masks.OccupancyMasksSettings(
            models=(f"{truth}/model.pdb",), map=f"{truth}/vol_000.mrc", out=f"{project}/subunits"
        )
    )
    scored = occupancy_score.run(
        occupancy_score.OccupancyScoreSettings(
            masks=f"{project}/subunits/masks", run=run, ksample=8, out=f"{project}/occupancy"
        )
    )
    assert not scored.failures
    assert len(scored.table.volumes) == 8
    occupancy_classes.run(
        occupancy_classes.OccupancyClassesSettings(
            table=f"{project}/occupancy", skip_volumes=True, out=f"{project}/classes"
        )
    )
    assert "report.html" in storage.list_names(f"{project}/classes")


def test_particles_are_prepared_there(project):
    data = f"{project}/data"
    source = ParticleSource(particles=f"{data}/particles.star")
    small = f"{project}/small/particles.star"
    downsample.run(downsample.DownsampleSettings(source=source, box=8, out=small))
    assert read_header(f"{project}/small/particles.mrcs").shape == (96, 8, 8)
    table = open_particles(ParticleSource(particles=small))
    assert table.stacks == [f"{project}/small/particles.mrcs"]
    np.testing.assert_array_equal(
        table.column("rotation"), open_particles(source).column("rotation")
    )
    backproject.run(backproject.BackprojectSettings(source=source, out=f"{project}/check"))
    assert read_header(f"{project}/check/map.mrc").shape == (16, 16, 16)
    parse.run(
        parse.ParseSettings(
            particles=f"{data}/particles.star",
            poses=f"{project}/poses.pkl",
            ctf=f"{project}/ctf.pkl",
            table=f"{project}/particles.parquet",
        )
    )
    assert len(open_particles(ParticleSource(particles=f"{project}/particles.parquet"))) == 96
    storage.write_bytes(f"{project}/ind.txt", b"7\n3\n")
    export.run_star(
        export.ExportStarSettings(
            source=ParticleSource(particles=f"{data}/particles.star", ind=f"{project}/ind.txt"),
            out=f"{project}/two.star",
        )
    )
    assert len(open_particles(ParticleSource(particles=f"{project}/two.star"))) == 2
    for place in (f"{data}/particles.star", f"{data}/particles.mrcs", f"{data}/poses.pkl"):
        assert info.run(info.InfoSettings(path=place)) is not None


@pytest.mark.ray
def test_a_run_whose_data_have_moved_is_pointed_to_them(project, run):
    for name in storage.list_files(f"{project}/data"):
        content = storage.read_bytes(f"{project}/data/{name}")
        storage.write_bytes(f"{project}/elsewhere/{name}", content)
        storage.remove(f"{project}/data/{name}")
    found = relocate.run(relocate.RelocateSettings(run=run, datadir=f"{project}/elsewhere"))
    assert found.num_moved == 1
    assert open_run(run).particles().stacks == [f"{project}/elsewhere/particles.mrcs"]
