"""What holds on a real S3 server: whole objects or none, one owner, failures in words."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import s3fs

import s3
from objects import check_objects
from raydrgn.errors import StorageError, StorageFailureError
from raydrgn.io import object_store, storage


@pytest.fixture
def proxy(s3_server, s3_folder, monkeypatch):
    """A proxy between the client and the server."""
    found = s3.BreakingProxy(s3_server)
    found.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
    s3fs.S3FileSystem.clear_instance_cache()
    yield found
    found.close()


@pytest.fixture
def short_patience(monkeypatch):
    monkeypatch.setattr(object_store, "PATIENCE_SECONDS", 2.0)


def test_what_is_written_is_read_in_whole_and_in_part(s3_folder):
    check_objects(s3_folder)


def test_what_another_process_writes_is_seen_at_once(s3_folder):
    first, second = (storage.join(s3_folder, f"z.{n}.pkl") for n in (1, 2))
    storage.write_bytes(first, b"one")
    assert storage.list_names(s3_folder) == ["z.1.pkl"]
    before = storage.stamp(first)
    other = s3fs.S3FileSystem(skip_instance_cache=True)  # without the listings of this process
    other.pipe_file(second, b"two")
    other.pipe_file(first, b"uno")  # of the same size, in the same second
    assert storage.list_names(s3_folder) == ["z.1.pkl", "z.2.pkl"]
    assert storage.exists(second)
    assert storage.file_size(second) == 3
    assert storage.stamp(first) != before


def test_objects_of_many_parts_are_whole(s3_folder, monkeypatch):
    content = np.random.default_rng(0).bytes(11 << 20)
    uri = storage.join(s3_folder, "large.bin")
    storage.write_bytes(uri, content)
    monkeypatch.setattr(object_store, "RANGE_BYTES", 1 << 20)
    assert storage.read_bytes(uri) == content
    assert storage.read_bytes(uri, 123, 5_000_000) == content[123:5_000_000]


def test_one_of_many_creates_a_file(s3_folder):
    uri = storage.join(s3_folder, "claim")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: storage.create_exclusively(uri, b"owner %d" % n), range(8)))
    assert sum(won) == 1
    assert storage.read_bytes(uri) == b"owner %d" % won.index(True)
    assert not storage.create_exclusively(uri, b"late")


def test_a_write_that_fails_leaves_the_old_object(s3_folder):
    uri = storage.join(s3_folder, "kept.bin")
    storage.write_bytes(uri, b"old")
    with pytest.raises(TypeError), storage.atomic_write(uri) as stream:
        stream.writelines([b"half of the new", None])
    assert storage.read_bytes(uri) == b"old"
    assert storage.list_names(s3_folder) == ["kept.bin"]


def test_reads_that_are_cut_are_repeated(proxy, s3_folder):
    content = np.random.default_rng(0).bytes(1 << 20)
    uri = storage.join(s3_folder, "stack.mrcs")
    storage.write_bytes(uri, content)
    proxy.to_break = 3
    assert storage.read_bytes(uri) == content
    assert proxy.broken == 3


def test_a_connection_that_is_always_cut_is_reported_in_bounded_time(
    proxy, s3_folder, short_patience
):
    uri = storage.join(s3_folder, "stack.mrcs")
    storage.write_bytes(uri, b"x" * (1 << 20))
    proxy.to_break = 1000
    began = time.monotonic()
    silence = rf"{uri} cannot be read: {proxy.url} does not answer"
    with pytest.raises(StorageFailureError, match=silence):
        storage.read_bytes(uri, 0, 1 << 20)
    assert time.monotonic() - began < 60
    proxy.to_break = 0


def test_a_store_that_does_not_answer_is_reported(
    s3_folder, closed_port, monkeypatch, short_patience, caplog
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(
        StorageFailureError, match=rf"127\.0\.0\.1:{closed_port} does not answer.*run the same"
    ):
        storage.write_bytes(storage.join(s3_folder, "a"), b"a")
    assert "trying again for a minute" in caplog.text


def test_a_request_whose_first_failure_comes_late_is_sent_again(monkeypatch, caplog):
    monkeypatch.setattr(object_store, "PATIENCE_SECONDS", 1.0)
    answers = [ConnectionResetError("reset"), b"content"]

    def request():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            time.sleep(1.5)  # longer than requests are repeated for
            raise answer
        return answer

    assert object_store.persistently(request, "s3://bucket/a") == b"content"
    assert "s3://bucket/a: reset; trying again for a minute" in caplog.text


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_reported_at_once(s3_folder, monkeypatch, variable):
    monkeypatch.setenv(variable, "wrong-value")
    s3fs.S3FileSystem.clear_instance_cache()
    for ask in (storage.exists, storage.read_bytes, storage.list_names, storage.require_writable):
        with pytest.raises(StorageError, match=r"refuses the credentials.*AWS_ACCESS_KEY_ID") as no:
            ask(storage.join(s3_folder, "a"))
        assert not isinstance(no.value, StorageFailureError)  # another try would be refused too


def test_missing_keys_are_reported(s3_folder, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match=r"without credentials.*Set AWS_ACCESS_KEY_ID"):
        storage.read_bytes(storage.join(s3_folder, "a"))


def test_a_profile_takes_the_place_of_keys(s3_folder, monkeypatch, tmp_path):
    storage.write_bytes(storage.join(s3_folder, "a"), b"a")
    (tmp_path / "credentials").write_text(
        f"[facility]\naws_access_key_id = {s3.KEY}\naws_secret_access_key = {s3.SECRET}\n"
    )
    (tmp_path / "config").write_text(
        f"[profile facility]\nendpoint_url = {os.environ['AWS_ENDPOINT_URL']}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "facility")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    s3fs.S3FileSystem.clear_instance_cache()
    assert storage.read_bytes(storage.join(s3_folder, "a")) == b"a"


@pytest.mark.usefixtures("s3_folder")
def test_a_missing_bucket_is_reported_and_not_made():
    with pytest.raises(StorageError, match=r"there is no bucket nowhere at http://127"):
        storage.read_bytes("s3://nowhere/run/config.yaml")
    with pytest.raises(StorageError, match="s3://nowhere/run"):
        storage.require_writable("s3://nowhere/run")
    assert not storage.exists("s3://nowhere")


def test_a_missing_object_is_reported(s3_folder):
    with pytest.raises(StorageError, match=r"none\.star does not exist; check the path"):
        storage.read_bytes(storage.join(s3_folder, "none.star"))


def test_the_region_of_amazons_other_programs_is_taken(s3_folder, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    s3fs.S3FileSystem.clear_instance_cache()
    fs, _ = storage.filesystem(s3_folder)
    assert fs.s3.meta.region_name == "eu-central-1"


def test_a_missing_client_names_the_command_that_installs_it(monkeypatch):
    def no_client(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(object_store.fsspec.core, "url_to_fs", no_client)
    with pytest.raises(StorageError, match=r"pip install 'raydrgn\[s3\]'"):
        storage.read_bytes("s3://bucket/a")
    with pytest.raises(StorageError, match=r"pip install 'raydrgn\[gs\]'"):
        storage.read_bytes("gs://bucket/a")
