"""What can go wrong because of an input, a configuration or a cluster.

Every mistake that a user can correct derives from ``RaydrgnError``; the command line prints these
as one message without a traceback and exits with code 2, or 1 for ``LostWorkersError`` and
``StorageFailureError``, after which ``submit --retries`` starts a job again. Anything else is a
defect of raydrgn and keeps its traceback.
"""


class RaydrgnError(Exception):
    """Base of the errors that a user can correct."""


class InputError(RaydrgnError, ValueError):
    """A file or a table does not contain what its format promises."""


class ConfigError(RaydrgnError, ValueError):
    """A configuration value is missing, unknown or out of range."""


class RunDirectoryError(RaydrgnError):
    """A run directory lacks an output that a later step needs, or holds another run."""


class ClusterError(RaydrgnError):
    """Ray cannot be reached, or cannot give the resources needed."""


class LostWorkersError(ClusterError):
    """Workers or nodes were lost too often; nobody's mistake, so another try may succeed."""


class StorageError(RaydrgnError):
    """A path cannot be read or written: missing, forbidden, unreachable or full."""


class StorageFailureError(StorageError):
    """A disk, a file server or an object store fails; nobody's mistake, and it may pass."""


def reworded(error: RaydrgnError, text: str) -> RaydrgnError:
    """Return an error of the same kind, of those of this module, with another text."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == __name__)
    found = kind(text)
    assert isinstance(found, RaydrgnError)
    return found
