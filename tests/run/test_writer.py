"""The writer of a run: what it says is finished is whole, whatever is cut off."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from failing_disk import fail_at
from phantoms import fill_disk
from raydrgn.errors import StorageError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import read_latents
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.directory import Position, RunDirectory
from raydrgn.run.manifest import Manifest
from raydrgn.run.metrics import read_metrics
from raydrgn.run.writer import KEPT_CHECKPOINTS, RunWriter

COUNT = 5


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "run")
    return f"memory://writer/{tmp_path.name}"


def writer_of(root):
    return RunWriter(root, num_particles=COUNT)


def checkpoint_bytes(epoch, step, value=0.0, **others):
    return Checkpoint(
        position=Position(epoch, step),
        model={"decoder.weight": torch.full((3,), float(value))},
        optimiser={},
        sums=[1.0, 2.0, 3.0],
        **others,
    ).to_bytes()


def put_epoch(writer, epoch, *, latents=True):
    """Finish an epoch: its checkpoint, which publishes its weights, and its latents."""
    writer.save_checkpoint(checkpoint_bytes(epoch + 1, 0, epoch), Position(epoch + 1, 0))
    if latents:
        mean = np.full((COUNT, 2), epoch, dtype=np.float32)
        writer.save_latents(epoch, 0, mean, -mean)


def finished(root):
    return Manifest.read(RunDirectory(root).manifest).finished_epochs()


def damage(root, position, change):
    """Change the bytes of a checkpoint behind the writer's back."""
    uri = RunDirectory(root).checkpoint(position)
    storage.write_bytes(uri, change(storage.read_bytes(uri)))


def test_an_epoch_is_published_with_weights_and_latents(root):
    writer, run = writer_of(root), RunDirectory(root)
    put_epoch(writer, 1)
    assert finished(root) == [1] == run.epochs()
    mean, logvar = read_latents(run.latents(1))
    assert (mean == 1).all()
    assert (logvar == -1).all()
    assert mean.shape == (COUNT, 2)


def test_latents_of_workers_are_joined_in_the_order_of_rows(root):
    writer = writer_of(root)
    put_epoch(writer, 1, latents=False)
    rows = np.arange(COUNT, dtype=np.float32)[:, None]
    writer.save_latents(1, 3, rows[3:], -rows[3:])
    assert finished(root) == []
    writer.save_latents(1, 3, rows[3:], -rows[3:])  # a call that was cut off comes again
    writer.save_latents(1, 0, rows[:1], -rows[:1])
    assert finished(root) == []
    writer.save_latents(1, 1, rows[1:3], -rows[1:3])
    assert finished(root) == [1]
    mean, logvar = read_latents(RunDirectory(root).latents(1))
    np.testing.assert_array_equal(mean, rows)
    np.testing.assert_array_equal(logvar, -rows)
    assert not [n for n in storage.list_names(storage.join(root, "state")) if n[0] == "z"]


def test_a_run_goes_on_from_its_newest_checkpoint(root):
    writer = writer_of(root)
    assert writer.latest_checkpoint().content is None
    put_epoch(writer, 1)
    writer.save_checkpoint(checkpoint_bytes(2, 4), Position(2, 4))
    latest = writer_of(root).latest_checkpoint()
    assert latest.content == checkpoint_bytes(2, 4)
    assert latest.problems == []
    assert not latest.lacks_latents
    assert writer_of(root).checkpoint_at(Position(2, 4)) == latest.content


