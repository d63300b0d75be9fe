"""A run of which several threads ask at a time, and saving that fails."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from unittest.mock import Mock

import numpy as np
import pytest

from explorer_server import analysed_run
from raydrgn.errors import ConfigError, StorageError
from raydrgn.explore import explorer as explorers
from raydrgn.explore import study as studies
from raydrgn.explore.actions import Actions
from raydrgn.explore.decoding import Decoding
from raydrgn.explore.explored import Explored
from raydrgn.explore.explorer import EPOCHS_KEPT, Explorer
from raydrgn.explore.interfaces import Project, Round
from raydrgn.explore.requests import SaveSelectionRequest, SaveVolumesRequest
from raydrgn.explore.run_files import RunFiles
from raydrgn.explore.study import Study
from raydrgn.io import cryodrgn
from raydrgn.latent.values import Values
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
        pixel_size_angstrom=None,
        is_flipped=lambda: False,
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
    z = np.random.default_rng(0).normal(size=(1200, 2)).astype(np.float32)
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
    assert saved["count"] == f"{(z[:, 0] >= 0).sum()} of 1,200 particles"
    with pytest.raises(ConfigError, match="There is 'right' already"):
        explorer.save_selection(REQUEST)
    explored.close()


def test_a_damaged_selection_is_left_out_and_named_once(tmp_path, caplog):
    z = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    cryodrgn.write_pickles(str(tmp_path / "z.pkl"), z)
    explored = open_explorer(ExploreSettings(run=str(tmp_path / "z.pkl")))
    explorer = explored.run("")
    for name in ("right", "wrong"):
        explorer.save_selection(REQUEST.model_copy(update={"name": name}))
    (tmp_path / "z.explore" / "selections" / "wrong.json").unlink()
    for _ in range(2):
        assert [entry["name"] for entry in explorer.results()["selections"]] == ["right"]
    assert caplog.text.count("the saved selection wrong is damaged") == 1
    explored.close()


def test_of_two_that_save_volumes_under_one_name_one_is_refused(explorer, opened, tmp_path):
    z = np.zeros((4, 2), dtype=np.float32)
    values = Mock(numbers=np.arange(4))
    study = Mock(spec=Study, epoch=1, z=z, values=values, rows=lambda rows: np.array(rows))
    explorer.study = lambda epoch: study
    meet = Barrier(2)
    new = explorer.files.new

    def find(kind, name):
        found = new(kind, name)
        meet.wait(60)  # both have found the name free
        return found

    explorer.files.new = find
    explorer.actions = Mock(save_volumes=Mock(return_value=[]))
    request = SaveVolumesRequest(rows=[1], name="one", level=3.0, colours=["#0072b2"])

    def save(_):
        try:
            return explorer.save_volumes(request)["name"]
        except ConfigError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(save, range(2)))
    assert said == ["There is 'one' already; choose another name.", "one"]
    assert explorer.actions.save_volumes.call_count == 1


def test_the_page_sees_that_results_were_made_again(tmp_path):
    source = analysed_run(tmp_path)
    explored = open_explorer(ExploreSettings(run=str(source)))
    explorer = explored.run("")
    before = explorer.facts(None)
    assert explorer.facts(None)["stamp"] == before["stamp"]
    os.utime(source / "analyze.2" / "settings.json", (1, 1))
    after = explorer.facts(None)
    assert after["columns"] == before["columns"]
    assert after["stamp"] != before["stamp"]
    explored.close()


def test_the_page_sees_latents_that_were_trained_anew(tmp_path):
    source = analysed_run(tmp_path)
    explored = open_explorer(ExploreSettings(run=str(source)))
    explorer = explored.run("")
    before, z = explorer.facts(None)["stamp"], explorer.study(2).z
    cryodrgn.write_latents(str(source / "z.2.pkl"), -z, np.zeros_like(z))
    os.utime(source / "z.2.pkl", (1, 1))
    assert explorer.facts(None)["stamp"] != before
    np.testing.assert_array_equal(explorer.study(2).z, -z)
    explored.close()


def test_the_newest_report_is_first(tmp_path):
    for second, name in enumerate(("a", "c", "occupancy.7/classes")):
        report = tmp_path / name / "report.html"
        report.parent.mkdir(parents=True)
        report.touch()
        os.utime(report, (2e9 + second,) * 2)
    found = RunFiles(str(tmp_path), str(tmp_path / "explore")).reports()
    assert [entry["name"] for entry in found] == ["occupancy.7/classes", "c", "a"]


def test_of_very_many_classes_the_largest_are_listed_and_the_others_counted(monkeypatch):
    monkeypatch.setattr(studies, "MOST_NAMES", 2)
    found = studies._classes(Values(np.array([0, 1, 1, 2, 3, 3]), tuple("abcd"), is_category=True))
    assert (found["names"], found["counts"], found["unlisted"]) == (["b", "d"], [2, 2], 2)


def test_particles_without_a_value_are_counted_and_their_class_is_named():
    assert studies._limits(np.array([0.0, np.nan, 1.0, np.inf]))["without_value"] == 2
    found = Values(np.array([0, 1, 1]), ("none", "C1"), is_category=True)
    assert studies._classes(found)["no_value"] == 0
    assert (
        studies._classes(Values(np.array([0, 1]), ("a", "b"), is_category=True))["no_value"] is None
    )
