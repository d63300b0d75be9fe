"""Object stores, such as S3 and Google Cloud Storage: their clients, and their failures in words.

What fails for a moment is tried again for a minute: a connection that is refused, silent or cut in
the middle of a file, a store that is busy or broken. Bytes are returned once all are there.
"""

import errno
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import fsspec

from raydrgn.errors import StorageError
from raydrgn.io.uri import Uri, is_local, local_path, protocol_of

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE_SECONDS = 60.0
"""Time from the first failure after which a request that keeps failing is not sent again."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0

CONNECT_SECONDS, ANSWER_SECONDS = 5, 20
"""Time that one request waits for a connection, and for each piece of the answer."""

RANGE_BYTES = 16 << 20
"""A longer read is made of ranges of this size, which are requested side by side and repeated one
by one."""

RANGES_AT_A_TIME = 8

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
"""Which extra of raydrgn brings the client of a protocol."""

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
"""Variables from which clients take credentials, by extra."""

TRANSIENT_ERRORS = {
    "aiohttp.client_exceptions.ClientError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.HTTPClientError",
    "botocore.parsers.ResponseParserError",
    "http.client.IncompleteRead",
    "requests.exceptions.RequestException",
    "urllib3.exceptions.HTTPError",
}
"""Classes of clients' errors that are of the connection, and not of what was asked."""

TRANSIENT_CODES = {errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO)}
"""What s3fs makes of 503 and 500."""

TRANSIENT_HTTP_CODES = {408, 429, 500, 502, 503, 504}

CREDENTIAL_ERRORS = ("Credential", "ProfileNotFound", "TokenRetrieval", "SSOError", "RefreshError")
"""Parts of the names of clients' errors before any request: there is nothing to sign it with."""


def has_folders(uri: Uri) -> bool:
    """Return whether there are folders, which must be made; object stores have names only."""
    return protocol_of(uri) not in EXTRAS


def filesystem(uri: Uri) -> tuple[Any, str]:
    """Return fsspec's file system of a URI, and the path on it.

    Raises:
        StorageError: If the client of the protocol is not installed.
    """
    protocol = protocol_of(uri)
    if is_local(uri):  # fsspec takes ``::`` in a name for a chain of file systems
        return fsspec.filesystem("file"), str(local_path(uri).absolute())
    try:
        fs, path = fsspec.core.url_to_fs(uri, **_client_options(protocol))
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(protocol or "")
        remedy = (
            f"Its client is not installed here: pip install 'raydrgn[{extra}]'."
            if extra
            else "Install the fsspec package of this protocol."
        )
        raise StorageError(f"{uri} cannot be opened: {error}. {remedy}") from error
    if EXTRAS.get(protocol or "") == "s3":
        fs.retries = 1  # what is repeated, and for how long, is decided here
    return fs, path


def _client_options(protocol: str | None) -> dict[str, Any]:
    """Return what clients are to do otherwise than by default; the user's fsspec settings win."""
    if protocol not in EXTRAS:
        return {}
    options: dict[str, Any] = {"use_listings_cache": False}  # which would hide new files
    if EXTRAS[protocol] == "s3":
        configured = fsspec.config.conf.get(protocol, {})
        request: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": ANSWER_SECONDS,
        }
        if "AWS_MAX_ATTEMPTS" not in os.environ:
            request["retries"] = {"mode": "standard", "total_max_attempts": 2}
        options["config_kwargs"] = {**request, **configured.get("config_kwargs", {})}
        region = os.environ.get("AWS_REGION")  # of Amazon's other programs
        if region and not os.environ.get("AWS_DEFAULT_REGION"):
            options["client_kwargs"] = {
                "region_name": region,
                **configured.get("client_kwargs", {}),
            }
    return options


