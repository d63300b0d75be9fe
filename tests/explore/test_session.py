"""Who the explorer answers: attacks of other users, other pages and large requests."""

import http.client
import json
import os
import socket
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from explorer_server import running_server
from finished_run import make_run
from raydrgn.explore import connections
from raydrgn.explore import session as limits
from raydrgn.workflows.explore import ExploreSettings, open_explorer

SECRET = "secret of another user"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "outside.txt").write_text(SECRET)
    z = np.random.default_rng(0).normal(size=(60, 2))
    make_run(folder / "run", z)
    results = folder / "run" / "analyze.1"
    results.mkdir()
    (results / "report.html").write_text("<p>a report</p>")
    (results / "numbers.txt").write_text("1 2 3")
    os.symlink(folder / "outside.txt", results / "linked.txt")
    os.symlink(folder, results / "up")
    return folder / "run"


@pytest.fixture(scope="module")
def server(root):
    with running_server(open_explorer(ExploreSettings(run=str(root)))) as found:
        yield found


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Let tests ask faster than a page does."""
    monkeypatch.setattr(limits, "REQUESTS_PER_SECOND", 1e6)


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_pages_do_not_get(server):
    status, headers, content = server.ask(f"/?token={server.session.token}", cookie=False)
    assert (status, headers["Location"]) == (303, "/")
    given = headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(given.split("; "))
    assert server.session.token not in given + content.decode()
    cookie = given.split(";")[0]
    assert server.ask("/", cookie=False, Cookie=cookie)[0] == 200


@pytest.mark.parametrize(
    "path", ["/", "/assets/page.js", "/api/facts", "/files/analyze.1/numbers.txt"]
)
def test_without_token_or_with_a_wrong_one_nothing_is_shown(server, path):
    for query in ("", "?token=", f"?token={server.session.token[:-1]}"):
        status, headers, content = server.ask(path + query, cookie=False)
        assert status == 403
        assert "Set-Cookie" not in headers
        assert b"opens with the address that `raydrgn explore` has printed" in content
    wrong = f"{server.session.cookie_name}={'a' * 43}"
    assert server.ask(path, cookie=False, Cookie=wrong)[0] == 403
    assert server.ask(path, cookie=False, Cookie='"; ,=\\')[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"]
)
def test_other_names_of_the_host_are_refused(server, host):
    """A page of evil.example, whose name leads to 127.0.0.1, is no page of ours."""
    status, _, content = server.ask("/api/facts", Host=host)
    assert status == 421
    assert b"does not answer to the name" in content


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:8787", "[::1]:8787"])
def test_any_port_of_a_tunnel_is_fine(server, host):
    assert server.ask("/api/facts", Host=host)[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", None, "http://127.0.0.1:1", "https://localhost"]
)
def test_a_post_of_another_page_is_refused(server, origin):
    status, _, content = server.ask("/api/select", {"conditions": []}, Origin=origin)
    assert status == 403
    assert b"does not come from the page" in content


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/", "/?token=wrong", "/api/facts", "/files/report.html"])
def test_a_link_on_another_page_opens_nothing_and_gets_no_cookie(server, path, site):
    """Of the same site is a page of another user's server on another port of the machine."""
    status, headers, content = server.ask(path, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")
    assert (status, headers["Set-Cookie"]) == (403, None)
    assert b"with its token" in content
    assert server.ask(path, Origin="http://localhost:1")[0] == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_with_the_token_opens_the_page_without_it(server, site):
    """By the answer's own reload: browsers send a strict cookie to no redirect of another page."""
    path = f"/?token={server.session.token}"
    status, headers, _ = server.ask(path, cookie=False, Sec_Fetch_Site=site)
    assert (status, headers["Refresh"]) == (200, "0; url=/")
    assert server.session.cookie in headers["Set-Cookie"]
    assert server.ask(path, cookie=False, Sec_Fetch_Site="none")[0] == 303
    assert server.ask(path, cookie=False, Origin="http://localhost:1")[0] == 403


def test_connections_that_send_nothing_do_not_keep_out_the_page(server):
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    try:
        for connection in idle:
            with suppress(OSError):  # it is closed already
                connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        time.sleep(connections.SHORTEST_SECONDS + 0.1)
        for _ in range(3):
            assert server.ask("/api/facts")[0] == 200
    finally:
        for connection in idle:
            connection.close()


def test_a_request_that_does_not_end_is_closed(server, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.5)
    cookie = f"{server.session.cookie_name}={server.session.cookie}"
    own = f"127.0.0.1:{server.port}"
    begun = (
        f"POST /api/select HTTP/1.1\r\nHost: {own}\r\nOrigin: http://{own}\r\nCookie: {cookie}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    for text, answered in (("GET / HT", b""), (begun, b"HTTP/1.1 408")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(text.encode())
            received = b""
            while block := connection.recv(1 << 16):
                received += block
            assert received[:12] == answered


def test_browsers_that_ask_for_an_icon_find_no_error(server):
    assert server.ask("/favicon.ico")[0] == 204


def test_a_form_of_another_page_is_refused_by_its_type(server):
    status, _, _ = server.ask("/api/select", b"conditions=1", Content_Type="text/plain")
    assert status == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(server, method):
    assert server.ask("/api/facts", method=method)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "analyze.1/../../outside.txt",
        "../outside.txt",
        "analyze.1/%2e%2e/%2e%2e/outside.txt",
        "analyze.1/..%2f..%2foutside.txt",
        "/etc/passwd.txt",
        "%2fetc%2fpasswd.txt",
        "analyze.1/linked.txt",
        "analyze.1/up/outside.txt",
        "analyze.1//numbers.txt",
        "analyze.1/numbers.txt%00",
        "analyze.1/..\\numbers.txt",
        "analyze.1",
        "analyze.1/none.txt",
        "config.yaml",
        "weights.1.pkl",
        "state/z.1.0.npy",
    ],
)
def test_files_outside_the_results_are_not_given_out(server, path):
    status, _, content = server.ask(f"/files/{path}")
    assert status == 404
    assert SECRET.encode() not in content
    assert b"error" in content


