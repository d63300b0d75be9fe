"""Only absence counts as absence: neither a disk nor a store that fails, nor a closed folder."""

import errno
import os
import tempfile
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from failing_disk import fail_at
from raydrgn.errors import StorageError, StorageFailureError
from raydrgn.io import storage

QUESTIONS = (storage.exists, storage.is_folder, storage.list_names, storage.list_files)
MAY_PASS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)


@pytest.mark.parametrize("ask", [*QUESTIONS, storage.read_if_there, storage.is_at_hand])
@pytest.mark.parametrize("code", [*MAY_PASS, errno.ELOOP], ids=errno.errorcode.get)
def test_a_local_place_that_fails_is_not_absent(tmp_path, monkeypatch, ask, code):
    place = tmp_path / "run"
    place.mkdir()
    fail_at(monkeypatch, place, code)
    with pytest.raises(
        StorageError, match=f"{place} cannot be read: {os.strerror(code)}"
    ) as caught:
        ask(str(place))
    assert isinstance(caught.value, StorageFailureError) is (code in MAY_PASS)


@pytest.mark.parametrize("name", ["none", "none/x", "file.star/x", "x" * 300, "a\0b", "dangling"])
def test_what_no_file_has_as_its_name_is_absent(tmp_path, name):
    (tmp_path / "file.star").write_text("data_")
    (tmp_path / "dangling").symlink_to("nowhere")
    uri = f"{tmp_path}/{name}"
    assert [ask(uri) for ask in QUESTIONS] == [False, False, [], []]
    assert not storage.is_at_hand(uri)


@pytest.mark.parametrize("name", ["none", "file.star/x", "dangling"])
def test_an_absent_file_has_no_content(tmp_path, name):
    (tmp_path / "file.star").write_text("data_")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert storage.read_if_there(f"{tmp_path}/{name}") is None
    assert storage.read_if_there(f"{tmp_path}/file.star") == b"data_"
    assert storage.read_if_there(f"memory://{tmp_path.name}/none") is None


def test_files_below_a_folder_are_listed_and_links_to_folders_not_followed(tmp_path):
    for name in ("b", "a/c", "a/d/e"):
        storage.write_bytes(f"{tmp_path}/run/{name}", b"")
    (tmp_path / "run" / "link").symlink_to("a")
    assert storage.list_files(f"{tmp_path}/run") == ["a/c", "a/d/e", "b", "link"]
    assert storage.list_files(f"{tmp_path}/run/b") == []
    assert storage.list_names(f"{tmp_path}/run/b") == []


def test_a_folder_below_that_fails_is_not_left_out(tmp_path, monkeypatch):
    storage.write_bytes(f"{tmp_path}/run/a/b", b"")
    fail_at(monkeypatch, tmp_path / "run" / "a")
    with pytest.raises(StorageError, match="cannot be read: Input/output error"):
        storage.list_files(f"{tmp_path}/run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_is_closed_to_the_user_is_named():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        closed = Path(folder) / "closed"
        (closed / "run").mkdir(parents=True)
        os.chmod(folder, 0o755)
        closed.chmod(0o700)
        os.seteuid(65534)
        try:
            for ask in QUESTIONS:
                with pytest.raises(StorageError) as caught:
                    ask(f"{closed}/run")
                expected = f"{closed}/run may not be read; check the permissions of {closed}."
                assert str(caught.value) == expected
            assert not storage.is_at_hand(f"{closed}/run")  # of a record
            with pytest.raises(StorageError, match=f"check the permissions of {closed}"):
                storage.require_room(f"{closed}/run", 1, remedy="")
        finally:
            os.seteuid(0)


class FailingStore(MemoryFileSystem):
    """A store that refuses to tell what is there."""

    protocol = "failingmemory"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    def info(self, path, **kwargs):
        raise OSError(errno.EACCES, "refused", path)

    def ls(self, path, detail=True, **kwargs):
        return self.info(path)

    find = ls


@pytest.mark.parametrize("ask", QUESTIONS)
def test_a_store_that_fails_has_not_lost_what_it_holds(ask):
    fsspec.register_implementation("failingmemory", FailingStore, clobber=True)
    with pytest.raises(StorageError, match="may not be read"):
        ask(f"failingmemory://{uuid4().hex}")
