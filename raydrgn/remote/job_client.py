"""Requests to a job server: directly where that is possible, with the token only for its cluster.

Three rules hold for every request:

- Requests to this machine never go through a proxy.
- The token of a cluster is sent only after Ray itself has asked for it, in its own words, and only
  to this machine, or to an address for which the user has set ``RAY_AUTH_MODE=token``.
- The token is never sent through a proxy that could read it.
"""

import logging
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raydrgn.errors import ClusterError
from raydrgn.remote.address import is_this_machine
from raydrgn.remote.environment import TOKEN_VARIABLES, environment_variable

CONNECT_SECONDS, VERSION_SECONDS, ANSWER_SECONDS = 5.0, 10.0, 90.0
"""Time-outs: to connect, to give the version, to answer any request."""

TOKEN_MISSING, TOKEN_INVALID = "Missing authentication token", "Invalid authentication token"
"""What Ray answers with 401 to a request without a token, and with 403 to a wrong one."""

NO_PROXY: dict[str, Any] = {"http": None, "https": None, "all": None}
"""Proxies of a request that goes directly, whatever the environment names."""


def connect(url: str) -> Any:
    """Return Ray's client of a job server, with the token if Ray asks for it.

    Raises:
        ClusterError: If what answers is not Ray's job server, or there is no token for it.
        requests.RequestException: If nothing answers.
    """
    import requests

    answer = requests.get(
        f"{url}/api/version",
        timeout=(CONNECT_SECONDS, VERSION_SECONDS),
        proxies=_proxies(url),
        allow_redirects=False,
    )
    token = ""
    if answer.status_code == 401 and TOKEN_MISSING in answer.text:
        token = _token_for(url)
    elif not answer.ok or answer.is_redirect or "ray_version" not in answer.text:
        raise ClusterError(_not_ray(url, answer))
    # Ray's client prefers the variable to its argument.
    with environment_variable("RAY_API_SERVER_ADDRESS", url):
        return _client_class(url, token)(url, headers={"Authorization": f"Bearer {token}"})


def proxy_of(url: str) -> str:
    """Return the proxy that requests to an address go through, without its password, or ''."""
    from requests.utils import get_environ_proxies, select_proxy

    if is_this_machine(urlsplit(url).hostname or ""):
        return ""
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return ""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def proxy_hint(url: str) -> str:
    """Return what to do about the proxy of an address, as a sentence, or ''."""
    proxy = proxy_of(url)
    if not proxy:
        return ""
    host = urlsplit(url).hostname
    return (
        f" Requests to {host} go through the proxy {proxy}; if it can be reached without: "
        f"export no_proxy={host}"
    )


def token_message(url: str, answer: str) -> str:
    """Return what to do about a refused request, given Ray's answer."""
    if TOKEN_INVALID in answer:
        source = next((name for name in TOKEN_VARIABLES if os.environ.get(name)), "")
        return (
            f"The cluster at {url} does not accept the token of {source or '~/.ray/auth_token'}. "
            "Set RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the token with which its head was "
            "started."
        )
    if TOKEN_MISSING in answer:
        return (
            f"The cluster at {url} wants a token. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH "
            "(or RAY_AUTH_TOKEN) to the token with which its head was started."
        )
    return (
        f"What answers at {url} refuses the request, and not as a Ray job server does."
        f"{proxy_hint(url)}"
    )


def _token_for(url: str) -> str:
    """Return the token for a cluster that has asked for one.

    Raises:
        ClusterError: If there is none, or it must not be sent there; with what to do.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "").strip().lower()
    is_here = is_this_machine(urlsplit(url).hostname or "")
    proxy = proxy_of(url)
    if proxy and not url.startswith("https://"):
        raise ClusterError(
            f"The cluster at {url} wants a token, which is not sent, since a proxy could read it."
            f"{proxy_hint(url)}"
        )
    if mode == "disabled" or (not mode and not is_here):
        reason = (
            "RAY_AUTH_MODE is disabled"
            if mode
            else "RAY_AUTH_MODE is not set, and the address is not of this machine"
        )
        raise ClusterError(f"{token_message(url, TOKEN_MISSING)} No token has been sent: {reason}.")
    token = _read_token(url)
    if not token:
        raise ClusterError(token_message(url, TOKEN_MISSING))
    return token


def _read_token(url: str) -> str:
    """Return the token from where Ray looks for it, or an empty string if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    try:
        token = Path(named or Path.home() / ".ray" / "auth_token").read_text().strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if named and not token:
        raise ClusterError(
            f"RAY_AUTH_TOKEN_PATH is {named}, which cannot be read or is empty. It should be a "
            f"file with the token of the cluster at {url}."
        )
    return token


def _proxies(url: str) -> dict[str, Any]:
    return dict(NO_PROXY) if is_this_machine(urlsplit(url).hostname or "") else {}


def _not_ray(url: str, answer: Any) -> str:
    if answer.is_redirect:
        where = answer.headers["Location"]
        return f"{url} redirects to {where}. If that is the job server, give its address."
    if answer.status_code in (401, 403):
        return (
            f"What answers at {url} refuses the request (HTTP {answer.status_code}), and not as a "
            f"Ray job server does, so no token was sent.{proxy_hint(url)}"
        )
    return (
        f"What answers at {url} is no Ray job server (HTTP {answer.status_code}).{proxy_hint(url)}"
    )


def _client_class(url: str, token: str) -> Any:
    """Return Ray's client, made to follow the rules above, with time-outs."""
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Client(JobSubmissionClient):  # type: ignore[misc]
        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            # In place of what Ray's client has found by itself.
            self._headers = {"Authorization": f"Bearer {token}"} if token else {}
            options.setdefault("timeout", (CONNECT_SECONDS, ANSWER_SECONDS))
            options |= {"proxies": _proxies(url), "allow_redirects": False}
            return super()._do_request(method, endpoint, **options)

    return Client
