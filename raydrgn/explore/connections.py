"""Connections to the server: one that sends no whole request in time is closed."""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_SECONDS = 10
"""Time for the first bytes of a connection to become a request, and from an answer to the next."""

SHORTEST_SECONDS = 1
"""Time that a connection has however many there are."""


class Connection(H11Protocol):
    """A connection. Where there are too many, those that are idle are closed sooner."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._idle_since = 0.0

    @property
    def idle_seconds(self) -> float:
        """For how long there has been no request to answer."""
        return 0.0 if self._deadline is None else time.monotonic() - self._idle_since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._wait()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            for other in list(self.connections):
                if isinstance(other, Connection) and other.idle_seconds > SHORTEST_SECONDS:
                    other.end()

    def data_received(self, data: bytes) -> None:
        """Take what may be a part of a request."""
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request, if it has not come already."""
        super().on_response_complete()
        if not self._is_answering():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def end(self) -> None:
        """Close the connection, once what was answered is sent."""
        self._stop_waiting()
        self.transport.close()

    def _is_answering(self) -> bool:
        return not getattr(self.cycle, "response_complete", True)  # None before the first

    def _wait(self) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self._idle_since = time.monotonic()
            self._deadline = self.loop.call_later(IDLE_SECONDS, self.end)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
