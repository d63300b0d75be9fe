"""Paths, URLs, whole files or none, errors in words."""

import errno
import os
import socket
import stat
import tempfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from phantoms import fill_disk
from raydrgn.errors import ConfigError, InputError, RaydrgnError, StorageError
from raydrgn.io import storage


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    """A folder on this disk, and one that fsspec reaches by URL."""
    return str(tmp_path) if request.param == "local" else f"memory://test-{uuid4().hex}"


def test_what_is_written_is_read_in_whole_and_in_part(root):
    uri = storage.join(root, "a", "b.bin")
    storage.write_bytes(uri, b"0123456789")
    assert storage.read_bytes(uri) == b"0123456789"
    assert storage.read_bytes(uri, 2, 5) == b"234"
    assert storage.read_bytes(uri, 8) == b"89"
    assert storage.file_size(uri) == 10
    assert storage.exists(uri)
    assert storage.is_folder(storage.parent(uri))
    assert storage.list_names(storage.parent(uri)) == ["b.bin"]


def test_folders_are_made_listed_in_order_and_files_removed(root):
    for name in ("c", "a", "b"):
        storage.write_bytes(storage.join(root, name), b"")
    storage.make_folder(storage.join(root, "d", "e"))
    assert storage.list_names(root) == ["a", "b", "c", "d"]
    storage.remove(storage.join(root, "b"))
    storage.remove(storage.join(root, "b"))  # not there any more
    assert storage.list_names(root) == ["a", "c", "d"]
    assert storage.list_names(storage.join(root, "nowhere")) == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(root):
    uri = storage.join(root, "kept.bin")
    storage.write_bytes(uri, b"old")
    with pytest.raises(TypeError), storage.atomic_write(uri) as stream:
        stream.writelines([b"half of the new", None])
    assert storage.read_bytes(uri) == b"old"
    assert storage.list_names(root) == ["kept.bin"]


def test_a_name_is_given_once(root):
    uri = storage.join(root, "run", "claim.json")
    assert storage.create_exclusively(uri, b"first")
    assert not storage.create_exclusively(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
    assert storage.list_names(storage.parent(uri)) == ["claim.json"]
    storage.remove(uri)
    assert storage.create_exclusively(uri, b"third")


def test_one_of_many_threads_gets_a_local_name(tmp_path):
    uri = str(tmp_path / "claim.json")
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda n: storage.create_exclusively(uri, b"%d" % n), range(64)))
    assert sum(won) == 1
    assert storage.read_bytes(uri) == b"%d" % won.index(True)
    assert os.listdir(tmp_path) == ["claim.json"]


def test_a_full_disk_leaves_the_old_file_and_is_said(tmp_path, monkeypatch):
    uri = str(tmp_path / "kept.bin")
    storage.write_bytes(uri, b"old")
    fill_disk(monkeypatch)
    with pytest.raises(StorageError, match=r"No room is left to write .*kept\.bin.*stays valid"):
        storage.write_bytes(uri, b"new")
    assert storage.read_bytes(uri) == b"old"
    assert os.listdir(tmp_path) == ["kept.bin"]


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (FileNotFoundError(errno.ENOENT, "x"), "U does not exist; check the path"),
        (PermissionError(errno.EACCES, "x"), "U may not be written; check its permissions"),
        (IsADirectoryError(errno.EISDIR, "is a folder"), "U cannot be written: is a folder"),
        (OSError(errno.EDQUOT, "x"), "No room is left to write U"),
        (OSError(errno.EIO, "disk broken"), "U cannot be written: .*disk broken"),
    ],
    ids=["missing", "forbidden", "folder", "quota", "other"],
)
def test_errors_of_the_system_say_what_to_do(cause, message):
    with (
        pytest.raises(StorageError, match=message) as caught,
        storage.explained("U", action="written"),
    ):
        raise cause
    assert isinstance(caught.value, RaydrgnError)


def test_missing_files_are_named(root):
    uri = storage.join(root, "none.bin")
    for read in (storage.read_bytes, storage.file_size):
        with pytest.raises(StorageError, match=r"none\.bin does not exist"):
            read(uri)
    assert not storage.exists(uri)


def test_an_unknown_protocol_names_the_package_to_install():
    with pytest.raises(StorageError, match="Install the fsspec package of this protocol"):
        storage.read_bytes("nosuch://bucket/file")


@pytest.mark.parametrize(
    ("uri", "base", "expected"),
    [
        ("/a/b", None, "/a/b"),
        ("s3://bucket/a", "/base", "s3://bucket/a"),
        ("s3://bucket/a/", None, "s3://bucket/a"),
        ("file:///a/b", None, "/a/b"),
        ("b.mrcs", "/a", "/a/b.mrcs"),
        ("../b.mrcs", "/a/c", "/a/b.mrcs"),
        ("b.mrcs", "s3://bucket/a", "s3://bucket/a/b.mrcs"),
        ("/a/b", "s3://bucket/a", "/a/b"),
    ],
)
def test_absolute_paths_mean_the_same_from_anywhere(uri, base, expected):
    assert storage.absolute(uri, base=base) == expected


