"""The server: a free port, and serving until it is stopped."""

import errno
import logging
import socket
from collections.abc import Callable

import uvicorn

from raydrgn.errors import ConfigError
from raydrgn.explore.application import create_application
from raydrgn.explore.connections import IDLE_SECONDS, Connection
from raydrgn.explore.explored import Explored
from raydrgn.explore.session import EVERYWHERE, LOOPBACK, Session

log = logging.getLogger(__name__)

PORTS_TRIED = 20
MOST_CONNECTIONS = 64


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at a port, or at the next one that is free.

    Raises:
        ConfigError: If the address is not one of this machine, or no port is free.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise ConfigError(f"--host {host} is not known: {error.strerror or error}.") from error
    for number in range(port, min(port + PORTS_TRIED, 65536)):
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, number))
            found.listen(MOST_CONNECTIONS)
        except OSError as error:
            found.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ConfigError(
                    f"--host {host}: {error.strerror}. Give an address of this machine."
                ) from error
            continue
        if number != port:
            log.info("port %d is taken, or not allowed: %d is used", port, number)
        return found
    raise ConfigError(f"No port from {port} to {port + PORTS_TRIED - 1} is free; choose --port.")


def address(session: Session, host: str) -> str:
    """Return the address that opens the page."""
    name = "127.0.0.1" if host in (*LOOPBACK, *EVERYWHERE) else host
    return f"http://{f'[{name}]' if ':' in name else name}:{session.port}/?token={session.token}"


def make_server(explored: Explored, session: Session) -> uvicorn.Server:
    """Return a server of the page, which a call of its ``run`` starts."""
    config = uvicorn.Config(
        create_application(explored, session),
        http=Connection,
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="on",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


def serve(
    explored: Explored, found: socket.socket, host: str, *, ready: Callable[[str], None]
) -> None:
    """Serve a run until the process is interrupted.

    Args:
        explored: The run or project.
        found: Where to listen.
        host: What the user called that address.
        ready: Called with the address of the page when it can be opened.
    """
    session = Session.at(host, found.getsockname()[1])
    server = make_server(explored, session)
    try:
        ready(address(session, host))
        server.run(sockets=[found])
    except KeyboardInterrupt:
        log.info("stopped")
