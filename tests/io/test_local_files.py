"""Second names of local files."""

import os

import pytest

from raydrgn.errors import StorageError
from raydrgn.io import storage

link = os.link


def repeated(*names):
    """Link as NFS does where the answer to the first request was lost."""
    link(*names)
    link(*names)  # EEXIST, by its own first request


def refused(*_):
    """Link as a file system without hard links does."""
    raise PermissionError(1, "no links")


@pytest.mark.parametrize("way", [repeated, refused])
def test_a_name_is_given_once(way, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", way)
    uri = str(tmp_path / "claim.json")
    assert storage.create_exclusively(uri, b"first")
    assert not storage.create_exclusively(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
    assert os.listdir(tmp_path) == ["claim.json"]


def test_where_no_folder_can_be_made_is_said_of_outputs():
    """As below the root of an automounter, such as ``/home`` of a cluster."""
    for write in (lambda uri: storage.write_bytes(uri, b""), storage.make_folder):
        with pytest.raises(StorageError, match=r"x cannot be written: no folder .* in /proc\."):
            write("/proc/none/x")
    with pytest.raises(StorageError, match=r"^/proc may not be written: it belongs"):
        storage.require_writable("/proc")
