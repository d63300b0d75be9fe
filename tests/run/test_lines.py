"""Files that grow by lines, on a disk and in an object store."""

from uuid import uuid4

import pytest

from raydrgn.io import storage
from raydrgn.run import lines
from raydrgn.run.lines import LineFile, read_lines


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


def test_an_object_is_written_after_seconds_and_keeps_what_it_had(remote, monkeypatch):
    storage.write_bytes(remote, b"before\n")
    file = LineFile(remote)
    file.add("first")
    assert storage.read_bytes(remote) == b"before\n"
    monkeypatch.setattr(lines, "FLUSH_SECONDS", 0.0)
    file.add("second")
    assert storage.read_bytes(remote) == b"before\nfirst\nsecond\n"


@pytest.fixture
def full(remote, monkeypatch):
    """A file of 30 lines in objects of three lines."""
    monkeypatch.setattr(lines, "SEGMENT_BYTES", 24)
    file = LineFile(remote)
    for number in range(30):
        file.add(f"line {number:02d}")
        file.flush()
    return file


def test_a_full_object_is_not_written_again(remote, full, writes):
    first = storage.read_bytes(remote)
    full.add("the last")
    full.flush()
    assert writes == [f"{remote}.0010"]
    assert storage.read_bytes(remote) == first == b"line 00\nline 01\nline 02\n"
    assert read_lines(remote) == [*(f"line {n:02d}" for n in range(30)), "the last"]


def test_another_writer_goes_on_where_the_first_was(remote, full):
    again = LineFile(remote)
    again.add("again")
    again.flush()
    assert read_lines(remote)[-2:] == ["line 29", "again"]


def test_lines_beyond_a_checkpoint_are_removed_from_all_objects(remote, full):
    full.keep(lambda line: line < "line 10")
    assert read_lines(remote) == [f"line {n:02d}" for n in range(10)]
    assert len(storage.list_names(storage.parent(remote))) == 4
    full.add("next")
    full.flush()
    assert read_lines(remote)[-1] == "next"
    full.keep(lambda line: False)
    assert read_lines(remote) == []


def test_lines_are_removed_from_a_local_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("a\nb\nc\ncut sho")
    LineFile(str(path)).keep(lambda line: line.endswith("\n") and line < "c")
    assert path.read_text() == "a\nb\n"


def test_files_of_similar_names_are_not_read(remote):
    storage.write_bytes(remote, b"a\n")
    storage.write_bytes(f"{remote}.bak", b"b\n")
    assert read_lines(remote) == ["a"]