def persistently(request: Callable[[], Result], uri: Uri) -> Result:
    """Return the result of a request, sent again while it fails for reasons that may pass."""
    end, pause = 0.0, FIRST_PAUSE_SECONDS
    while True:
        try:
            return request()
        except Exception as error:
            if not is_transient(error):
                raise
            if not end:  # however long the first request took, it is sent again
                end = time.monotonic() + PATIENCE_SECONDS
                log.warning("%s: %s; trying again for a minute", uri, _reason(error))
            if time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def is_transient(error: Exception) -> bool:
    """Return whether the same request may succeed in a while."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in TRANSIENT_CODES:
        return True
    if _http_code(error) in TRANSIENT_HTTP_CODES:
        return True
    classes = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(classes & TRANSIENT_ERRORS)


def _http_code(error: Exception) -> int:
    """Return the HTTP status that gcsfs puts into its errors; 0 if there is none."""
    code = str(getattr(error, "code", ""))
    return int(code) if code.isdecimal() else 0


def _is_refusal(error: Exception) -> bool:
    """Return whether a store does not accept the credentials, in the words of s3fs or gcsfs."""
    if isinstance(error, PermissionError) or _http_code(error) in (401, 403):
        return True
    return isinstance(error, OSError) and str(error).startswith("Forbidden")


def failure_message(uri: Uri, error: Exception, *, action: str) -> str | None:
    """Return a sentence with a remedy about a request that failed; None if the reason is another.

    Args:
        uri: What the request was about.
        error: What the client raised.
        action: Past participle of what was asked for, such as ``read``.
    """
    variables = CREDENTIALS.get(EXTRAS.get(protocol_of(uri) or "", ""))
    for_jobs = "for a job, send them with `raydrgn submit --env NAME`"
    if isinstance(error, FileNotFoundError):
        return _absence(uri)
    if variables and _is_refusal(error):
        return (
            f"{uri} may not be {action}: the store refuses the credentials, or they do not allow "
            f"it ({_reason(error)}). Check {variables}; {for_jobs}."
        )
    if variables and any(part in type(error).__name__ for part in CREDENTIAL_ERRORS):
        return (
            f"{uri} cannot be {action} without credentials ({_reason(error)}). Set {variables}; "
            f"{for_jobs}."
        )
    if is_transient(error):
        where = "the store" if EXTRAS.get(protocol_of(uri) or "") != "s3" else _endpoint(uri)
        return (
            f"{uri} cannot be {action}: {where} does not answer, or breaks the connection off "
            f"({_reason(error)}). What was finished before stays valid; check network and store "
            "and run the same command again."
        )
    return None


def _absence(uri: Uri) -> str:
    """Describe what is not there: a bucket that is missing is another matter than a file."""
    fs, path = filesystem(uri)
    bucket = path.lstrip("/").split("/")[0]
    if EXTRAS.get(protocol_of(uri) or "") == "s3" and not _bucket_exists(fs, bucket):
        return (
            f"{uri} does not exist: there is no bucket {bucket} at {_endpoint(uri)}. Check its "
            "name, and AWS_ENDPOINT_URL if the store is not Amazon's; buckets are not created."
        )
    return f"{uri} does not exist; check the path."


def _bucket_exists(fs: Any, bucket: str) -> bool:
    try:
        return bool(fs.exists(bucket))
    except Exception:  # then nothing is known of it
        return True


def _endpoint(uri: Uri) -> str:
    fs, _ = filesystem(uri)
    return str(fs.s3.meta.endpoint_url)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} …"


def read_range(uri: Uri, start: int, end: int | None) -> bytes:
    """Return a range of a file, whole or not at all; what lies beyond its end is left out."""
    fs, path = filesystem(uri)
    if end is None or end - start > RANGE_BYTES:
        size = int(persistently(lambda: fs.size(path), uri))
        end = size if end is None else min(end, size)
    ends = [(a, min(a + RANGE_BYTES, end)) for a in range(start, end, RANGE_BYTES)]
    if len(ends) <= 1:
        return b"".join(_one_range(fs, path, uri, *pair) for pair in ends)
    with ThreadPoolExecutor(RANGES_AT_A_TIME) as pool:
        return b"".join(pool.map(lambda pair: _one_range(fs, path, uri, *pair), ends))


def _one_range(fs: Any, path: str, uri: Uri, start: int, end: int) -> bytes:
    try:
        return bytes(persistently(lambda: fs.cat_file(path, start=start, end=end), uri))
    except Exception as error:  # stores refuse empty ranges, each client in its own way
        is_refused = getattr(error, "errno", None) == errno.EINVAL or _http_code(error) == 416
        if is_refused and start >= int(fs.size(path)):
            return b""
        raise


def upload(uri: Uri, file: str) -> None:
    """Store a local file, whole or not at all, and see that it is there with all of its bytes.

    Raises:
        StorageError: If the store has something else under the name afterwards.
    """
    fs, path = filesystem(uri)
    persistently(lambda: fs.put_file(file, path), uri)
    _check_stored(uri, fs, path, os.path.getsize(file))


def _check_stored(uri: Uri, fs: Any, path: str, expected: int) -> None:
    fs.invalidate_cache(path)
    found = int(persistently(lambda: fs.size(path), uri))
    if found != expected:
        raise StorageError(
            f"{uri} was written, but the store has {found} bytes of it and not {expected}. Check "
            "that nothing else writes there, and run the same command again."
        )


def create_exclusively(uri: Uri, content: bytes) -> bool:
    """Store a file under a name that is free; return False, and change nothing, if it is taken.

    Stores that know conditional requests decide which of several writers was first. What is stored
    is read back: a request may have succeeded although its answer was lost, and stores that ignore
    the condition leave the name to the last of several writers at the same moment.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache(path)
    if persistently(lambda: fs.exists(path), uri):
        return False
    try:
        persistently(lambda: fs.pipe_file(path, content, mode="create"), uri)
    except Exception as error:
        if not (isinstance(error, FileExistsError) or _is_unmet_condition(error)):
            raise
    return read_range(uri, 0, None) == content


def _is_unmet_condition(error: Exception) -> bool:
    """Return whether a store refused to replace, in the words of s3fs or gcsfs."""
    words = ("PreconditionFailed", "pre-condition")
    return _http_code(error) == 412 or any(word in str(error) for word in words)
