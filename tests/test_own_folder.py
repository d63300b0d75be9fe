"""Where numba and matplotlib keep their files, for users with and without a home folder."""

import os
import stat
import tempfile

import pytest

from raydrgn import own_folder
from raydrgn.own_folder import FOLDERS, give_cache_folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """An environment with a temporary folder, and no other that can be written."""
    for name in (*FOLDERS, "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "to be removed")  # so that what a test sets is removed again
        monkeypatch.delenv(name)
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("HOME", "/proc/1")  # where even root makes no folder
    monkeypatch.setattr(own_folder, "can_be_written", lambda path: "/proc" not in str(path))
    return folder


def test_a_user_with_a_home_keeps_it(temporary, monkeypatch):
    monkeypatch.setenv("HOME", str(temporary))
    give_cache_folder()
    assert not set(FOLDERS) & set(os.environ)
    assert list(temporary.iterdir()) == []


def test_without_one_there_is_a_private_folder_which_is_the_same_again(temporary):
    give_cache_folder()
    [folder] = temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder / "numba")
    assert os.environ["MPLCONFIGDIR"] == str(folder / "matplotlib")
    give_cache_folder()
    assert list(temporary.iterdir()) == [folder]


def test_what_the_environment_names_is_kept(temporary, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/elsewhere")
    give_cache_folder()
    assert os.environ["NUMBA_CACHE_DIR"] == "/elsewhere"


@pytest.mark.parametrize("planted", ["open to all", "a link"])
def test_a_folder_that_others_can_write_is_not_used(temporary, planted):
    """Others could put code into it that this user would run."""
    name = temporary / f"raydrgn-cache-{os.getuid()}"
    if planted == "a link":
        (temporary / "theirs").mkdir(mode=0o700)
        name.symlink_to(temporary / "theirs")
    else:
        name.mkdir()
        name.chmod(0o777)
    give_cache_folder()
    used = os.environ["NUMBA_CACHE_DIR"]
    assert not used.startswith(f"{name}/")
    assert stat.S_IMODE(os.stat(os.path.dirname(used)).st_mode) == 0o700


@pytest.mark.parametrize(("path", "writable"), [("tmp/a/b", True), ("tmp/a-file/b", False)])
def test_a_folder_is_made_where_its_nearest_one_can_be_written(tmp_path, path, writable):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "a-file").touch(mode=0o600)
    assert own_folder.can_be_written(tmp_path / path) is writable
