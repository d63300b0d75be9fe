"""What other commands have made of an epoch: in its run, and beside the run in its project."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.identity import SETTINGS, read_record
from raydrgn.run.latents_file import LatentSource
from raydrgn.run.project_steps import CURRENT, replaced_folders
from raydrgn.run.reader import RunReader
from raydrgn.settings import PROJECT

TABLES = ("landscape", "occupancy", "occupancy_pca")
"""Commands that write tables with a row for each particle."""

CLASSES, CLASS_LABELS, CLASS_TABLE = "classes", "labels.pkl", "classes.csv"
"""Folder of `occupancy classes` within that of `occupancy score`, and its files."""

OF_A_PART = "particles"
"""What `occupancy classes` records of a part of a table that was clustered by itself."""

PATH_LATENTS = "z_values.txt"
"""Of `traverse`: the latents of the points of a path."""

PATH_STEP = re.compile(r"path(\.\d+)?")
"""Name of the folder with the path of a project."""


class CommandResults:
    """Finds the results of commands on one epoch; of a file of latents, those beside it."""

    def __init__(self, source: LatentSource, epoch: int | None) -> None:
        self._source, self._epoch = source, epoch

    def tables(self) -> Iterator[tuple[str, Uri]]:
        """Yield the command and the file of each table, the one that holds last.

        Those in the run hold before those in the project, and of these those of its latest call.
        """
        beside = self._in_project()
        for command in TABLES:
            made = [uri for uri, record in beside if record.get("command") == command]
            for uri in (*made, self._source.results(command, self._epoch)):
                folder = ResultFolder(uri)
                names = storage.list_files(uri) if self._is_of_epoch(folder) else []
                yield from ((command, folder.at(n)) for n in names if n.endswith(".parquet"))

    def classes(self) -> ResultFolder | None:
        """Return the folder of the classes of occupancies that hold; None if there are none."""
        occupancy = self._source.results("occupancy", self._epoch)
        beside = [uri for uri, record in self._in_project() if not record.get(OF_A_PART)]
        for uri in (storage.join(occupancy, CLASSES), *reversed(beside)):
            folder = ResultFolder(uri)
            if folder.has(CLASS_LABELS) and folder.has(CLASS_TABLE) and self._is_of_epoch(folder):
                return folder
        return None

    def paths(self) -> dict[str, ResultFolder]:
        """Return the results of `traverse`, by the names of the paths.

        That of a project has the name of its step.
        """
        made: dict[str, Uri] = {}
        for parent in self._folders_in_project():
            if PATH_STEP.fullmatch(storage.name(parent)):
                children = storage.list_names(parent)
                made |= {storage.name(parent): storage.join(parent, name) for name in children}
        own = self._source.results("traverse", self._epoch)
        names = storage.list_names(own) if storage.exists(own) else []
        made |= {name: storage.join(own, name) for name in names}
        found = {name: ResultFolder(uri) for name, uri in made.items()}
        return {
            name: folder
            for name, folder in found.items()
            if folder.has(PATH_LATENTS) and self._is_of_epoch(folder)
        }

    def records(self) -> list[Uri]:
        """Return the files in which commands record what they have made, if they are there."""
        own = [self._source.results(command, self._epoch) for command in ("analyze", *TABLES)]
        own.append(storage.join(self._source.results("occupancy", self._epoch), CLASSES))
        beside = self._folders_in_project()
        files = [storage.join(folder, SETTINGS) for folder in (*own, *beside)]
        if beside:
            files.append(storage.join(storage.parent(self._source.root), CURRENT))
        return [file for file in files if storage.exists(file)]

    def _is_of_epoch(self, folder: ResultFolder) -> bool:
        return folder.is_made_from(self._source.identity(self._epoch))

    def _folders_in_project(self) -> list[Uri]:
        """Return the folders beside a run in its project."""
        if not isinstance(self._source, RunReader):
            return []
        root = storage.parent(self._source.root)
        if not storage.exists(storage.join(root, PROJECT)):
            return []
        return [storage.join(root, name) for name in storage.list_names(root)]

    def _in_project(self) -> list[tuple[Uri, dict[str, Any]]]:
        """Return the folders of results beside a run in its project, and what each records.

        Those of which the project has taken others since come first; else the last made is last.
        """
        folders = self._folders_in_project()
        replaced = replaced_folders(storage.parent(self._source.root)) if folders else set()
        files = [storage.join(folder, SETTINGS) for folder in folders]
        there = [file for file in files if storage.exists(file)]

        def holds(file: Uri) -> tuple[bool, datetime]:
            return storage.name(storage.parent(file)) not in replaced, storage.modified(file)

        there.sort(key=holds)
        return [(storage.parent(file), read_record(file)) for file in there]
