"""A run that is being explored: its epochs, and what has been saved of it."""

import asyncio
import io
import json
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np

from raydrgn.decoding.chimerax import volume_script
from raydrgn.errors import ConfigError, RaydrgnError, RunDirectoryError
from raydrgn.explore.actions import Actions, filter_command, train_command
from raydrgn.explore.decoding import LARGEST_BOX, PREVIEW_BOX, Decoding, VolumeOrder
from raydrgn.explore.drawn_results import occupancies, path_latents, paths
from raydrgn.explore.requests import (
    OfLatents,
    SaveSelectionRequest,
    SaveVolumesRequest,
    SelectRequest,
    VolumeRequest,
)
from raydrgn.explore.run_files import KEPT, SELECTIONS, VOLUMES, RunFiles, taken
from raydrgn.explore.study import Study
from raydrgn.io import storage
from raydrgn.io.mrc import volume_name
from raydrgn.io.storage import Uri
from raydrgn.latent.conditions import (
    in_words,
    parse_conditions,
    read_conditions,
    to_json,
)
from raydrgn.run.identity import SETTINGS, read_record
from raydrgn.run.latents_file import LatentSource
from raydrgn.run.metrics import read_metrics
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Float

log = logging.getLogger(__name__)

EPOCHS_KEPT = 2
"""Epochs whose latents stay in memory."""

MOST_LOSSES = 2000
SCRIPT = "open.cxc"