def test_relative_paths_and_home_are_resolved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert storage.absolute("x/y") == str(tmp_path / "x" / "y")
    assert storage.absolute("~/x") == "/home/someone/x"


def test_home_is_resolved_where_a_file_is_written_and_read(tmp_path, monkeypatch):
    """A shell leaves ``~`` as it is in ``--table=~/p.parquet``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    storage.write_bytes("~/new/x", b"abc")
    assert (tmp_path / "home" / "new" / "x").read_bytes() == b"abc"
    assert storage.exists("~/new/x")
    assert storage.read_bytes("~/new/x") == b"abc"
    assert not (tmp_path / "~").exists()


def test_two_colons_in_a_name_are_no_chain_of_file_systems(tmp_path):
    storage.write_bytes(f"{tmp_path}/a::b/x::y", b"abc")
    assert storage.list_files(f"{tmp_path}/a::b") == ["x::y"]
    assert storage.file_size(f"{tmp_path}/a::b/x::y") == 3


def test_parents_and_kinds_of_places():
    assert storage.parent("/a/b/c.txt") == "/a/b"
    assert storage.parent("memory://a/b/c.txt") == "memory://a/b"
    assert storage.is_local("file:///a")
    assert storage.is_local("relative/path")
    assert not storage.is_local("s3://bucket/a")


def test_room_is_required_before_it_is_used(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(10**10, 0, 10**9))
    folder = str(tmp_path / "not" / "yet")
    storage.require_room(folder, 10**9, remedy="")
    storage.require_room(folder, 3 * 10**9, released=2 * 10**9, remedy="")
    storage.require_room("memory://somewhere", 10**15, remedy="")  # nothing is known of it
    with pytest.raises(StorageError, match=r"has 1 GB of room, but 2 GB .*, or buy a disk"):
        storage.require_room(folder, 2 * 10**9, remedy=", or buy a disk")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(10**10, 0, 0))
    needed = "has 0 B of room, but 2 MB are needed. Free space, or choose another folder."
    with pytest.raises(StorageError, match=needed):
        storage.require_room(folder, 2 * 10**6, remedy="")


def test_a_synced_file_is_there(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    storage.sync(str(tmp_path / "a"))
    with pytest.raises(StorageError, match="does not exist"):
        storage.sync(str(tmp_path / "b"))


def test_checksum_is_that_of_the_standard():
    # FIPS 180-4, example of the one-block message "abc"
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert storage.checksum(b"abc") == expected


# Outputs that are not plain files ---------------------------------------------------------------


def test_a_link_stays_and_the_file_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "link").symlink_to("big/out.pkl")
    for content in (b"first", b"second"):  # a link to nothing yet, and to a file
        storage.write_bytes(str(tmp_path / "link"), content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "big" / "out.pkl").read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big", "link"]
    assert [p.name for p in (tmp_path / "big").iterdir()] == ["out.pkl"]


def test_the_reader_of_a_pipe_gets_the_content(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(pipe.read_bytes)
        storage.write_bytes(str(pipe), b"poses" * 1000)
        assert received.result(timeout=30) == b"poses" * 1000
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_device_is_written_to_and_stays(tmp_path):
    terminal, shown = os.openpty()  # a character device that needs no privilege
    name = os.ttyname(shown)
    (tmp_path / "link").symlink_to(name)
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(os.read, terminal, 100)
        storage.write_bytes(str(tmp_path / "link"), b"poses")
        assert received.result(timeout=30) == b"poses"
    assert stat.S_ISCHR(os.stat(name).st_mode)
    assert (tmp_path / "link").is_symlink()
    os.close(terminal)
    os.close(shown)


def test_what_the_shell_has_opened_is_not_replaced(tmp_path):
    place = tmp_path / "shell.out"
    with place.open("wb") as stream:
        storage.write_bytes(f"/dev/fd/{stream.fileno()}", b"content")
        assert os.path.samestat(place.stat(), os.fstat(stream.fileno()))
    assert place.read_bytes() == b"content"


def test_a_socket_is_refused_and_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(StorageError, match="s cannot be written"):
            storage.write_bytes("s", b"content")
        assert stat.S_ISSOCK((tmp_path / "s").stat().st_mode)


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    with pytest.raises(StorageError, match="cannot be written: it is a folder"):
        storage.write_bytes(str(tmp_path), b"content")
    assert not list(tmp_path.iterdir())
    assert not list(tmp_path.parent.glob("*.part"))


def test_a_file_that_fails_its_check_does_not_replace_the_old_one(tmp_path):
    place = tmp_path / "out.star"
    place.write_bytes(b"old")

    def refuse(uri):
        assert Path(uri).read_bytes() == b"new"
        raise InputError("it does not read as what was written")

    with (
        pytest.raises(InputError),
        storage.atomic_write(str(place), check=refuse) as stream,
    ):
        stream.write(b"new")
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]


def test_a_link_to_nothing_is_named_with_what_it_leads_to(tmp_path):
    (tmp_path / "a.mrcs").symlink_to("../.git/annex/objects/x/a.mrcs")
    with pytest.raises(StorageError, match=r"is a link to .*a\.mrcs.*git annex get"):
        storage.read_bytes(str(tmp_path / "a.mrcs"))


def test_only_files_and_links_are_deleted(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    storage.remove(str(tmp_path / "link"))
    assert (tmp_path / "file").exists()
    for name in ("pipe", "folder"):
        with pytest.raises(StorageError):
            storage.remove(str(tmp_path / name))
        assert (tmp_path / name).exists()
    storage.remove(str(tmp_path / "file"))
    storage.remove(str(tmp_path / "file"))  # not there any more
    assert not (tmp_path / "file").exists()


def test_outputs_in_pieces_follow_links_and_are_files(tmp_path):
    (tmp_path / "link").symlink_to("big.mrcs")
    os.mkfifo(tmp_path / "pipe")
    assert storage.plain_output(str(tmp_path / "link")) == str(tmp_path / "big.mrcs")
    assert storage.plain_output("s3://bucket/a.mrcs") == "s3://bucket/a.mrcs"
    for name, kind in (("pipe", "pipe"), ("", "folder")):
        with pytest.raises(StorageError, match=kind):
            storage.plain_output(str(tmp_path / name))


class ListingCache(MemoryFileSystem):
    """Remembers what a folder held, as file systems of object stores do."""

    protocol = "cachedmemory"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    seen: ClassVar[dict] = {}

    def ls(self, path, detail=True, **options):
        if path not in self.seen:
            self.seen[path] = super().ls(path, detail=True)
        entries = self.seen[path]
        return entries if detail else [entry["name"] for entry in entries]

    def invalidate_cache(self, path=None):
        self.seen.clear()


def test_a_cached_listing_does_not_hide_new_files():
    fsspec.register_implementation("cachedmemory", ListingCache, clobber=True)
    folder = f"cachedmemory://{uuid4().hex}"
    storage.write_bytes(storage.join(folder, "z.1.pkl"), b"")
    assert storage.list_names(folder) == ["z.1.pkl"]
    with fsspec.open(storage.join(folder, "z.2.pkl"), "wb") as stream:  # by another process
        stream.write(b"")
    assert storage.list_names(folder) == ["z.1.pkl", "z.2.pkl"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    storage.require_writable(str(tmp_path / "new" / "folder"))
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "afile").write_text("")
    with pytest.raises(StorageError, match=r"afile is a file, not a folder"):
        storage.require_writable(str(tmp_path / "afile"))


def test_a_file_that_is_absent_is_named_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("gone.star", "no/gone.star", str(tmp_path / "gone.star")):
        with pytest.raises(StorageError, match=f"^{path} does not exist; check the path"):
            storage.file_size(path)


@pytest.mark.parametrize("below", ["", "run", "runs/first"])
def test_a_folder_at_or_below_a_link_to_nowhere_is_refused_by_the_link(tmp_path, below):
    link = tmp_path / "scratch"
    link.symlink_to(tmp_path / "unmounted")
    with pytest.raises(StorageError, match=r"scratch is a link to .*unmounted, which does not"):
        storage.require_writable(str(link / below))


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(StorageError, match="may not be written; check its permissions"):
        storage.require_writable(str(tmp_path / "run"))
    tmp_path.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_folder_of_another_user_is_refused_by_its_own_name():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        os.seteuid(65534)
        try:
            with pytest.raises(StorageError) as caught:
                storage.require_writable(folder)
        finally:
            os.seteuid(0)
    assert str(caught.value).startswith(f"{folder} may not be written: it belongs to another user")


def test_what_is_read_is_not_replaced_by_any_name(tmp_path):
    (tmp_path / "in.star").write_bytes(b"data_")
    (tmp_path / "link").symlink_to("in.star")
    (tmp_path / "folder").symlink_to(".")
    read = str(tmp_path / "in.star")
    for name in ("in.star", "link", "./in.star", "folder/in.star"):
        with pytest.raises(ConfigError, match=r"would replace .*in\.star, which is read"):
            storage.refuse_to_replace(f"{tmp_path}/{name}", ["", read])
    storage.refuse_to_replace(str(tmp_path / "out.star"), [read, "s3://bucket/in.star"])


@pytest.mark.parametrize("name", ["a" * 251, "é" * 125])
def test_the_longest_names_that_a_file_may_have_can_be_written(tmp_path, name):
    uri = str(tmp_path / f"{name}.pkl")
    storage.write_bytes(uri, b"whole")
    assert storage.read_bytes(uri) == b"whole"
    assert len(list(tmp_path.iterdir())) == 1
