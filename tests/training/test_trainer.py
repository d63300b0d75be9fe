"""Ray Train gives what one process gives, and survives what kills its parts."""

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from plain import assert_same_run, fit, latents, small_run, weights
from raydrgn.errors import ClusterError, RaydrgnError
from raydrgn.run.metrics import epoch_rows

pytestmark = pytest.mark.ray

EPOCHS = 40


def train(run, **options) -> bool:
    from raydrgn.training import trainer

    return trainer.train(run, **options).finished


def kill(name: bytes) -> int:
    """Kill the Ray processes of that title which descend from this one."""
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            if title.startswith(b"ray::" + name) and _descends(int(folder.name)):
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
        except (OSError, ValueError):
            continue
    return killed


def _descends(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return False


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def pair(data, ray_session):
    """A run of two workers that nothing disturbs."""
    root = data / "pair"
    run = small_run(data, root, **{"train.epochs": EPOCHS, "resources.num_workers": 2})
    assert train(run)
    return root


def test_workers_share_the_batch_and_lose_no_particle(data, ray_session, tmp_path):
    """203 particles are not divisible: after one epoch each has its latent, in order."""
    values = {"train.epochs": 1, "train.batch_size": 203, "train.warmup_steps": 0}
    run = small_run(data, tmp_path / "one", **values)
    fit(run)
    values["resources.num_workers"] = 2
    # Ray takes names of trainings in ASCII only.
    run = small_run(data, tmp_path / "für zwei", **values)
    assert train(run)
    # One step on all particles: the order in which workers hold them does not matter.
    alone, shared = latents(tmp_path / "one", 1), latents(tmp_path / "für zwei", 1)
    assert shared.shape == (203, 2)
    np.testing.assert_allclose(shared, alone, atol=2e-4 * np.abs(alone).max())


@pytest.mark.clusters
def test_a_killed_writer_board_and_worker_change_nothing(data, pair, ray_session, tmp_path, caplog):
    values = {"train.epochs": EPOCHS, "resources.num_workers": 2}
    run = small_run(data, tmp_path, **values)
    done = []

    def disturb(what, particles, total, **_):
        epoch = particles // 203 if what == "training" else 0
        if epoch >= 2 and not done:
            done.append("writer")
            assert kill(b"RunWriter") == 1
        elif epoch >= 4 and len(done) == 1:
            done.append("board")
            assert kill(b"ProgressBoard") == 1
        elif epoch >= 6 and len(done) == 2:
            done.append("worker")
            assert kill(b"RayTrainWorker") or kill(b"_RayTrainWorker")

    assert train(run, progress=disturb)
    assert done == ["writer", "board", "worker"]
    text = (tmp_path / "run.log").read_text()
    assert "lost (process killed); starting the workers again" in text
    assert "the run's writer was killed; it is started again" in caplog.text
    assert "the progress board was killed; it is started again" in caplog.text
    assert_same_run(pair, tmp_path, EPOCHS)
    rows = epoch_rows(str(tmp_path / "metrics.jsonl"))
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))


def test_training_waits_for_cpus_that_others_hold_and_says_so(
    data, ray_session, tmp_path, monkeypatch, caplog
):
    import ray

    monkeypatch.setattr("raydrgn.remote.reservation.RELEASE_SECONDS", 0.1)
    others = ray.util.placement_group([{"CPU": ray.cluster_resources()["CPU"] - 1}])
    ray.get(others.ready(), timeout=60)
    run = small_run(data, tmp_path, **{"train.epochs": 1, "resources.num_workers": 2})
    try:
        with pytest.raises(ClusterError, match=r"Nothing was begun: .*2 seconds of waiting"):
            train(run, wait_seconds=2)
    finally:
        ray.util.remove_placement_group(others)
    assert "waiting for room for 2 workers with 1 CPU each: there is room for 1" in caplog.text


@pytest.mark.clusters
def test_every_epoch_is_there_and_the_last_is_named(pair):
    for epoch in range(1, EPOCHS + 1):
        assert latents(pair, epoch).shape == (203, 2)
        assert weights(pair, epoch)
    last = (pair / f"weights.{EPOCHS}.pkl").read_bytes()
    assert (pair / "weights.pkl").read_bytes() == last
    assert (pair / "z.pkl").read_bytes() == (pair / f"z.{EPOCHS}.pkl").read_bytes()
    assert len(list((pair / "state").glob("*.pt"))) == 2


def test_an_error_that_trying_again_will_not_mend_ends_the_run(data, ray_session, tmp_path):
    """The images change after they were looked at: the worker says which are of no use."""
    run = small_run(data, tmp_path, **{"train.epochs": 1})
    stack = data / "particles.mrcs"
    whole = stack.read_bytes()
    broken = bytearray(whole)
    broken[1024 + 7 * 1024 : 1024 + 8 * 1024] = bytes(1024)  # image 7 of 16² float32
    stack.write_bytes(broken)
    try:
        with pytest.raises(RaydrgnError, match=r"Particle 7 .*image 8 of .*--drop-bad"):
            train(run)
    finally:
        stack.write_bytes(whole)
    log = (tmp_path / "run.log").read_text()
    assert "training ended early" in log
    assert "starting the workers again" not in log


@pytest.mark.clusters
def test_one_worker_stopped_by_ctrl_c_and_gone_on_with_here_gives_what_one_process_gives(
    data, ray_session, tmp_path
):
    """Ray Data fills the store, and the store is a disk's: the bits are the same."""
    values = {"resources.local_ingest_mb": 0, "resources.shard_store": "disk"}
    run = small_run(data, tmp_path, **{"train.epochs": EPOCHS, **values})
    asked = []

    def interrupt(what, particles, total, **_):
        if what == "training" and particles > 203 and not asked:
            asked.append(particles)
            raise KeyboardInterrupt

    assert not train(run, progress=interrupt)
    last = (tmp_path / "run.log").read_text().splitlines()[-1]
    assert "training stopped on request; the checkpoint is kept" in last
    fit(run)
    plain = tmp_path / "plain"
    fit(small_run(data, plain, **{"train.epochs": EPOCHS}))
    assert_same_run(plain, tmp_path, EPOCHS)


@pytest.mark.clusters
def test_an_error_of_the_writer_ends_training_in_its_words(data, ray_session, tmp_path):
    run = small_run(data, tmp_path, **{"train.epochs": EPOCHS})

    def break_folder(what, particles, total, **_):
        folder = tmp_path / "state"
        if what == "training" and particles > 203 and folder.is_dir():
            folder.rename(tmp_path / f"state-{particles}")  # at once: the writer is at work in it
            with contextlib.suppress(IsADirectoryError):  # made anew meanwhile; try the next time
                folder.write_text("")

    with pytest.raises(RaydrgnError) as caught:
        train(run, progress=break_folder)
    assert "state is a file, not a folder" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "starting the workers again" not in (tmp_path / "run.log").read_text()


@pytest.mark.clusters
def test_the_log_says_how_a_run_began_and_ended(pair):
    lines = (pair / "run.log").read_text().splitlines()
    assert "203 particles of 16 px to epoch 40; workers: 2, each with 1 CPU" in lines[0]
    assert f"go on with: raydrgn train -o {pair} --resume" in lines[1]
    assert f"epoch {EPOCHS}/{EPOCHS}: finished, mean over the epoch" in lines[-2]
    assert f"training finished: {EPOCHS} epochs of 203 particles" in lines[-1]