class Explorer:
    """Answers what the page asks about one run, or one file of latents.

    Args:
        source: The run or file.
        first_epoch: Returns the epoch to begin with; None takes the last whole one of the moment.
        labels: File of a label of each particle.
        actions: What saves.
        decoding: Decodes volumes.
        pixel_size_angstrom: At the run's box; None takes the run's own.
        is_flipped: Returns whether volumes are shown with the hand opposite to the run's.
    """

    def __init__(
        self,
        source: LatentSource,
        *,
        first_epoch: Callable[[], int | None],
        labels: Uri | None,
        actions: Actions,
        decoding: Decoding,
        pixel_size_angstrom: float | None,
        is_flipped: Callable[[], bool],
    ) -> None:
        self.source, self.actions, self._decoding = source, actions, decoding
        self._pixel_size, self._is_flipped = pixel_size_angstrom, is_flipped
        self._first_epoch, self._labels = first_epoch, labels
        own = source.results("explore")
        self.files = RunFiles(source.root if isinstance(source, RunReader) else own, own)
        self._studies: OrderedDict[int | None, Study] = OrderedDict()  # used last at the end
        self._lock = RLock()  # each request is answered in a thread
        self._damaged: set[str] = set()  # saved selections that were named as such

    def facts(self, epoch: int | None) -> dict[str, Any]:
        """Return what the page begins with; results that were made meanwhile are seen.

        Raises:
            RaydrgnError: If the epoch cannot be read.
        """
        with self._lock:
            study = self.study(epoch)
            if not study.is_current():
                self._studies.pop(study.epoch, None)
                study = self.study(study.epoch)
        return study.facts()

    def study(self, epoch: int | None) -> Study:
        """Return an epoch, opened.

        Raises:
            RaydrgnError: If it cannot be read.
        """
        with self._lock:
            number = epoch
            if number not in self._studies:  # one that is open may be of a run deleted since
                number = self.source.epoch(epoch if epoch is not None else self._first_epoch())
            if number not in self._studies:
                self._studies[number] = Study(self.source, number, self._labels)
            self._studies.move_to_end(number)
            while len(self._studies) > EPOCHS_KEPT:
                self._studies.popitem(last=False)
            return self._studies[number]

    def status(self) -> dict[str, Any]:
        """Return what changes while the page is open: epochs, and whether training goes on."""
        found: dict[str, Any] = {"epochs": [], "is_training": False, "problem": ""}
        if isinstance(self.source, RunReader):
            try:
                found["epochs"] = self.source.files.epochs()
                found["is_training"] = not self.source.is_finished()
            except RaydrgnError as error:
                found["problem"] = f"The run cannot be read any more: {error}"
            if not found["epochs"] and not found["problem"]:
                found["problem"] = f"{self.source.root} is gone, or has no epoch any more."
        return found

    def select(self, request: SelectRequest) -> tuple[dict[str, Any], np.ndarray]:
        """Return what conditions select of all particles, and which of the points drawn."""
        study = self.study(request.epoch)
        conditions = parse_conditions({"conditions": request.conditions})
        found = study.select(conditions)
        command = filter_command(
            *(self.source.root, study.epoch, conditions, "CONDITIONS.json", self._labels)
        )
        facts = {"count": int(found.mask.sum()), "words": found.words, "command": command}
        return facts, np.packbits(found.mask[study.shown], bitorder="little")

    def save_selection(self, request: SaveSelectionRequest) -> dict[str, Any]:
        """Save conditions and what they select; return what is there."""
        study = self.study(request.epoch)
        conditions = parse_conditions({"conditions": request.conditions})
        count = int(study.select(conditions).mask.sum())
        if count in (0, len(study.z)):
            which = "no particle" if count == 0 else "all particles"
            raise ConfigError(f"This selects {which}; there is nothing to save.")
        with self._claimed(SELECTIONS, request.name, to_json(conditions)) as (folder, file):
            notes = self.actions.save_selection(study.epoch, file, folder)
        return {**self._selection(request.name), "notes": notes}

    def save_volumes(self, request: SaveVolumesRequest) -> dict[str, Any]:
        """Save volumes of particles, or of points of a path, as `raydrgn volumes` does."""
        study = self.study(request.epoch)
        z = self._latents(study, request)
        if len(request.colours) != len(z):
            raise ConfigError("There should be a colour for each volume.")
        asked = request.model_dump_json(indent=1).encode()
        with self._claimed(VOLUMES, request.name, asked) as (folder, _):
            if request.path is None:
                failures = self.actions.save_volumes(study.epoch, request.rows, folder)
            else:
                failures = self._save_points(study.epoch, z, folder)
            self._write_script(folder, request, self._called(study, request))
        return {**self._volumes(request.name), "notes": failures}

    @contextmanager
    def _claimed(self, kind: str, name: str, content: bytes) -> Iterator[tuple[Uri, Uri]]:
        """Have a new folder, and beside it a file that claims its name; neither is left by errors.

        Raises:
            RaydrgnError: If the name is none, or taken.
        """
        folder = self.files.new(kind, name)
        file = f"{folder}.json"
        if not storage.create_exclusively(file, content):
            raise ConfigError(taken(name))
        try:
            yield folder, file
        except BaseException:
            for found in storage.list_files(folder):
                storage.remove(storage.join(folder, found))
            storage.remove_empty_folders(folder)
            storage.remove(file)
            raise

    def _called(self, study: Study, request: OfLatents) -> list[str]:
        """Return what volumes are called: particles by their numbers in the original set."""
        if request.path is not None:
            return [f"point {row} of {request.path}" for row in request.rows]
        numbers = study.values.numbers[study.rows(request.rows)]
        return [f"particle {number}" for number in numbers]

    def _write_script(self, folder: Uri, request: SaveVolumesRequest, called: list[str]) -> None:
        """Write what opens saved volumes in ChimeraX."""
        files = [volume_name(number) for number in range(len(called))]
        made = [
            entry
            for entry in zip(files, request.colours, called, strict=True)
            if storage.exists(storage.join(folder, entry[0]))
        ]
        if made:
            files, colours, names = map(list, zip(*made, strict=True))
            script = volume_script(files, colours=colours, names=names, level=request.level)
            storage.write_bytes(storage.join(folder, SCRIPT), script.encode())

    def _save_points(
        self, epoch: int | None, z: Float[np.ndarray, "k zdim"], folder: Uri
    ) -> list[str]:
        """Save volumes of latents, with a file of these beside them; return those that failed."""
        file, text = f"{folder}.z.txt", io.BytesIO()
        np.savetxt(text, z)
        storage.write_bytes(file, text.getvalue())
        try:
            return self.actions.save_volumes(epoch, file, folder)
        except BaseException:
            storage.remove(file)
            raise

    async def volumes(
        self, request: VolumeRequest
    ) -> tuple[dict[str, Any], Float[np.ndarray, "k d d d"]]:
        """Return volumes of particles, or of points of a path.

        Raises:
            RaydrgnError: If there are no weights, or the request was overtaken.
        """
        order, facts = await asyncio.to_thread(self._order, request)  # it may open an epoch
        return facts, await self._decoding.volumes(order)

    def _order(self, request: VolumeRequest) -> tuple[VolumeOrder, dict[str, Any]]:
        study = self.study(request.epoch)
        if not isinstance(self.source, RunReader):
            raise RunDirectoryError(f"{self.source.root} has latents only, and no weights.")
        largest = PREVIEW_BOX if request.size == "preview" else LARGEST_BOX
        box = min(largest, self.source.box)
        z = self._latents(study, request)
        weights = self.source.files.weights(study.epoch)
        order = VolumeOrder(
            page=request.page,
            number=request.number,
            run=self.source.root,
            epoch=study.epoch,
            weights=storage.modified(weights) if storage.exists(weights) else None,
            is_flipped=self._is_flipped(),
            z=z,
            box=box,
        )
        pixel_size = self._pixel_size or self.source.pixel_size_angstrom or 1.0
        facts = {
            "box": box,
            "run_box": self.source.box,
            "pixel_size": pixel_size * self.source.box / box,
            "rows": request.rows,
        }
        return order, facts

    def results(self) -> dict[str, Any]:
        """Return reports, and what has been saved."""
        found = (self._readable(name) for name in self._saved(SELECTIONS))
        selections = [selection for selection in found if selection is not None]
        volumes = [self._volumes(name) for name in self._saved(VOLUMES)]
        is_run = isinstance(self.source, RunReader)
        reports = self.files.reports() if is_run else []
        return {"reports": reports, "selections": selections, "volumes": volumes}

    def drawn(self, epoch: int | None) -> dict[str, Any]:
        """Return the results of commands on an epoch that the page draws itself.

        The page asks for them last: what decodes is loaded from then on.
        """
        study = self.study(epoch)
        if isinstance(self.source, RunReader):
            self._decoding.load()
        return {"paths": paths(study), "occupancy": occupancies(study)}

    def losses(self) -> list[dict[str, float]]:
        """Return mean losses of epochs, and of parts of epochs, which have ``done`` 0.

        What is not finite, such as losses of a training that diverges, is left out: JSON has none.
        """
        if not isinstance(self.source, RunReader):
            return []
        rows = read_metrics(self.source.files.metrics) or self.source.losses()
        every = max(1, len(rows) // MOST_LOSSES)
        names = ("epoch", "step", "total", "reconstruction", "kl", "done")
        return [
            {
                name: float(row[name])
                for name in names
                if row.get(name) is not None and math.isfinite(row[name])
            }
            for number, row in enumerate(rows)
            if row.get("done", True) or number % every == 0
        ]

    def _latents(self, study: Study, request: OfLatents) -> Float[np.ndarray, "k zdim"]:
        if request.path is not None:
            return path_latents(study, request.path, request.rows)
        return study.z[study.rows(request.rows)]

    def _saved(self, kind: str) -> list[str]:
        files = {SELECTIONS: KEPT, VOLUMES: "z_values.txt"}
        folder = storage.join(self.files.own, kind)
        return [
            name
            for name in self.files.names(kind)
            if storage.exists(storage.join(folder, name, files[kind]))
        ]

    def _readable(self, name: str) -> dict[str, Any] | None:
        """Return a saved selection; None, which is logged once, if it is damaged."""
        try:
            return self._selection(name)
        except (RaydrgnError, LookupError, TypeError, ValueError) as error:
            if name not in self._damaged:
                log.warning("the saved selection %s is damaged, and left out: %s", name, error)
            self._damaged.add(name)
            return None

    def _selection(self, name: str) -> dict[str, Any]:
        folder = storage.join(self.files.own, SELECTIONS, name)
        record = read_record(storage.join(folder, SETTINGS))
        conditions = read_conditions(f"{folder}.json")
        names = [n for n in storage.list_names(folder) if n.startswith("kept.")]
        kept, _, total, *_ = str(record["selection"]).split()
        epoch, file = record["made_from"]["epoch"], f"{folder}.json"
        train = self.actions.train(folder, name)
        return {
            "name": name,
            "words": in_words(conditions),
            "count": f"{int(kept):,} of {int(total):,} particles",
            "conditions": json.loads(to_json(conditions))["conditions"],
            "epoch": epoch,
            "files": [self.files.path(storage.join(folder, n)) for n in sorted(names)],
            "filter": filter_command(self.source.root, epoch, conditions, file, self._labels),
            "train": train_command(train),
            "train_settings": train,
        }

    def _volumes(self, name: str) -> dict[str, Any]:
        folder = storage.join(self.files.own, VOLUMES, name)
        names = sorted(n for n in storage.list_names(folder) if n.endswith((".mrc", ".cxc")))
        return {
            "name": name,
            "files": [self.files.path(storage.join(folder, n)) for n in names],
        }
