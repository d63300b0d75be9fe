"""A run of which several threads ask at a time, and saving that fails."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from raydrgn.errors import ConfigError, StorageError
from raydrgn.explore import explorer as explorers
from raydrgn.explore.actions import Actions
from raydrgn.explore.decoding import Decoding
from raydrgn.explore.explored import Explored
from raydrgn.explore.explorer import EPOCHS_KEPT, Explorer
from raydrgn.explore.interfaces import Project, Round
from raydrgn.explore.requests import SaveSelectionRequest
from raydrgn.explore.study import Study
from raydrgn.io import cryodrgn
from raydrgn.run.reader import RunReader
from raydrgn.workflows.explore import ExploreSettings, open_explorer

THREADS = 8


@pytest.fixture
def opened(monkeypatch):
    """Return the epochs that were read, in order; reading one takes a moment."""
    found = []

    def read(source, epoch, labels):
        found.append(epoch)
        time.sleep(0.02)
        return Mock(
            spec=Study, epoch=epoch, is_current=lambda: False, facts=lambda: {"epoch": epoch}
        )

    monkeypatch.setattr(explorers, "Study", read)
    return found


@pytest.fixture
def explorer(tmp_path):
    source = Mock(
        spec=RunReader, root=str(tmp_path), results=lambda _: f"{tmp_path}/explore", epoch=int
    )
    return Explorer(
        source,
        first_epoch=lambda: 1,
        labels=None,
        actions=Mock(spec=Actions),
        decoding=Mock(spec=Decoding),
    )


def test_an_epoch_is_read_once_for_all_that_ask_for_it(explorer, opened):
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(explorer.study, [None, 1] * THREADS))
    assert opened == [1]
    assert all(study is found[0] for study in found)


def test_an_epoch_in_use_stays_in_memory(explorer, opened):
    assert EPOCHS_KEPT == 2
    for epoch in (1, 2, 1, 3, 1):
        explorer.study(epoch)
    assert opened == [1, 2, 3]


def test_epochs_come_and_go_in_many_threads(explorer, opened):
    wanted = [1, 2, 3, 4] * THREADS
    with ThreadPoolExecutor(THREADS) as pool:
        facts = pool.map(explorer.facts, wanted)
        studies = pool.map(explorer.study, wanted)
        assert [found["epoch"] for found in facts] == wanted
        assert [study.epoch for study in studies] == wanted


def test_a_round_is_opened_once_for_all_that_ask_for_it(tmp_path):
    rounds = [Round(name=name, run=f"{tmp_path}/{name}", epoch=1) for name in "12"]
    project = Mock(spec=Project, root=str(tmp_path), rounds=lambda: rounds)
    opened = []

    def open_run(root, first_epoch, decoding):
        opened.append(root)
        time.sleep(0.05)
        return Mock(spec=Explorer)

    explored = Explored(
        *(str(tmp_path), None, open_run),
        decoding=Mock(spec=Decoding),
        commands=None,
        project=project,
        server_url=lambda: None,
    )
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(explored.run, ["1"] * THREADS))
    assert opened == [f"{tmp_path}/2", f"{tmp_path}/1"]
    assert all(run is found[0] for run in found)


REQUEST = SaveSelectionRequest(
    conditions=[{"join": "and", "range": {"column": "z0", "low": 0, "high": None}}], name="right"
)


def test_a_selection_that_could_not_be_saved_leaves_its_name_free(tmp_path):
    z = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    cryodrgn.write_pickles(str(tmp_path / "z.pkl"), z)
    explored = open_explorer(ExploreSettings(run=str(tmp_path / "z.pkl")))
    explorer, actions = explored.run(""), explored.run("").actions

    def fail(epoch, conditions, folder):
        actions.save_selection(epoch, conditions, folder)
        os.makedirs(f"{folder}/inner")
        raise StorageError("The disk is full.")

    explorer.actions = replace(actions, save_selection=fail)
    with pytest.raises(StorageError, match="disk is full"):
        explorer.save_selection(REQUEST)
    folder = tmp_path / "z.explore" / "selections"
    assert [path for path in folder.rglob("*") if not path.is_dir()] == []
    assert explorer.results()["selections"] == []

    explorer.actions = actions
    saved = explorer.save_selection(REQUEST)
    assert explorer.results()["selections"][0]["count"] == saved["count"]
    with pytest.raises(ConfigError, match="There is 'right' already"):
        explorer.save_selection(REQUEST)
    explored.close()
