"""Results that are replaced stay until the new ones are whole."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from raydrgn.cli.main import app
from raydrgn.errors import RunDirectoryError
from raydrgn.remote.process import ProcessIdentity
from raydrgn.reporting import result_folder
from raydrgn.reporting.earlier_results import EARLIER, PROCESS, UNFINISHED
from raydrgn.reporting.result_folder import ResultFolder, put_back_earlier_results

OLD, NEW = {"ksample": 20}, {"ksample": 5}


def begin(folder, settings, *, overwrite=False):
    folder.begin(settings, made_from=None, overwrite=overwrite)


def files(folder):
    found = (place for place in folder.rglob("*") if place.is_file())
    return {str(place.relative_to(folder)) for place in found}


@pytest.fixture
def made(tmp_path):
    """Finished results, with a file of somebody else."""
    folder = ResultFolder(str(tmp_path / "analyze.3"))
    begin(folder, OLD)
    folder.write_table("kmeans/a.csv", ("x",), [(1,)])
    folder.write_table("b.csv", ("x",), [(1,)])
    folder.finish()
    (tmp_path / "analyze.3" / "notes.txt").write_text("mine")
    return folder


@pytest.fixture
def killed(made):
    """The same after a process began to replace them, made a file, and was killed."""
    begin(made, NEW, overwrite=True)
    made.write_table("b.csv", ("x",), [(2,)])
    forget(made)
    return made


def forget(folder):
    """Leave a folder as a process does that is gone."""
    result_folder._REPLACING.pop(folder.uri)
    place = Path(folder.uri) / EARLIER / PROCESS
    place.write_text(json.dumps(json.loads(place.read_text()) | {"pid": 1, "start": "0"}))


def value(folder):
    return Path(folder.at("b.csv")).read_text().split()[1]


WHOLE = {"settings.json", "notes.txt", "kmeans/a.csv", "b.csv"}


def test_they_are_deleted_once_the_new_ones_are_whole(made, tmp_path):
    begin(made, NEW, overwrite=True)
    assert not made.has("b.csv")
    made.write_table("b.csv", ("x",), [(2,)])
    made.finish()
    assert files(tmp_path / "analyze.3") == WHOLE - {"kmeans/a.csv"}
    put_back_earlier_results()
    assert value(made) == "2"


def test_they_are_put_back_where_the_command_ends_before(made, tmp_path, caplog):
    before = (tmp_path / "analyze.3" / "settings.json").read_bytes()
    begin(made, NEW, overwrite=True)
    made.write_table("b.csv", ("x",), [(2,)])
    with caplog.at_level("INFO", logger="raydrgn"):
        put_back_earlier_results()
    assert "has its earlier results again" in caplog.text
    assert value(made) == "1"
    assert {n for n in files(tmp_path / "analyze.3") if UNFINISHED not in n} == WHOLE
    assert (tmp_path / "analyze.3" / "settings.json").read_bytes() == before


@pytest.mark.parametrize("settings", [OLD, NEW, {"ksample": 7}])
def test_the_same_command_goes_on_with_what_it_had_made(settings, made, tmp_path):
    begin(made, NEW, overwrite=True)
    made.write_table("b.csv", ("x",), [(2,)])
    put_back_earlier_results()
    begin(made, settings, overwrite=True)
    assert made.has("b.csv") == (settings == NEW)
    made.finish()
    assert not any(EARLIER in name or UNFINISHED in name for name in files(tmp_path))
    assert json.loads(Path(made.at("settings.json")).read_text())["ksample"] == settings["ksample"]


def test_after_a_kill_the_next_command_puts_them_back(killed, tmp_path):
    begin(killed, OLD)  # as the earlier command was
    assert value(killed) == "1"
    killed.finish()
    assert files(tmp_path / "analyze.3") == WHOLE


def test_after_a_kill_between_two_files_too(made, tmp_path):
    begin(made, NEW, overwrite=True)
    forget(made)
    aside = tmp_path / "analyze.3" / EARLIER / f"settings.json{EARLIER}"
    aside.replace(made.at("settings.json"))
    begin(made, OLD)  # the settings are moved last, and were not yet
    assert files(tmp_path / "analyze.3") == WHOLE
    assert value(made) == "1"


def test_after_a_kill_at_the_very_end_the_new_ones_hold(killed, monkeypatch):
    monkeypatch.setattr(killed._earlier, "delete", lambda: None)
    killed.finish()
    again = ResultFolder(killed.uri)
    begin(again, NEW)
    assert value(again) == "2"


def test_results_that_another_process_is_replacing_are_left_alone(killed, tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        place = tmp_path / "analyze.3" / EARLIER / PROCESS
        place.write_text(json.dumps(asdict(ProcessIdentity.of(other.pid))))
        for overwrite in (False, True):
            with pytest.raises(RunDirectoryError, match=f"process {other.pid} on .* is replacing"):
                begin(killed, NEW, overwrite=overwrite)
        assert value(killed) == "2"
        result_folder._REPLACING[killed.uri] = killed  # this process, which was suspended meanwhile
        with pytest.raises(RunDirectoryError, match="has replaced the results meanwhile"):
            killed.finish()
    finally:
        result_folder._REPLACING.pop(killed.uri, None)
        other.kill()
        other.wait()


def test_of_two_that_begin_to_replace_results_at_once_one_can(made, tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        place = tmp_path / "analyze.3" / EARLIER / PROCESS
        place.parent.mkdir()
        place.write_text(json.dumps(asdict(ProcessIdentity.of(other.pid))))  # it moves files next
        before = files(tmp_path)
        with pytest.raises(RunDirectoryError, match=f"process {other.pid} on .* is replacing"):
            begin(made, NEW, overwrite=True)
        assert files(tmp_path) == before
    finally:
        other.kill()
        other.wait()
    begin(made, NEW, overwrite=True)  # one that was killed there holds up nobody
    assert not Path(made.at("b.csv")).exists()


def test_a_command_that_is_interrupted_leaves_the_earlier_results(tmp_path, monkeypatch):
    np.savetxt(tmp_path / "z.csv", np.random.default_rng(0).normal(size=(40, 2)), delimiter=",")
    words = ["analyze", str(tmp_path / "z.csv"), "--skip-umap", "--ksample"]
    assert CliRunner().invoke(app, [*words, "3"]).exit_code == 0
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ResultFolder, "write_figure", fail)
        assert CliRunner().invoke(app, [*words, "4", "--overwrite"]).exit_code != 0
    after = {name for name in files(tmp_path) if UNFINISHED not in name}
    assert {name: (tmp_path / name).read_bytes() for name in after} == before
    assert CliRunner().invoke(app, [*words, "4", "--overwrite"]).exit_code == 0
    assert "z.analyze/kmeans4/labels.pkl" in files(tmp_path)
    assert not any(UNFINISHED in name for name in files(tmp_path))
