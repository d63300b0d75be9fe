"""A server that keeps the notices which are posted to it."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def receiver():
    """Yield a server with its ``url``, what it has ``received``, and the ``status`` it answers."""
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.status, server.received = 200, []
        server.url = f"http://127.0.0.1:{server.server_port}/hooks/secret"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
