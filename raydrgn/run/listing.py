"""Runs below a folder: what each was trained on, how far it is, and which run it came from."""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow.parquet as pq

from raydrgn.errors import RaydrgnError, StorageError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.io.uri import protocol_of
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory, is_run
from raydrgn.run.metrics import read_losses
from raydrgn.run.reader import open_run
from raydrgn.run.status import find_run

log = logging.getLogger(__name__)

MAX_DEPTH = 6
"""Folders below the one given in which runs are looked for."""

WEIGHTS = re.compile(r"weights(\.\d+)?\.pkl")


class Origin(NamedTuple):
    """A run that another one came from."""

    run: Uri
    how: str
    """``weights of epoch N``, or ``selection`` and the name of its file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """One run, from its own files."""

    root: Uri
    program: str
    """raydrgn or cryoDRGN."""

    particles: Uri = ""
    """Particle file that it was trained on."""

    num_particles: int | None = None
    box: int | None = None
    zdim: int | None = None
    epochs_done: int = 0
    epochs: int | None = None
    """Epochs that it is to have; None if that is not known."""

    has_last_alone: bool = False
    """Whether only cryoDRGN's last weights and latents are left, which have no number."""

    loss: float | None = None
    """Total loss of the last finished epoch."""

    origins: list[Origin] = field(default_factory=list)
    problem: str = ""
    """Why the run cannot be read."""

    @property
    def epochs_shown(self) -> str:
        """How many epochs are done, and of how many if that is known."""
        if self.has_last_alone:
            return "last only"
        return f"{self.epochs_done}/{self.epochs}" if self.epochs else str(self.epochs_done)


def find_runs(folder: Uri) -> Iterator[Uri]:
    """Yield the run directories at or below a folder, in the order of their names.

    Nothing inside a run is looked at. Of links to folders only those are followed that lead to a
    run outside of the folder.
    """
    top = storage.absolute(folder)
    yield from _find_runs(top, MAX_DEPTH, top=top)


def summarise(root: Uri) -> RunSummary:
    """Describe a run; what is wrong with it is part of the description."""
    try:
        return _own(root) or _foreign(root)
    except RaydrgnError as error:
        return RunSummary(root=root, program="", problem=str(error))


def _find_runs(folder: Uri, depth: int, *, top: Uri) -> Iterator[Uri]:
    fs, path = storage.filesystem(folder)
    is_there = storage.is_folder(folder)
    with storage.explained(folder, action="read"):
        entries = fs.ls(path, detail=True) if is_there else []
    named = {PurePosixPath(entry["name"].rstrip("/")).name: entry for entry in entries}
    if _is_run(set(named)):
        yield folder
        return
    if depth:
        for name, entry in sorted(named.items()):
            place = storage.join(folder, name)
            try:
                if entry.get("islink"):
                    if _leads_to_other_run(place, top):
                        yield place
                elif entry["type"] == "directory":
                    yield from _find_runs(place, depth - 1, top=top)
            except StorageError as error:
                log.warning("%s is skipped: %s", place, error)


def _leads_to_other_run(link: Uri, top: Uri) -> bool:
    """Return whether a local link leads to a run that is not below ``top`` by its own name."""
    target = os.path.realpath(link)
    is_inside = PurePosixPath(target).is_relative_to(os.path.realpath(storage.local_path(top)))
    return not is_inside and _is_run(set(storage.list_names(target)))


def _is_run(names: set[str]) -> bool:
    has_config = is_run(names)
    return has_config and ("manifest.json" in names or any(map(WEIGHTS.fullmatch, names)))


def _own(root: Uri) -> RunSummary | None:
    if not storage.exists(RunDirectory(root).manifest):
        return None
    status = find_run(root)
    if status is None:
        return None
    config, files = status.config, RunDirectory(root)
    losses = read_losses(files)
    return RunSummary(
        root=root,
        program="raydrgn",
        particles=config.source.particles,
        num_particles=_num_rows(files.particles),
        box=config.data.box,
        zdim=config.zdim,
        epochs_done=status.epochs_done,
        epochs=config.train.epochs,
        loss=losses[-1]["total"] if losses else None,
        origins=_origins(config, root),
    )


def _foreign(root: Uri) -> RunSummary:
    run = open_run(root)
    losses, epochs = run.losses(), run.files.epochs()
    ind = [run.ind] if run.ind else []
    return RunSummary(
        root=root,
        program="cryoDRGN",
        particles=run.source.particles if run.source else "",
        box=run.box,
        zdim=run.zdim,
        epochs_done=len(epochs),
        has_last_alone=not epochs and run.is_finished(),
        loss=losses[-1]["total"] if losses else None,
        origins=[Origin(found, _selection(uri)) for uri in ind if (found := _run_around(uri))],
    )


def _num_rows(particles: Uri) -> int | None:
    if not storage.exists(particles):
        return None
    fs, path = storage.filesystem(particles)
    with storage.explained(particles, action="read"), fs.open(path) as stream:
        return int(pq.ParquetFile(stream).metadata.num_rows)


def _origins(config: RunConfig, root: Uri) -> list[Origin]:
    """Return the runs whose weights, latents or selections a run began with.

    Selections are looked for where the run is: another store may not answer.
    """
    found = []
    if load := config.train.load:
        epoch = re.search(r"weights\.(\d+)\.pkl$", load)
        how = f"weights of epoch {epoch[1]}" if epoch else "weights"
        found.append(Origin(storage.parent(load), how))
    if init := config.train.init:
        found.append(Origin(storage.parent(init), "latents of a mixture"))
    for uri in (config.source.ind, config.source.particles):
        is_near = uri is not None and protocol_of(uri) == protocol_of(root)
        if uri and is_near and (run := _run_around(uri)):
            found.append(Origin(run, _selection(uri)))
    return found


def _selection(uri: Uri) -> str:
    return f"selection {'/'.join(uri.split('/')[-2:])}"


def _run_around(uri: Uri) -> Uri | None:
    """Return the run directory in which a file lies."""
    folder = storage.parent(uri)
    for _ in range(MAX_DEPTH):
        try:
            names = storage.list_names(folder)
        except StorageError:  # it may not be read
            return None
        if _is_run(set(names)):
            return folder
        above = storage.parent(folder)
        if above == folder or above.endswith(":/"):
            return None
        folder = above
    return None
