"""Addresses of clusters: which one counts, and what is reported if no Ray is there."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote import address as addresses
from raydrgn.remote.address import RayAddress, is_this_machine, ray_address


@pytest.fixture(autouse=True)
def _no_cluster_in_the_environment(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    addresses._report_job_server.cache_clear()


def test_the_option_counts_before_the_variable(monkeypatch):
    assert ray_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "a:6379")
    assert ray_address(None) == RayAddress("a:6379", "RAY_ADDRESS")
    assert ray_address("b:6379") == RayAddress("b:6379", "--address")
    assert ray_address("local") is None


def test_the_address_of_a_job_server_is_for_jobs(monkeypatch, caplog):
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with caplog.at_level(logging.WARNING):
        assert ray_address(None) is None
        assert ray_address(None) is None
    [record] = caplog.records
    assert record.getMessage() == (
        "RAY_ADDRESS is http://head:8265, a job server, which `raydrgn submit` uses; this command "
        "runs on this machine."
    )
    with pytest.raises(ClusterError, match="raydrgn submit --address https://head COMMAND"):
        ray_address("https://head")


@pytest.mark.parametrize("source", ["RAY_ADDRESS", "--address"])
def test_a_cluster_that_is_gone_is_one_message(source, closed_port):
    with pytest.raises(ClusterError) as error:
        RayAddress(f"127.0.0.1:{closed_port}", source).check()
    text = str(error.value)
    assert f"No Ray at 127.0.0.1:{closed_port} (Connection refused)" in text
    assert f"comes from {source}" in text
    assert ("Unset RAY_ADDRESS" if source == "RAY_ADDRESS" else "Leave --address out") in text


@pytest.mark.parametrize("text", ["head", "head:", "head:many", ":6379", "[::1]"])
def test_an_address_needs_host_and_port(text):
    with pytest.raises(ClusterError, match="should be HOST:PORT"):
        RayAddress(text, "RAY_ADDRESS").check()


def test_a_name_that_does_not_exist():
    with pytest.raises(ClusterError, match=r"No Ray at none\.invalid:6379"):
        RayAddress("none.invalid:6379", "--address").check()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", None, b""])
def test_another_server_is_recognised(monkeypatch, answer):
    monkeypatch.setattr(addresses, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                if answer is None:  # silent
                    time.sleep(1.0)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ClusterError, match=r"is not Ray\. .*8265 is that of its dashboard"):
            RayAddress(f"127.0.0.1:{server.getsockname()[1]}", "--address").check()
        thread.join()


@pytest.mark.ray
def test_ray_itself_answers(ray_session):
    import ray

    RayAddress(ray.get_runtime_context().gcs_address, "RAY_ADDRESS").check()


def test_the_command_line_ends_in_seconds(tmp_path):
    """The case of a shell that has the address of yesterday's allocation."""
    from finished_run import make_run
    from latents import blobs

    run = make_run(tmp_path / "run", blobs([(0, 0), (3, 3)], size=5)[0])
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "raydrgn", "volumes", run.files.root, "-o", "out", "-z", "0,0"],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - began < 60  # most of it imports; Ray would try for minutes
    assert done.returncode == 2
    words = " ".join(done.stderr.split())
    assert words.startswith("error: No Ray at 127.0.0.1:1 (Connection refused).")
    assert "comes from RAY_ADDRESS. Unset RAY_ADDRESS to run on this machine" in words


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", True),
        (socket.gethostname().upper(), True),
        (f"{socket.gethostname()}.example.org", False),
        ("198.51.100.7", False),  # an address of documentation
        ("2001:db8::7", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_hosts_that_are_this_machine(host, is_here):
    assert is_this_machine(host) is is_here
