"""Who may ask the server, and how much.

Other users of a node can reach its loopback address, and any page that a browser shows can send
requests there. So the server answers only requests that name this machine as their host and carry
a cookie, which is given in exchange for the token in the address that the command has printed. But
for a link with that token none may come from a page of another site or port, as far as browsers
tell; a POST must come from the page itself. What fails is answered with the reason.
"""

import asyncio
import hmac
import html
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
"""Addresses that stand for all of a machine."""

MOST_BODY_BYTES = 1 << 20
BODY_SECONDS = 60.0
REQUESTS_PER_SECOND, BURST = 60.0, 300.0

POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Session:
    """The secrets of one server, and the names under which it may be asked."""

    port: int
    hosts: frozenset[str]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @classmethod
    def at(cls, host: str, port: int) -> "Session":
        """Return a new session of a server at an address."""
        names = {*LOOPBACK, host.lower()}
        if host in EVERYWHERE:
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(port=port, hosts=frozenset(names - {""}))

    @property
    def cookie_name(self) -> str:
        """Name of the cookie: servers on other ports of the machine have others."""
        return f"raydrgn_{self.port}"

    def has_cookie(self, header: str) -> bool:
        """Return whether the cookies of a request have this session's."""
        try:
            found = SimpleCookie(header).get(self.cookie_name)
        except CookieError:
            return False
        return found is not None and _same(found.value, self.cookie)

    def set_cookie(self) -> str:
        """Return the header that gives the cookie."""
        return f"{self.cookie_name}={self.cookie}; HttpOnly; SameSite=Strict; Path=/"


class Guard:
    """Passes on to the application the requests that a session allows."""

    def __init__(self, application: Application, session: Session) -> None:
        self._application, self._session = application, session
        self._own, self._others = _Rate(), _Rate()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        is_own = self._session.has_cookie(headers.get("cookie", ""))
        refusal = self._refusal(scope, headers, self._own if is_own else self._others)
        if refusal is None and _has_token(scope):
            refusal = self._exchange(scope, headers)
        elif refusal is None and not is_own:
            refusal = _Answer(HTTPStatus.FORBIDDEN, NO_COOKIE)
        if refusal is None and scope["method"] == "POST":
            body, refusal = await _read(receive, headers)
            receive = _again(body)
        if refusal is not None:
            await refusal.send(send)
        else:
            await self._application(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[str, str], rate: "_Rate") -> "_Answer | None":
        """Return the answer to a request that is refused whoever sends it."""
        if not rate.allows_another():
            return _Answer(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests; wait a moment.")
        host = headers.get("host", "")
        if _hostname(host) not in self._session.hosts:
            return _Answer(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"This server does not answer to the name {host!r:.80}. Use the address that "
                "`raydrgn explore` has printed, or start it with --host and that name.",
            )
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and POST are answered.")
        is_link = scope["method"] == "GET" and "origin" not in headers and _has_token(scope)
        if not is_link and not _is_from_page(scope["method"], headers, host):
            return _Answer(HTTPStatus.FORBIDDEN, OTHER_PAGE)
        return None

    def _exchange(self, scope: Scope, headers: dict[str, str]) -> "_Answer":
        """Return the answer to a token: a cookie, and the page without the token."""
        if not _same(_query(scope)["token"][0], self._session.token):
            return _Answer(HTTPStatus.FORBIDDEN, NO_COOKIE)
        given = {"Set-Cookie": self._session.set_cookie()}
        if _is_from_page("GET", headers, ""):
            return _Answer(HTTPStatus.SEE_OTHER, "", given | {"Location": "/"})
        # A link on another page: where that redirects to, browsers send no strict cookie.
        return _Answer(HTTPStatus.OK, "The explorer opens.", given | {"Refresh": "0; url=/"})


class _Rate:
    """Counts requests: those with the cookie and those without have one each."""

    def __init__(self) -> None:
        self._left, self._last = BURST, time.monotonic()

    def allows_another(self) -> bool:
        """Count a request, and return whether it may be answered."""
        now = time.monotonic()
        grown = self._left + REQUESTS_PER_SECOND * (now - self._last)
        self._left, self._last = min(BURST, grown), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


NO_COOKIE = (
    "This page opens with the address that `raydrgn explore` has printed, with its token. Copy all "
    "of it into this browser; a server that was started again has a new one."
)

OTHER_PAGE = (
    "This request does not come from the page itself. Open the address that `raydrgn explore` has "
    "printed, with its token."
)


@dataclass(frozen=True)
class _Answer:
    """An answer without the application."""

    status: HTTPStatus
    text: str
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        page = (
            "<!doctype html><html lang=en><meta charset=utf-8><link rel=icon href=data:,>"
            "<title>raydrgn explore</title>"
            f"<p>{html.escape(self.text)}</p>"
        ).encode()
        headers = {**HEADERS, **self.headers, "Content-Type": "text/html; charset=utf-8"}
        headers["Content-Length"] = str(len(page))
        await send(
            {
                "type": "http.response.start",
                "status": int(self.status),
                "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": page})


async def _read(receive: Receive, headers: dict[str, str]) -> "tuple[bytes, _Answer | None]":
    """Return the body of a request, or why it is refused; no more than the limit is kept."""
    if headers.get("content-type", "").split(";")[0] != "application/json":
        return b"", _Answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Requests are sent as JSON.")
    too_large = _Answer(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request has at most {MOST_BODY_BYTES:,} bytes."
    )
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > MOST_BODY_BYTES:
        return b"", too_large
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > MOST_BODY_BYTES:
                    return b"", too_large
                if not message.get("more_body"):
                    return body, None
    except TimeoutError:
        return b"", _Answer(HTTPStatus.REQUEST_TIMEOUT, "The request was sent too slowly.")


def _again(body: bytes) -> Receive:
    """Return what gives a body that has been read."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    return receive


def _with_headers(send: Send) -> Send:
    """Return a function that sends with the headers of every answer; an answer's own count."""

    async def send_all(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message["headers"]}
            added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            kept = [*message["headers"], *(entry for entry in added if entry[0] not in own)]
            message = {**message, "headers": kept}
        await send(message)

    return send_all


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"))


def _has_token(scope: Scope) -> bool:
    return scope["path"] == "/" and "token" in _query(scope)


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_from_page(method: str, headers: dict[str, str], host: str) -> bool:
    """Return whether a request is the page's own, or of an address that a person has opened."""
    origin = headers.get("origin")
    is_own = origin in (f"http://{host}", f"https://{host}")
    if method == "POST" or origin is not None:
        return is_own
    # Browsers send this where the address is of the same machine, or encrypted.
    return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())
