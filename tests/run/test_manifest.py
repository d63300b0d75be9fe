"""The manifest: what is finished, with sizes and checksums."""

import errno
import json

import pytest

from failing_disk import fail_at
from phantoms import fill_disk
from raydrgn.errors import RunDirectoryError, StorageError
from raydrgn.run.directory import Position
from raydrgn.run.manifest import FileRecord, Manifest


@pytest.fixture
def manifest():
    return Manifest(
        checkpoints={Position(2, 0): FileRecord.of(b"a"), Position(1, 30): FileRecord.of(b"b")},
        epochs={
            1: {"weights": FileRecord.of(b"c"), "latents": FileRecord.of(b"d")},
            2: {"weights": FileRecord.of(b"e")},
        },
    )


@pytest.mark.parametrize("place", ["local", "memory"])
def test_it_is_read_as_it_was_written(manifest, tmp_path, place):
    uri = str(tmp_path / "m.json") if place == "local" else "memory://manifest/m.json"
    manifest.write(uri)
    assert Manifest.read(uri) == manifest


def test_an_absent_one_is_empty(tmp_path):
    assert Manifest.read(str(tmp_path / "m.json")) == Manifest()


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES], ids=errno.errorcode.get)
def test_one_that_cannot_be_read_is_not_an_absent_one(tmp_path, monkeypatch, manifest, code):
    path = tmp_path / "m.json"
    manifest.write(str(path))
    fail_at(monkeypatch, path, code)
    with pytest.raises(StorageError, match=r"m\.json (cannot|may not) be read"):
        Manifest.read(str(path))


def test_an_epoch_is_finished_when_it_has_both(manifest):
    assert manifest.finished_epochs() == [1]


def test_a_record_knows_its_content_to_the_bit():
    record = FileRecord.of(b"abc")
    assert record.size == 3
    assert record.matches(b"abc")
    for other in (b"abd", b"ab", b"abcd", b""):
        assert not record.matches(other)


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "{}", '{"format": 1}',
        '{"format": 1, "states": {"x": {}}, "epochs": {}}',
        '{"format": 1, "states": {"1.2": {"size": 1}}, "epochs": {}}',
        '{"format": 1, "states": {}, "epochs": {"1": []}}',
    ],
)  # fmt: skip
def test_a_damaged_one_is_refused_with_what_is_left(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=r"manifest\.json is damaged .*still be analysed"):
        Manifest.read(str(tmp_path / "manifest.json"))


def test_a_later_format_is_refused(tmp_path, manifest):
    path = tmp_path / "manifest.json"
    manifest.write(str(path))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(RunDirectoryError, match="has format 2; this version reads 1"):
        Manifest.read(str(path))


def test_a_full_disk_leaves_the_one_of_before(tmp_path, monkeypatch, manifest):
    uri = str(tmp_path / "m.json")
    manifest.write(uri)
    fill_disk(monkeypatch)
    with pytest.raises(StorageError, match="No room is left"):
        Manifest().write(uri)
    assert Manifest.read(uri) == manifest
