"""The explorer's server in a thread, and requests as another program sends them."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from typer.testing import CliRunner

from latents import finished_run
from raydrgn.cli.main import app
from raydrgn.io import cryodrgn

KSAMPLE = 4


def analysed_run(folder):
    """Return a run of 203 particles with images, analysed; its UMAP is the plane of z."""
    root = finished_run(folder)
    words = ["--ksample", str(KSAMPLE), "--skip-umap", "--skip-volumes"]
    assert CliRunner().invoke(app, ["analyze", str(root), *words]).exit_code == 0
    z, _ = cryodrgn.read_latents(str(root / "z.2.pkl"))
    cryodrgn.write_pickles(str(root / "analyze.2" / "umap.pkl"), z)
    return root


@dataclass
class Server:
    """A server that runs."""

    session: object
    port: int
    address: str

    def ask(self, path, body=None, *, cookie=True, method=None, **headers):
        """Return status, headers and content of the answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {"Host": f"127.0.0.1:{self.port}"}
        if cookie:
            given["Cookie"] = f"{self.session.cookie_name}={self.session.cookie}"
        content = None
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            given["Content-Type"] = "application/json"
            given["Origin"] = f"http://127.0.0.1:{self.port}"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        verb = method or ("GET" if body is None else "POST")
        connection.request(verb, path, content, {k: v for k, v in given.items() if v is not None})
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found

    def json(self, path, body=None):
        """Return an answer that should be good."""
        status, _, content = self.ask(path, body)
        assert status == 200, content
        return json.loads(content)

    def arrays(self, path, body=None):
        """Return values and arrays of an answer that should be good."""
        status, _, content = self.ask(path, body)
        assert status == 200, content
        return unpacked(content)

    def refusal(self, path, body=None):
        """Return the status of an answer that should be a refusal, and its words."""
        status, _, content = self.ask(path, body)
        assert status >= 400
        return status, json.loads(content)["error"]


def unpacked(content):
    """Read what ``raydrgn.explore.packing`` has written, from its description."""
    length = int.from_bytes(content[:4], "little")
    values = json.loads(content[4 : 4 + length])
    start = 4 + length
    assert start % 8 == 0
    for name, entry in values.pop("arrays").items():
        count = int(np.prod(entry["shape"]))
        kind = np.dtype(entry["type"]).newbyteorder("<")
        found = np.frombuffer(content, kind, count, start + entry["offset"])
        values[name] = found.reshape(entry["shape"])
    return values


@contextmanager
def running_server(explorer, host="127.0.0.1"):
    """Serve a run for the length of a block."""
    pytest.importorskip("uvicorn", reason="the explorer is not installed: raydrgn[explore]")
    from raydrgn.explore.server import address, bind, make_server
    from raydrgn.explore.session import Session

    found = bind(host, 18787)
    session = Session.at(host, found.getsockname()[1])
    server = make_server(explorer, session)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [found]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield Server(session, session.port, address(session, host))
    finally:
        server.should_exit = True
        thread.join(150)  # commands have two minutes for a checkpoint
        assert not thread.is_alive()
        found.close()
