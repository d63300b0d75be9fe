"""Earlier results of a folder, kept aside until those that replace them are whole.

``--overwrite`` moves them into ``.earlier`` in the folder. They are deleted when the new ones are
finished, and moved back when the command ends before: what it has made until then is moved into
``.unfinished``, from where the same command goes on. After a command that was killed, the next one
on the folder does this. Each file has a suffix there, so that nobody takes it for a result.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.remote.process import ProcessIdentity
from raydrgn.run.identity import SETTINGS, read_record

EARLIER, UNFINISHED = ".earlier", ".unfinished"
PROCESS = "process.json"
"""File beside the earlier results that names the process which replaces them."""


class FilesAside:
    """Files of a folder that are kept in one below it.

    Args:
        folder: The folder of results.
        name: Of the folder in it.
    """

    def __init__(self, folder: Uri, name: str) -> None:
        self._folder, self._name = folder, name

    def at(self, name: str) -> Uri:
        """Return where a file of the folder is kept."""
        return storage.join(self._folder, self._name, name + self._name)

    def names(self) -> list[str]:
        """Return the files that are kept, by their names in the folder."""
        found = storage.list_files(storage.join(self._folder, self._name))
        return [n.removesuffix(self._name) for n in found if n.endswith(self._name)]

    def has_settings(self) -> bool:
        """Return whether the files are all that there were: their settings are moved last."""
        return storage.exists(self.at(SETTINGS))

    def take(self, names: Iterable[str]) -> None:
        """Move files of the folder here."""
        for name in _settings_last(names):
            _move(storage.join(self._folder, name), self.at(name))
        storage.remove_empty_folders(self._folder)

    def give_back(self) -> None:
        """Move the files back to where they were."""
        for name in _settings_last(self.names()):
            _move(self.at(name), storage.join(self._folder, name))
        self.delete()

    def delete(self) -> None:
        """Delete the files."""
        for name in _settings_last(self.names()):
            storage.remove(self.at(name))
        storage.remove(self.process)
        storage.remove_empty_folders(self._folder)

    @property
    def process(self) -> Uri:
        """File that names the process which has moved the files here."""
        return storage.join(self._folder, self._name, PROCESS)

    def sign(self) -> None:
        """Record that this process moves the files here; of several at once, one can.

        Raises:
            RunDirectoryError: If another process does so.
        """
        here = asdict(ProcessIdentity.of(os.getpid()))
        content = json.dumps(here, indent=1).encode()
        if not storage.create_exclusively(self.process, content):
            self.refuse_living()
            storage.write_bytes(self.process, content)

    def owner(self) -> ProcessIdentity | None:
        """Return the process that has moved the files here; None if none is recorded."""
        if not storage.exists(self.process):
            return None
        return ProcessIdentity(**read_record(self.process))

    def refuse_living(self) -> None:
        """Refuse to go on while another process is making new results.

        Raises:
            RunDirectoryError: Naming the process.
        """
        owner = self.owner()
        if owner is not None and owner.is_gone is False and owner.pid != os.getpid():
            raise RunDirectoryError(
                f"{self._folder}: process {owner.pid} on {owner.host} is replacing the results. "
                "Wait for its end, stop it, or choose another folder with --out."
            )


def _settings_last(names: Iterable[str]) -> list[str]:
    return sorted(set(names), key=lambda name: name == SETTINGS)


def _move(source: Uri, target: Uri) -> None:
    """Move a file, at once on a disk, and as a copy on an object store."""
    if not storage.is_local(source):
        storage.write_bytes(target, storage.read_bytes(source))
        storage.remove(source)
        return
    storage.make_folder(storage.parent(target))
    with storage.explained(source, action="moved"):
        os.replace(storage.local_path(source), storage.local_path(target))
