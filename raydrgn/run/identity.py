"""What identifies an epoch of a run, whatever its directory is called and wherever it lies.

Every result folder records the identity of what it was made from, so that results of one epoch or
run are never taken for those of another: not after a directory was renamed or copied over, not
after a run went on or was trained again under its old name.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.run.directory import RunDirectory

SETTINGS = "settings.json"
"""File of every result folder that records its settings, and ``MADE_FROM``."""

MADE_FROM = "made_from"
"""Key of the identity in that file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """An epoch of a run by the content of its files."""

    run: Uri
    """Run directory when the results were made; for people, since runs are moved."""

    epoch: int | None
    weights: str
    """SHA-256 of the weights file."""

    latents: str
    """SHA-256 of the latents file."""

    @classmethod
    def of(cls, files: RunDirectory, epoch: int | None) -> "Identity":
        """Read the identity of an epoch; a file that is not there has an empty checksum."""
        return cls(
            run=files.root,
            epoch=epoch,
            weights=_file_checksum(files.weights(epoch)),
            latents=_file_checksum(files.latents(epoch)),
        )

    @classmethod
    def of_latents(cls, uri: Uri) -> "Identity":
        """Read the identity of a file of latents, which belongs to no epoch and no weights."""
        return cls(run=uri, epoch=None, weights="", latents=_file_checksum(uri))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def difference(self, found: Mapping[str, Any]) -> str | None:
        """Return in words how recorded results differ in origin, or None if they do not.

        An epoch whose weights were deleted since is known by its latents.
        """
        if found.get("epoch") != self.epoch:
            return f"epoch {found.get('epoch')}, not {self.epoch}"
        for name in ("weights", "latents"):
            is_deleted = name == "weights" and not self.weights and self.epoch is not None
            if found.get(name) != getattr(self, name) and not is_deleted:
                return f"other {name} (of {found.get('run')}, epoch {found.get('epoch')})"
        return None


def read_record(uri: Uri) -> dict[str, Any]:
    """Return what results record of themselves in a JSON file, such as ``settings.json``.

    Raises:
        RunDirectoryError: If the file is damaged.
    """
    try:
        found = json.loads(storage.read_bytes(uri))
        if not isinstance(found, dict):
            raise ValueError("no names and values")
    except ValueError as error:
        raise RunDirectoryError(
            f"{uri} is damaged ({error}), so that it is not known what the results beside it were "
            "made from. Delete their folder or move it away, and make them again."
        ) from error
    return found


def _file_checksum(uri: Uri) -> str:
    if not storage.exists(uri):
        return ""
    return _checksum_of_version(uri, storage.stamp(uri))


@lru_cache(maxsize=64)
def _checksum_of_version(uri: Uri, stamp: str) -> str:
    return storage.checksum(storage.read_bytes(uri))
