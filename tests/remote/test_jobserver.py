"""Addresses, exit codes and messages of the job server's client; nothing is started."""

import socket
import threading

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote import job_client, jobserver
from raydrgn.remote.jobserver import Job, JobServer, _Skip, server_url


@pytest.fixture(autouse=True)
def _no_cluster_in_the_environment(monkeypatch):
    for name in jobserver.ADDRESS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jobserver, "dashboards_here", lambda: 1)


def job(status, code=None):
    return Job("id", status, "raydrgn demo", "/", 0.0, 1.0, code, "")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (None, "http://127.0.0.1:8265"),
        ("auto", "http://127.0.0.1:8265"),
        ("head", "http://head:8265"),
        ("head:8300", "http://head:8300"),
        ("http://head:8300/", "http://head:8300"),
        ("https://ray.example.org", "https://ray.example.org"),
        ("[::1]", "http://[::1]:8265"),
        ("[::1]:8300", "http://[::1]:8300"),
    ],
)
def test_addresses(address, url):
    assert server_url(address) == url


def test_the_option_wins_over_the_variables(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://b:1")
    assert server_url(None) == "http://b:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://c:1")
    assert server_url(None) == "http://c:1"
    assert server_url("http://a:1") == "http://a:1"


@pytest.mark.parametrize("address", [None, "auto"])
def test_of_several_clusters_on_a_machine_one_must_be_named(monkeypatch, address):
    monkeypatch.setattr(jobserver, "dashboards_here", lambda: 2)
    with pytest.raises(ClusterError, match="2 Ray clusters with a dashboard run on this machine"):
        server_url(address)
    assert server_url("http://127.0.0.1:8290") == "http://127.0.0.1:8290"


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "s3://head", "http://", "http://[::1", "[::1"]
)
def test_other_kinds_of_address_are_explained(address):
    with pytest.raises(ClusterError, match=r"is not the address of a job server.*:8265"):
        server_url(address)


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        ("RUNNING", None, None),
        ("PENDING", None, None),
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", -9, 137),
        ("FAILED", None, 1),
        ("STOPPED", None, 130),
    ],
)
def test_the_exit_code_is_that_of_the_job(status, code, exit_code):
    assert job(status, code).exit_code == exit_code


def test_a_log_that_is_read_again_goes_on_where_it_was():
    shown = []
    write = _Skip(5, shown.append)
    for text in ("abc", "def", "ghi"):
        write(text)
    assert "".join(shown) == "fghi"
    assert write.seen == 9


def test_a_head_without_a_dashboard_agent_is_explained():
    server = JobServer.__new__(JobServer)
    server.url = "http://head:8265"
    text = "No available agent to submit job, please try again later.."
    with pytest.raises(ClusterError, match="--dashboard-agent-listen-port"), server._explained():
        raise RuntimeError(f"Request failed with status code 500: Traceback\n{text}")


def test_nobody_there_is_one_message(closed_port):
    with pytest.raises(
        ClusterError, match=rf"No Ray job server answers at http://127.0.0.1:{closed_port}"
    ):
        JobServer(f"127.0.0.1:{closed_port}")


def test_another_server_and_a_silent_one_are_recognised(monkeypatch):
    monkeypatch.setattr(job_client, "VERSION_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterError, match="No Ray job server answers"):  # says nothing
            JobServer(url)

        def answer():
            server.accept()[0].close()  # the one before
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        monkeypatch.undo()  # it has the time that it needs
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ClusterError, match="is no Ray job server"):
            JobServer(url)
        thread.join()


class Restarting(JobServer):
    """A server that refuses some times, after the first request, and then knows the job."""

    def __init__(self, refusals):
        self.refusals, self.requests = refusals, 0

    async def _tail(self, job_id, write):
        write("done\n")

    def job(self, job_id):
        self.requests += 1
        if 1 < self.requests <= self.refusals + 1:
            raise ClusterError("no job server answers")
        return job("SUCCEEDED", 0)


def test_a_job_is_followed_past_a_server_that_starts_anew(monkeypatch):
    monkeypatch.setattr(jobserver, "POLL_SECONDS", 0)
    written = []
    assert Restarting(3).follow("id", written.append).exit_code == 0
    assert written == ["done\n"]
    with pytest.raises(ClusterError, match="no job server answers"):
        Restarting(100).follow("id", written.append)
