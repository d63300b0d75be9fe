"""Notices of a command: a POST to a URL at its start, at its end, and at what matters between.

The body is JSON; its field ``text`` is a sentence, as Slack's and Mattermost's incoming webhooks
take it. A notice that cannot be delivered is a warning, and never the reason that a command fails.
"""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import SimpleQueue
from urllib.parse import urlsplit

from raydrgn.errors import ConfigError
from raydrgn.remote.address import host_of
from raydrgn.remote.metrics import JOB_ID
from raydrgn.remote.process import user_name

log = logging.getLogger(__name__)

POST_SECONDS = 5.0
"""Time-out of one notice; at its end a command waits twice as long for those under way."""


class Notices:
    """Sends notices about one command; does nothing without a URL.

    Raises:
        ConfigError: If the URL is not one of http.
    """

    def __init__(self, url: str | None, *, command: str, run: str = "") -> None:
        self._url = url
        self._facts = {"command": command, "run": run, "job": os.environ.get(JOB_ID, "")}
        self._subject = f"raydrgn {command}{f' {run}' if run else ''}"
        self._waiting: SimpleQueue[dict[str, str] | None] = SimpleQueue()
        self._sender = threading.Thread(target=self._post_all, daemon=True, name="raydrgn-notices")
        self._has_failed = False
        self._ending = ("end", "ended")
        if url is not None and not (url.startswith(("http://", "https://")) and host_of(url)):
            raise ConfigError(f"--notify takes a URL such as https://HOST/PATH, got {url!r}.")
        if url is not None:
            self._sender.start()

    def send(self, event: str, text: str) -> None:
        """Send a notice, without waiting for it.

        Args:
            event: ``start``, ``end``, ``stop``, ``failure``, ``restart`` or ``convergence``.
            text: What has happened, to be read after the name of the command.
        """
        if self._url is None:
            return
        content = {
            "text": f"{self._subject}: {text}",
            "event": event,
            **self._facts,
            "user": user_name(),
            "host": socket.gethostname(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._waiting.put(content)

    def ended(self, text: str) -> None:
        """Send at the end what has been reached."""
        self._ending = ("end", text)

    def stopped(self, text: str) -> None:
        """Send at the end that the command was stopped."""
        self._ending = ("stop", text)

    def send_ending(self) -> None:
        """Send the notice of an end without an error."""
        self.send(*self._ending)

    def close(self) -> None:
        """Wait for notices under way, for seconds at most; the last call."""
        self._waiting.put(None)
        if self._sender.is_alive():
            self._sender.join(2 * POST_SECONDS)

    def _post_all(self) -> None:
        """Send notices one after the other, so that they arrive in their order."""
        while (content := self._waiting.get()) is not None:
            self._post(content)

    def _post(self, content: dict[str, str]) -> None:
        import requests

        parts = urlsplit(self._url or "")
        try:
            answer = requests.post(
                self._url or "", json=content, timeout=POST_SECONDS, allow_redirects=False
            )
            problem = "" if answer.ok else f"HTTP {answer.status_code}"
        except requests.RequestException as error:
            problem = type(error).__name__
        if problem and not self._has_failed:
            self._has_failed = True
            # The path of a webhook is its password.
            log.warning("no notice could be sent to %s (%s)", parts.hostname, problem)


@contextmanager
def notices(url: str | None, *, command: str, run: str = "") -> Iterator[Notices]:
    """Send a notice at the start of a block, and of how it ends."""
    sender = Notices(url, command=command, run=run)
    sender.send("start", "started")
    try:
        yield sender
    except KeyboardInterrupt:
        sender.send("stop", "stopped")
        raise
    except BaseException as error:
        sender.send("failure", f"failed: {str(error).strip() or type(error).__name__}")
        raise
    else:
        sender.send_ending()
    finally:
        sender.close()
