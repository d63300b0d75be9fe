"""Names of a run's files, and which epochs are there."""

from uuid import uuid4

import pytest

from raydrgn.io import storage
from raydrgn.run.directory import Position, RunDirectory


@pytest.mark.parametrize("root", ["/runs/a", "s3://bucket/a", "/runs/a/"])
def test_files_are_named_as_the_design_says(root):
    run, base = RunDirectory(root), root.rstrip("/")
    assert run.config == f"{base}/config.yaml"
    assert run.manifest == f"{base}/manifest.json"
    assert run.log == f"{base}/run.log"
    assert run.metrics == f"{base}/metrics.jsonl"
    assert run.particles == f"{base}/particles.parquet"
    assert run.weights(3) == f"{base}/weights.3.pkl"
    assert run.weights(None) == f"{base}/weights.pkl"
    assert run.latents(3) == f"{base}/z.3.pkl"
    assert run.latents(None) == f"{base}/z.pkl"
    assert run.results("analyze", 3) == f"{base}/analyze.3"
    assert run.results("filter") == f"{base}/filter"
    assert run.checkpoint(Position(2, 17)).startswith(f"{base}/state/")


def test_no_two_states_or_parts_share_a_name():
    run = RunDirectory("/r")
    positions = [Position(e, s) for e in (1, 11, 111) for s in (0, 1, 11, 111)]
    assert len({run.checkpoint(p) for p in positions}) == len(positions)
    assert len({run.latent_part(e, s) for e, s in positions}) == len(positions)


def test_positions_are_ordered_as_training_passes_them():
    assert Position(1, 0) < Position(1, 5) < Position(2, 0) < Position(10, 0)
    assert str(Position(2, 5)) == "epoch 2, step 5"


@pytest.mark.parametrize("place", ["local", "memory"])
def test_an_epoch_is_there_when_both_of_its_files_are(tmp_path, place):
    root = str(tmp_path) if place == "local" else f"memory://{uuid4().hex}"
    run = RunDirectory(root)
    assert run.epochs() == []
    for uri in (
        *map(run.weights, (1, 2, 10, None)),
        *map(run.latents, (2, 3, 10, None)),
        storage.join(root, "z.7.pkl.part"),
        storage.join(root, "weights.7.pkl"),
    ):
        storage.write_bytes(uri, b"")
    assert run.epochs() == [2, 10]
