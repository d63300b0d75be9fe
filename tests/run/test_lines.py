"""Files that grow by lines, on a disk and in an object store."""

from uuid import uuid4

import pytest

from raydrgn.io import storage
from raydrgn.run import lines
from raydrgn.run.lines import LineFile


@pytest.fixture
def remote():
    return f"memory://lines-{uuid4().hex}/metrics.jsonl"


@pytest.fixture
def writes(monkeypatch):
    """Count whole files written."""
    written, write_bytes = [], storage.write_bytes
    monkeypatch.setattr(
        storage,
        "write_bytes",
        lambda uri, content: (written.append(uri), write_bytes(uri, content)),
    )
    return written


def test_a_local_file_grows_at_once_and_is_never_written_whole(tmp_path, writes):
    path = tmp_path / "run" / "run.log"
    file = LineFile(str(path))
    for number in range(3):
        file.add(f"line {number}")
        assert path.read_text().splitlines()[-1] == f"line {number}"
    assert writes == []


def test_an_object_is_written_once_for_many_lines(remote, writes):
    file = LineFile(remote)
    for number in range(100):
        file.add(f"line {number}")
    assert writes == []
    file.flush()
    file.flush()
    assert writes == [remote]
    assert storage.read_bytes(remote).decode().splitlines() == [f"line {n}" for n in range(100)]


def test_an_object_is_written_after_a_minute_and_keeps_what_it_had(remote, monkeypatch):
    storage.write_bytes(remote, b"before\n")
    file = LineFile(remote)
    file.add("first")
    assert storage.read_bytes(remote) == b"before\n"
    monkeypatch.setattr(lines, "FLUSH_SECONDS", 0.0)
    file.add("second")
    assert storage.read_bytes(remote) == b"before\nfirst\nsecond\n"
