"""Prepared particles of a node: each prepared once, for all processes on it."""

import numpy as np
import pytest
import torch

from plain import small_run
from raydrgn.data import node_shard
from raydrgn.data.ingest import fill_store, prepared_blocks
from raydrgn.data.node_shard import NodeShard
from raydrgn.data.store import FileStore, MemoryStore
from raydrgn.geometry.lattice import half_disc


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shard")
    return small_run(folder, folder / "run", num_particles=53)


def test_rows_are_prepared_once_and_read_by_any_process(run, monkeypatch):
    prepared = []

    def counted(table, config):
        prepared.extend(table.column("index").tolist())
        return prepared_blocks(table, config)

    monkeypatch.setattr(node_shard, "prepared_blocks", counted)
    shard, config = NodeShard(), run.config.data
    num_points = len(half_disc(config.box))
    found = [
        shard.prepare(run.table.table, config, start, stop)
        for start, stop in ((10, 20), (0, 15), (30, 53), (0, 53))
    ]
    assert sorted(prepared) == list(range(53))
    assert len({part.path for part in found}) == 1
    own = MemoryStore((53, num_points, 2), config.precision, torch.device("cpu"))
    fill_store(own, prepared_blocks(run.table, config))
    rows = torch.tensor([4, 0, 22])
    with open(found[0].path, "rb", buffering=0) as file:
        shared = FileStore((23, num_points, 2), config.precision, file, first_row=30)
        assert torch.equal(shared.read(rows), own.read(rows + 30))


def test_images_without_use_are_named_to_every_caller(run, monkeypatch):
    def with_bad(table, config):
        for block in prepared_blocks(table, config):
            yield block._replace(bad=np.isin(table.column("index")[block.rows], [3, 7]))

    monkeypatch.setattr(node_shard, "prepared_blocks", with_bad)
    shard = NodeShard()
    assert shard.prepare(run.table.table, run.config.data, 5, 20).bad.tolist() == [7]
    assert shard.prepare(run.table.table, run.config.data, 0, 20).bad.tolist() == [3, 7]
    assert shard.prepare(run.table.table, run.config.data, 8, 20).bad.tolist() == []