CHANGES = {
    "truncated": lambda content: content[:-1],
    "flipped bit": lambda content: content[:50] + bytes([content[50] ^ 1]) + content[51:],
    "emptied": lambda content: b"",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(root, change):
    writer = writer_of(root)
    put_epoch(writer, 1)
    put_epoch(writer, 2)
    damage(root, Position(3, 0), change)
    latest = writer_of(root).latest_checkpoint()
    assert Checkpoint.from_bytes(latest.content).position == Position(2, 0)
    [problem] = latest.problems
    assert "size or checksum differs. The checkpoint before it is used" in problem
    assert "state/3.0.pt" in problem


def test_a_lost_checkpoint_is_reported_and_the_one_before_is_used(root):
    writer = writer_of(root)
    put_epoch(writer, 1)
    put_epoch(writer, 2)
    storage.remove(RunDirectory(root).checkpoint(Position(3, 0)))
    latest = writer_of(root).latest_checkpoint()
    assert Checkpoint.from_bytes(latest.content).position == Position(2, 0)
    assert "does not exist" in latest.problems[0]


def test_without_any_whole_checkpoint_a_run_begins_anew(root):
    writer = writer_of(root)
    put_epoch(writer, 1)
    damage(root, Position(2, 0), lambda content: content[::-1])
    latest = writer_of(root).latest_checkpoint()
    assert latest.content is None
    assert len(latest.problems) == 1


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", ["manifest.json", "state", "state/3.0.pt"])
def test_a_disk_that_fails_for_a_moment_costs_no_checkpoint(tmp_path, monkeypatch, name, times):
    root = str(tmp_path / "run")
    put_epoch(writer_of(root), 1)
    put_epoch(writer_of(root), 2)
    before = storage.list_files(root)
    with monkeypatch.context() as patch:
        fail_at(patch, f"{root}/{name}", times=times)
        with suppress(StorageError):
            writer_of(root).latest_checkpoint()
    assert storage.list_files(root) == before
    assert Checkpoint.from_bytes(writer_of(root).latest_checkpoint().content).position == (3, 0)


def test_where_the_manifest_is_lost_no_checkpoint_is_deleted(root):
    put_epoch(writer_of(root), 1)
    uri = RunDirectory(root).manifest
    manifest = storage.read_bytes(uri)
    storage.remove(uri)
    assert writer_of(root).latest_checkpoint().content is None
    storage.write_bytes(uri, manifest)  # put back
    assert Checkpoint.from_bytes(writer_of(root).latest_checkpoint().content).position == (2, 0)


def test_what_comes_after_the_checkpoint_is_forgotten(root):
    writer = writer_of(root)
    put_epoch(writer, 1)
    rows = [{"epoch": 1, "step": 9}, {"epoch": 2, "step": 3}, {"epoch": 2, "step": 6}]
    for row in rows:
        writer.add_metrics(row)
    writer.flush()
    writer.save_checkpoint(checkpoint_bytes(2, 3), Position(2, 3))
    writer.save_latents(2, 0, np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))
    writer_of(root).latest_checkpoint()
    assert read_metrics(RunDirectory(root).metrics) == rows[:2]
    assert not [n for n in storage.list_names(storage.join(root, "state")) if n[0] == "z"]


def test_latents_that_were_cut_off_are_asked_for(root):
    writer = writer_of(root)
    put_epoch(writer, 1)
    put_epoch(writer, 2, latents=False)
    assert writer_of(root).latest_checkpoint().lacks_latents


def test_within_an_epoch_no_checkpoint_is_kept_before_the_last_one_is_published(root):
    writer = writer_of(root)
    put_epoch(writer, 1, latents=False)
    writer.save_checkpoint(checkpoint_bytes(2, 5), Position(2, 5))
    assert writer_of(root).latest_checkpoint().content == checkpoint_bytes(2, 0, 1)


def test_the_newest_checkpoints_only_are_kept(root):
    writer = writer_of(root)
    for epoch in (1, 2, 3, 4):
        put_epoch(writer, epoch)
    names = storage.list_names(storage.join(root, "state"))
    assert len(names) == KEPT_CHECKPOINTS
    assert finished(root) == [1, 2, 3, 4]


def test_the_last_epoch_is_the_run_s(root):
    writer, run = writer_of(root), RunDirectory(root)
    put_epoch(writer, 1)
    put_epoch(writer, 2)
    writer.finish(2)
    for name in (run.weights, run.latents):
        assert storage.read_bytes(name(None)) == storage.read_bytes(name(2))


def test_lines_of_the_log_and_metrics_are_added(root):
    for number in range(2):  # also by the writer after this one
        writer = writer_of(root)
        writer.log(f"message {number}")
        writer.add_metrics({"epoch": 1, "step": number})
        writer.flush()
    writer_of(root).add_metrics({"epoch": 1, "step": 1})  # the call of a writer that was killed
    lines = storage.read_bytes(RunDirectory(root).log).decode().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["message 0", "message 1"]
    assert [row["step"] for row in read_metrics(RunDirectory(root).metrics)] == [0, 1]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    root = tmp_path / "run"
    put_epoch(writer_of(str(root)), 1)
    leftovers = [root / "z.2.pkl.0af.part", root / "state" / "2.0.pt.77.part"]
    leftovers.append(root / "state" / "1.40.pt")  # deleted from the manifest, but not yet itself
    for path in leftovers:
        path.write_bytes(b"half")
    writer_of(str(root)).latest_checkpoint()
    assert not any(path.exists() for path in leftovers)
    assert finished(str(root)) == [1]


