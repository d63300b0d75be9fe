"""What an export has written into its folder, so that nothing else is ever replaced there."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from raydrgn.errors import ConfigError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.run.identity import Identity
from raydrgn.run.reader import RunReader

NAME = "raydrgn_export.json"
REMEDY = "choose another folder, or an empty one"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRecord:
    """Which run an export is made from, and the files that it wrote."""

    run: Uri
    """Run directory, for people; the run is known by its weights."""

    epoch: int | None
    weights: str
    """SHA-256 of the weights of ``epoch``."""

    files: Mapping[str, str | None] = field(default_factory=dict)
    """Size and time of change of each file when it was written; None until all are."""

    @classmethod
    def begin(cls, folder: Uri, run: RunReader, names: Iterable[str]) -> "ExportRecord":
        """Check that a folder is free or has an export of the same run, and record what comes.

        Raises:
            ConfigError: If the folder is the run itself, or holds anything else.
        """
        earlier = _check(folder, run)
        epoch = run.files.epochs()[-1]
        identity = Identity.of(run.files, epoch)
        planned = dict.fromkeys(names)
        record = cls(
            run=identity.run, epoch=epoch, weights=identity.weights, files={**earlier, **planned}
        )
        storage.make_folder(folder)
        record._write(folder)
        return record

    def finish(self, folder: Uri) -> None:
        """Record the files as they are now."""
        present = set(storage.list_names(folder))
        stamps = {
            name: storage.stamp(storage.join(folder, name))
            for name in self.files
            if name in present
        }
        ExportRecord(run=self.run, epoch=self.epoch, weights=self.weights, files=stamps)._write(
            folder
        )

    def _write(self, folder: Uri) -> None:
        text = json.dumps(asdict(self), indent=1)
        storage.write_bytes(storage.join(folder, NAME), text.encode())

    @classmethod
    def _read(cls, folder: Uri) -> "ExportRecord":
        try:
            return cls(**json.loads(storage.read_bytes(storage.join(folder, NAME))))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"-o {folder} has a damaged {NAME}; {REMEDY}.") from error


def _check(folder: Uri, run: RunReader) -> Mapping[str, str | None]:
    """Return the files of an earlier export of the run; refuse a folder with anything else."""
    if not storage.exists(folder):
        return {}
    if not storage.is_folder(folder):
        raise ConfigError(f"-o {folder} is a file; name a folder.")
    if _real(folder) == _real(run.files.root):
        raise ConfigError(f"-o {folder} is the run itself; choose another folder.")
    names = storage.list_names(folder)
    if not names:
        return {}
    if NAME not in names:
        raise ConfigError(
            f"-o {folder} holds files that are not of an export, such as {names[0]}; {REMEDY}."
        )
    record = ExportRecord._read(folder)
    if Identity.of(run.files, record.epoch).weights != record.weights:
        raise ConfigError(f"-o {folder} holds an export of another run ({record.run}); {REMEDY}.")
    for name in names:
        if name != NAME and not _is_unchanged(name, folder, record, run):
            raise ConfigError(
                f"-o {folder} holds {name}, which the export did not write or which has changed "
                f"since; {REMEDY}."
            )
    return record.files


def _is_unchanged(name: str, folder: Uri, record: ExportRecord, run: RunReader) -> bool:
    """Return whether a file is one that the export wrote, or was about to write."""
    if name not in record.files:
        return False
    uri = storage.join(folder, name)
    if os.path.islink(storage.local_path(uri)):
        return _real(uri) == _real(storage.join(run.files.root, name))
    return record.files[name] in (None, storage.stamp(uri))


def _real(uri: Uri) -> Uri:
    """Return a path without symbolic links; a URL as it is."""
    return os.path.realpath(storage.local_path(uri)) if storage.is_local(uri) else uri
