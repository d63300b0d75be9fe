"""The folder of a Ray that a command starts, where Ray's own choice cannot be used."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote import session, temporary_folder
from raydrgn.remote.temporary_folder import MAX_SOCKET_PATH, SOCKET_BELOW, log_folder, ray_folder

LONG = "scratch_of_a_project_with_a_long_name/user_with_a_long_name/job_1234567"


@pytest.fixture
def own(tmp_path_factory, monkeypatch):
    """Folder in which folders of the user's own are made; short, as sockets need it."""
    import tempfile

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(prefix="rd", dir="/tmp") as folder:
        monkeypatch.setattr(temporary_folder, "OWN_FOLDERS", (folder,))
        yield Path(folder)


def test_a_folder_that_serves_is_left_to_ray(own, monkeypatch, caplog):
    monkeypatch.setenv("TMPDIR", str(own))
    assert ray_folder() is None
    assert caplog.text == ""
    assert log_folder(None) == own / "ray" / "session_latest" / "logs"


def test_a_long_folder_is_replaced_and_the_user_is_told(own, tmp_path, monkeypatch, caplog):
    long = tmp_path / LONG
    long.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(long))
    expected = own / f"ray-{os.getuid()}" / "ray"
    for _ in range(2):  # the second time it is there
        assert ray_folder() == str(expected)
    assert stat.S_IMODE(expected.parent.stat().st_mode) == 0o700
    assert f"Ray cannot use {long}/ray (from TMPDIR)" in caplog.text
    assert f"uses {expected} instead" in caplog.text


def test_the_longest_folder_is_the_one_that_is_said(own, monkeypatch):
    longest = MAX_SOCKET_PATH - len(SOCKET_BELOW) - len("/ray")
    fits = own / ("x" * (longest - len(str(own)) - 1))
    fits.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(fits))
    assert ray_folder() is None
    monkeypatch.setenv("RAY_TMPDIR", f"{fits}y")
    assert ray_folder() is not None


def test_a_folder_of_another_user_is_replaced(own, monkeypatch, caplog):
    (own / "ray").mkdir(mode=0o755)
    monkeypatch.setenv("TMPDIR", str(own))
    if os.getuid() == 0:  # root may write everywhere
        allowed = os.access
        monkeypatch.setattr(os, "access", lambda path, how: how != 3 and allowed(path, how))
    else:
        (own / "ray").chmod(0o555)
    assert ray_folder() == str(own / f"ray-{os.getuid()}" / "ray")
    assert "it belongs to another user" in caplog.text


@pytest.mark.parametrize("trap", ["link", "open", "file"])
def test_a_folder_that_is_not_ones_own_is_not_used(own, tmp_path, monkeypatch, trap):
    mine = own / f"ray-{os.getuid()}"
    if trap == "link":
        mine.symlink_to(tmp_path)
    elif trap == "open":
        mine.mkdir()
        mine.chmod(0o777)
    else:
        mine.write_text("")
    monkeypatch.setenv("RAY_TMPDIR", "/proc/none")
    with pytest.raises(ClusterError, match=r"/proc/none/ray \(from RAY_TMPDIR\).* Set RAY_TMPDIR"):
        ray_folder()


def test_other_reasons_are_one_message_with_the_limits_and_the_log(own, monkeypatch):
    import ray

    def fail(**_):
        raise Exception("The current node timed out during startup.\nmore")  # as Ray does

    monkeypatch.setenv("RAY_TMPDIR", str(own))
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ClusterError) as error:
        session._start_here()
    text = str(error.value)
    assert "could not be started here: The current node timed out during startup. The" in text
    assert "ulimit -u" in text
    assert "ulimit -n" in text
    assert f"{own}/ray/session_latest/logs" in text


@pytest.mark.ray
def test_ray_starts_below_a_tmpdir_that_is_too_long(tmp_path):
    folder = tmp_path / LONG
    folder.mkdir(parents=True)
    code = (
        "from raydrgn.remote.executor import Executor\n"
        "with Executor(workers=2) as executor:\n"
        "    print(sorted(o.value for o in executor.map(abs, [-1, -2])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(folder), "RAY_ADDRESS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[1, 2]", done.stderr
