"""``cluster/slurm/raydrgn.sbatch`` under a real Slurm, on two nodes with addresses of their own."""

import re
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from raydrgn.io.cryodrgn import read_latents
from raydrgn.run.directory import RunDirectory
from raydrgn.run.manifest import Manifest
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from slurm_cluster import NODE_DISK, NODES, reason_against, slurm_cluster

REASON = reason_against()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.clusters,
    pytest.mark.timeout(900),  # a job after another
    pytest.mark.skipif(REASON is not None, reason=f"Slurm: {REASON}"),
]

ROOT = Path(__file__).parent.parent.parent
SBATCH = ROOT / "cluster" / "slurm" / "raydrgn.sbatch"
PARTICLES = 1000
ENDLESS = 100_000
"""More epochs than there is time for."""

WAITING = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING"}
PATIENCE_SECONDS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that all nodes see, with particles and an environment to activate."""
    where = tmp_path_factory.mktemp("shared")
    simulate(str(where), Simulation(num_particles=PARTICLES, box=16, snr=1.0))
    programs = Path(sys.executable).parent
    lines = [
        f"export PATH={shlex.quote(str(programs))}:$PATH",
        f"export PYTHONPATH={shlex.quote(str(ROOT))} OMP_NUM_THREADS=1",
    ]
    (where / "activate").write_text("\n".join(lines))
    return where


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with slurm_cluster(tmp_path_factory.mktemp("slurm"), cpus=4) as cluster:
        yield cluster


def submit(slurm, folder, *options, nodes, command):
    """Submit the script with a raydrgn command."""
    return slurm.submit(
        f"--nodes={nodes}",
        "--cpus-per-task=2",
        "--mem=1G",
        *options,
        str(SBATCH),
        *shlex.split(command),
        cwd=folder,
        RAYDRGN_ACTIVATE=str(folder / "activate"),
        RAYDRGN_NODE_TMP=NODE_DISK,
    )


def log_of(folder, job):
    path = folder / f"raydrgn-{job}.log"
    return path.read_text() if path.exists() else ""


def wait_until(slurm, folder, job, condition):
    """Wait for what a running job does; fail with its log if it ends before."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        state = slurm.state(job)
        assert state == "PENDING" or state in WAITING, f"{state}: {log_of(folder, job)}"
        assert time.monotonic() < end, log_of(folder, job)
        time.sleep(0.3)


def end_of(slurm, folder, job):
    """Wait for the end of a job; return its state, exit code and log."""
    end = time.monotonic() + PATIENCE_SECONDS
    while slurm.state(job) in WAITING:
        assert time.monotonic() < end, log_of(folder, job)
        time.sleep(0.3)
    return slurm.state(job), slurm.job(job)["ExitCode"], log_of(folder, job)


def epochs_done(run):
    return Manifest.read(RunDirectory(str(run)).manifest).finished_epochs()


def test_two_nodes_to_the_time_limit_and_on_beside_another_job(slurm, folder):
    """Stopped by the time limit, resumed by the next job; another job on a node is left alone."""
    train = "train particles.star -o run --resume --workers 2 --set resources.cpus=2 --enc-dim 16"
    train += " --dec-dim 16 -n"
    long = submit(slurm, folder, "--time=30", "--signal=B:INT@120", nodes=2,
                  command=f"{train} {ENDLESS}")  # fmt: skip
    wait_until(slurm, folder, long, lambda: "Ray on 2 nodes" in log_of(folder, long))
    assert (folder / f".raydrgn-{long}" / "token").stat().st_mode & 0o777 == 0o600
    raylets = slurm.processes("--static_resource_list")
    assert raylets
    assert all(f"object_store_memory,{3 * 2**30 // 10}" in raylet for raylet in raylets)  # --mem=1G

    short = submit(slurm, folder, f"--nodelist={NODES[0]}", nodes=1,
                   command="train particles.star -o other --enc-dim 16 --dec-dim 16 -n 1 "
                   "--set resources.cpus=1")  # fmt: skip
    state, code, log = end_of(slurm, folder, short)
    assert (state, code) == ("COMPLETED", "0:0"), log
    assert epochs_done(folder / "other") == [1]
    addresses = [
        re.search(r"Ray on \d nodes? at (\S+);", text)[1] for text in (log, log_of(folder, long))
    ]
    assert len({address.split(":")[1] for address in addresses}) == 2  # ports of its own

    run = folder / "run"
    wait_until(slurm, folder, long, lambda: epochs_done(run) != [])
    minutes, _ = map(int, slurm.job(long)["RunTime"].split(":")[1:])
    slurm.run("scontrol", "update", f"JobId={long}", f"TimeLimit={minutes + 2}")  # INT is due
    state, code, log = end_of(slurm, folder, long)
    assert (state, code) == ("FAILED", "130:0"), log
    assert "Stopped; a checkpoint is kept." in log
    assert Manifest.read(RunDirectory(str(run)).manifest).checkpoints

    done = epochs_done(run)[-1]
    following = submit(slurm, folder, nodes=2, command=f"{train} {done + 1}")
    state, code, log = end_of(slurm, folder, following)
    assert (state, code) == ("COMPLETED", "0:0"), log
    assert f"{done + 1} epochs of {PARTICLES:,} particles" in log
    assert epochs_done(run)[-1] == done + 1
    mean, _ = read_latents(str(run / f"z.{done + 1}.pkl"))
    assert len(mean) == PARTICLES
    assert np.isfinite(mean).all()

    assert slurm.processes("raylet") == []
    assert not list(folder.glob(".raydrgn-*"))


def test_a_command_that_is_refused_gives_its_exit_code_and_message(slurm, folder):
    job = submit(slurm, folder, nodes=1, command="train nothing.star -o never")
    state, code, log = end_of(slurm, folder, job)
    assert (state, code) == ("FAILED", "2:0"), log
    assert "nothing.star" in log