def test_results_are_given_out_and_reports_run_nothing(server):
    assert server.ask("/files/analyze.1/numbers.txt")[2] == b"1 2 3"
    _, headers, content = server.ask("/files/analyze.1/report.html")
    assert content == b"<p>a report</p>"
    assert headers["Content-Security-Policy"].split(";")[:2] == [
        "sandbox allow-same-origin allow-downloads", " default-src 'none'"
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["page.py", "../explorer.py", "..%2f__init__.py", "LICENSES.txt"])
def test_only_files_of_the_page_are_its_files(server, path):
    assert server.ask(f"/assets/{path}")[0] == 404


def test_every_answer_tells_the_browser_to_load_nothing_from_elsewhere(server):
    for path, cookie in (("/", True), ("/api/facts", True), ("/", False), ("/nothing", True)):
        _, headers, _ = server.ask(path, cookie=cookie)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "unsafe-eval" not in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_a_large_request_is_refused_before_it_is_read(server):
    """Rows of 10⁸ particles, announced or not."""
    status, _, content = server.ask("/api/select", b"[]", Content_Length=str(8 * 10**8))
    assert status == 413
    assert b"1,048,576 bytes" in content
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {
        "Host": f"127.0.0.1:{server.port}",
        "Cookie": f"{server.session.cookie_name}={server.session.cookie}",
        "Origin": f"http://127.0.0.1:{server.port}",
        "Content-Type": "application/json",
    }
    sent = 0

    def pieces():
        nonlocal sent
        for _ in range(1000):
            sent += 1 << 16
            yield b"1," * (1 << 15)

    try:
        connection.request("POST", "/api/select", pieces(), headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        assert sent < 1000 << 16  # the server has closed the connection
    finally:
        connection.close()
    assert server.ask("/api/facts")[0] == 200


def test_too_many_requests_are_refused_and_later_ones_are_not(server, monkeypatch):
    monkeypatch.setattr(limits, "REQUESTS_PER_SECOND", 0.0)
    statuses = [server.ask("/assets/page.css")[0] for _ in range(int(limits.BURST) + 20)]
    assert statuses[-1] == 429
    monkeypatch.setattr(limits, "REQUESTS_PER_SECOND", 1e6)
    assert server.ask("/api/facts")[0] == 200


def test_requests_without_the_cookie_do_not_keep_out_the_page(server, monkeypatch):
    monkeypatch.setattr(limits, "REQUESTS_PER_SECOND", 0.0)
    statuses = {server.ask("/api/facts", cookie=False)[0] for _ in range(int(limits.BURST) + 20)}
    assert statuses == {403, 429}
    assert server.ask("/api/facts")[0] == 200


def test_of_200_requests_for_volumes_the_last_is_answered_and_the_server_lives(server):
    """A page that asks again and again is answered once: what was overtaken is dropped."""
    statuses = {}

    def ask(number):
        order = {"epoch": 1, "page": "one", "number": number, "rows": [number % 60], "size": "full"}
        statuses[number] = server.ask("/api/volumes", order)[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(statuses) == 200
    assert set(statuses.values()) <= {200, 409, 503}
    assert list(statuses.values()).count(200) >= 1
    final = {"epoch": 1, "page": "one", "number": 1000, "rows": [3], "size": "full"}
    assert server.ask("/api/volumes", final)[0] == 200


def test_secrets_differ_and_are_not_printed(server):
    other = limits.Session.at("127.0.0.1", server.port)
    assert other.token != server.session.token
    assert other.cookie != server.session.cookie
    assert other.token not in repr(other)
    assert other.cookie not in repr(other)


def test_pickles_of_a_browser_are_no_request(server):
    import pickle

    status, _, content = server.ask("/api/select", pickle.dumps({"conditions": []}))
    assert status == 400
    assert json.loads(content)["error"] == "The request is not JSON."
