"""How a job server is reached: proxies, and to whom the token is shown."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote import job_client
from raydrgn.remote.environment import TOKEN_VARIABLES
from raydrgn.remote.job_client import TOKEN_INVALID, TOKEN_MISSING, proxy_of
from raydrgn.remote.jobserver import ADDRESS_VARIABLES, JobServer

TOKEN = "made-up-token-0123456789abcdef0123456789abcdef"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
REFUSAL = b"<html>denied by policy</html>"


@pytest.fixture(autouse=True)
def _a_plain_environment(monkeypatch, tmp_path):
    for name in (*ADDRESS_VARIABLES, "RAY_AUTH_MODE", *TOKEN_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def serving(answer):
    """Serve HTTP on a port of this machine; yield its address and what it was sent."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Authorization")))
            status, body, *headers = answer(self)
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ray(handler):
    """Answer as a job server without a token does."""
    version = {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}
    return 200, json.dumps(version if handler.path == "/api/version" else []).encode()


def ray_with_token(handler):
    """Answer as a job server that wants a token does."""
    shown = handler.headers.get("Authorization")
    if not shown:
        return 401, f"Unauthorized: {TOKEN_MISSING}".encode()
    if shown != f"Bearer {TOKEN}":
        return 403, f"Forbidden: {TOKEN_INVALID}".encode()
    return ray(handler)


def refuse(_):
    return 403, REFUSAL


def elsewhere(monkeypatch):
    """Let 127.0.0.1 pass for the address of another machine."""
    monkeypatch.setattr(job_client, "is_this_machine", lambda host: False)


def tokens(seen):
    return [token for _, token in seen if token]


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_this_machine_is_never_reached_through_a_proxy(monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody is there
    with serving(ray) as (url, seen):
        assert JobServer(url).jobs() == []
    assert [path for path, _ in seen][-1] == "/api/jobs/"


def test_a_proxy_that_refuses_is_not_asked_and_sees_no_token(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with serving(refuse) as (proxy, seen_by_proxy), serving(ray_with_token) as (url, seen):
        monkeypatch.setenv("http_proxy", proxy)
        assert JobServer(url).jobs() == []
    assert seen_by_proxy == []
    assert seen[0] == ("/api/version", None)
    assert tokens(seen)[-1] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("token", ["", TOKEN])
def test_the_command_line_behind_a_proxy(tmp_path, token):
    with serving(refuse) as (proxy, seen_by_proxy), serving(ray_with_token) as (url, _):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "raydrgn", "jobs", "--address", url],
            env={**environment, "http_proxy": proxy, "RAY_AUTH_TOKEN": token},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert seen_by_proxy == []
    assert "Traceback" not in done.stderr
    if token:
        assert (done.returncode, done.stderr.strip()) == (0, f"no jobs at {url}")
    else:
        assert done.returncode == 2
        assert "wants a token" in " ".join(done.stderr.split())


def test_the_refusal_of_a_proxy_is_said_to_be_one(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with serving(refuse) as (proxy, seen):
        monkeypatch.setenv("http_proxy", proxy.replace("//", "//me:secret@"))
        with pytest.raises(ClusterError) as error:
            JobServer("http://head.example.org:8265")
    text = str(error.value)
    assert "refuses the request (HTTP 403), and not as a Ray job server does" in text
    assert f"go through the proxy {proxy}; if it can be reached without: " in text
    assert "export no_proxy=head.example.org" in text
    assert "secret" not in text
    assert tokens(seen) == []


def test_a_dead_proxy_is_named(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(ClusterError, match=r"through the proxy http://127\.0\.0\.1:9.*no_proxy="):
        JobServer("http://head.example.org:8265")


def test_the_token_does_not_go_through_a_proxy_that_could_read_it(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with serving(ray_with_token) as (proxy, seen):  # passes on what Ray answers
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(ClusterError, match=r"wants a token, which is not sent, .*no_proxy="):
            JobServer("http://head.example.org:8265")
    assert tokens(seen) == []


@pytest.mark.parametrize("body", [b"", b"Unauthorized", REFUSAL])
@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_that_is_not_rays_gets_no_token(monkeypatch, status, body):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with serving(lambda _: (status, body)) as (url, seen):
        with pytest.raises(ClusterError, match="not as a Ray job server does, so no token"):
            JobServer(url)
        assert tokens(seen) == []


def test_another_machine_gets_the_token_only_if_the_user_has_set_it_up(monkeypatch):
    elsewhere(monkeypatch)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with serving(ray_with_token) as (url, seen):
        with pytest.raises(ClusterError, match=r"Set RAY_AUTH_MODE=token.* No token has been sent"):
            JobServer(url)
        assert tokens(seen) == []
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        assert JobServer(url).jobs() == []


def test_a_server_that_wants_no_token_gets_none(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with serving(ray) as (url, seen):
        assert JobServer(url).jobs() == []
    assert tokens(seen) == []


def test_a_redirection_is_not_followed(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with serving(ray_with_token) as (other, seen):
        where = f"{other}/api/version"
        with (
            serving(lambda _: (302, b"", ("Location", where))) as (url, _),
            pytest.raises(ClusterError, match="redirects to"),
        ):
            JobServer(url)
    assert seen == []


def test_a_wrong_token_is_said_to_be_wrong(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with (
        serving(ray_with_token) as (url, _),
        pytest.raises(ClusterError, match="does not accept the token of RAY_AUTH_TOKEN"),
    ):
        JobServer(url)


def test_a_token_file_that_is_not_there(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/none/token")
    with (
        serving(ray_with_token) as (url, _),
        pytest.raises(ClusterError, match="RAY_AUTH_TOKEN_PATH is /none/token, which cannot be"),
    ):
        JobServer(url)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://head.example.org:8265", "http://proxy:3128"),
        ("http://inside.example.net:8265", ""),
        ("http://127.0.0.1:8265", ""),
        ("http://localhost:8265", ""),
        ("http://[::1]:8265", ""),
    ],
)
def test_which_addresses_have_a_proxy(monkeypatch, url, proxy):
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example.net")
    assert proxy_of(url) == proxy