@pytest.mark.parametrize("after", range(8))
def test_whenever_the_disk_becomes_full_the_run_stays_valid(tmp_path, monkeypatch, after):
    root = str(tmp_path / "run")
    put_epoch(writer_of(root), 1)
    with monkeypatch.context() as patch:
        fill_disk(patch, after=after)
        with suppress(StorageError):
            put_epoch(writer_of(root), 2)
    assert not [name for _, _, names in os.walk(root) for name in names if name.endswith(".part")]
    latest = writer_of(root).latest_checkpoint()  # with room again
    assert Checkpoint.from_bytes(latest.content).position in (Position(2, 0), Position(3, 0))
    assert latest.problems == []
    writer = writer_of(root)
    put_epoch(writer, 2)
    put_epoch(writer, 3)
    assert finished(root) == [1, 2, 3]
    for epoch in (1, 2, 3):
        assert (read_latents(RunDirectory(root).latents(epoch))[0] == epoch).all()


def test_within_an_epoch_an_order_of_an_older_version_is_not_gone_on_with(root):
    """Other orders of particles must not mix: the epoch is trained again from its beginning."""
    writer = writer_of(root)
    put_epoch(writer, 1)
    for step in (4, 8, 12):  # the checkpoint at the end of epoch 1 is no longer kept
        content = checkpoint_bytes(2, step, step, batch_order=1)
        writer.save_checkpoint(content, Position(2, step))
    writer.add_metrics({"epoch": 2, "step": 12})
    latest = writer_of(root).latest_checkpoint()
    found = Checkpoint.from_bytes(latest.content)
    assert found.position == Position(2, 0)
    assert (found.model["decoder.weight"] == 1).all()  # the weights of epoch 1
    [problem] = latest.problems
    assert "older version of raydrgn" in problem
    assert "epoch 2 is trained again from its beginning" in problem
    assert writer_of(root).checkpoint_at(Position(2, 0)) == latest.content
    assert read_metrics(RunDirectory(root).metrics) == []
    again = writer_of(root).latest_checkpoint()
    assert again.content == latest.content
    assert again.problems == []


def test_the_first_epoch_in_an_older_order_begins_anew(root):
    writer = writer_of(root)
    writer.save_checkpoint(checkpoint_bytes(1, 4, batch_order=1), Position(1, 4))
    latest = writer_of(root).latest_checkpoint()
    assert latest.content is None
    assert "epoch 1 is trained again" in latest.problems[0]


def test_at_the_end_of_an_epoch_a_checkpoint_of_an_older_version_is_taken(root):
    writer = writer_of(root)
    content = checkpoint_bytes(2, 0, batch_order=1)
    writer.save_checkpoint(content, Position(2, 0))
    latest = writer_of(root).latest_checkpoint()
    assert latest.content == content
    assert latest.problems == []


def test_weights_to_start_from_are_no_epoch(root):
    writer = writer_of(root)
    content = checkpoint_bytes(1, 0, 7)
    writer.save_checkpoint(content, Position(1, 0))
    latest = writer_of(root).latest_checkpoint()
    assert latest.content == content
    assert not latest.lacks_latents
    assert not storage.exists(RunDirectory(root).weights(0))


def test_what_the_manifest_records_is_on_the_disk_before_it(tmp_path, monkeypatch):
    """Files and their names are synced before the manifest that records them is in place."""
    events, fsync, replace = [], os.fsync, Path.replace

    def noted_fsync(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_replace(self, target):
        if Path(target).name == "manifest.json":
            events.append("manifest in place")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    writer_of(str(tmp_path / "run")).save_checkpoint(checkpoint_bytes(2, 0), Position(2, 0))
    before = events[: events.index("manifest in place")]
    for name in ("2.0.pt.", "weights.1.pkl."):
        assert [event for event in before if event.startswith(name)]
    assert before.index("state") < before.index("run")


def test_metrics_of_an_object_store_are_written_by_the_epoch(tmp_path, monkeypatch):
    root = f"memory://writer-metrics/{tmp_path.name}"
    writer, written, write_bytes = writer_of(root), [], storage.write_bytes
    monkeypatch.setattr(
        storage,
        "write_bytes",
        lambda uri, content: (written.append(uri), write_bytes(uri, content)),
    )
    for step in range(50):
        writer.add_metrics({"epoch": 1, "step": step}, f"step {step}")
    assert written == []
    writer.add_metrics({"epoch": 1, "step": 50, "done": True}, "epoch 1")
    assert len(written) == 2  # log and metrics
    assert len(read_metrics(RunDirectory(root).metrics)) == 51
