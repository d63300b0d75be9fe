"""What holds of objects in any store: they are read in whole and in part, listed and deleted."""

from raydrgn.io import storage


def check_objects(folder):
    """Write, read, list and delete objects in a folder of a store."""
    uri = storage.join(folder, "a", "b.bin")
    storage.write_bytes(uri, b"0123456789")
    assert storage.read_bytes(uri) == b"0123456789"
    assert storage.read_bytes(uri, 2, 5) == b"234"
    assert storage.read_bytes(uri, 8, 100) == b"89"
    assert storage.read_bytes(uri, 10, 20) == b""
    assert storage.file_size(uri) == 10
    assert storage.is_folder(storage.join(folder, "a"))
    assert not storage.is_folder(uri)
    assert storage.list_names(folder) == ["a"]
    assert storage.list_files(folder) == ["a/b.bin"]
    storage.write_bytes(uri, b"")
    assert storage.read_bytes(uri) == b""
    storage.remove(uri)
    storage.remove(uri)
    assert not storage.exists(uri)
    assert storage.list_names(storage.join(folder, "a")) == []
