"""What a table of occupancies was scored from, as the settings beside it record it."""

import json
from dataclasses import dataclass
from typing import Any

from raydrgn.decoding.options import VolumeOptions
from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.occupancy.atomic_models import is_model
from raydrgn.occupancy.options import Scale
from raydrgn.occupancy.scored_volumes import map_keys, maps_of_folder
from raydrgn.occupancy.scoring import LABELS_NAME
from raydrgn.run.identity import MADE_FROM, SETTINGS
from raydrgn.run.reader import RunReader, open_run
from raydrgn.run.weights import DecoderState


@dataclass(frozen=True, kw_only=True, slots=True)
class TableOrigin:
    """Where a table of occupancies came from."""

    folder: Uri
    """Folder of the table."""

    settings: dict[str, Any]
    """Settings that ``occupancy score`` recorded; empty for a table of another program."""

    @classmethod
    def of(cls, table: Uri) -> "TableOrigin":
        """Read the settings beside a table, which is given as its folder or as a file.

        Raises:
            InputError: If the settings beside it cannot be read.
        """
        folder = table if storage.is_folder(table) else storage.parent(storage.absolute(table))
        return cls(folder=folder, settings=_read_settings(storage.join(folder, SETTINGS)))

    @property
    def epoch(self) -> int | None:
        """Epoch of the run whose volumes were scored."""
        return (self.settings.get(MADE_FROM) or {}).get("epoch")

    @property
    def scale(self) -> Scale:
        """How occupancies are scaled by default: per subunit where they are not normalised."""
        return "column" if self.settings.get("normalize") == "none" else "matrix"

    def open_run(self) -> RunReader | None:
        """Return the run whose volumes were scored; None if it is not known.

        Raises:
            RunDirectoryError: If the run is gone, or was trained again since.
        """
        made_from = self.settings.get(MADE_FROM)
        if made_from is None:
            if self.settings.get("run"):
                raise RunDirectoryError(
                    f"{self.folder} has occupancies of an earlier version of raydrgn, which did "
                    f"not record the weights they were made from. {_AGAIN}"
                )
            return None
        run = open_run(made_from["run"])
        difference = run.identity(self.epoch).difference(made_from)
        if difference:
            raise RunDirectoryError(
                f"{self.folder} has occupancies of {difference}, but this epoch of the run was "
                f"trained again since. {_AGAIN}"
            )
        return run

    def decoder(self, run: RunReader) -> tuple[DecoderState, VolumeOptions]:
        """Return the decoder of the epoch, and options for whole volumes as they were scored."""
        state = run.decoder(self.epoch, pixel_size_angstrom=self.settings.get("pixel_size"))
        options = VolumeOptions(
            flip=self.settings.get("flip", False), invert=self.settings.get("invert", False)
        )
        return state, options

    def maps(self, source: str) -> dict[str, Uri]:
        """Return the maps that were scored, by volume; none if the table is not of maps.

        Args:
            source: Checksum of the list of maps that the table records; empty if it has none.

        Raises:
            InputError: If a map was added, replaced or removed since.
        """
        folder = self.settings.get("volumes")
        if folder is None:
            return {}
        maps = maps_of_folder(folder)
        keys = "\n".join(map_keys(list(maps.values())))
        if source and storage.checksum(keys.encode()) != source:
            raise InputError(
                f"The maps in {folder} have changed since they were scored. Score them again, or "
                "use --skip-volumes."
            )
        return maps

    def models(self) -> tuple[list[Uri], Uri | None]:
        """Return the atomic models that the masks were made of, and the YAML file of selections.

        None are returned if ``occupancy masks`` did not make the masks, or one of them is gone.
        """
        masks = self.settings.get("masks")
        for folder in (masks, storage.parent(masks)) if masks else ():
            recorded = _read_settings(storage.join(folder, SETTINGS))
            uris = [uri for uri in recorded.get("models", []) if is_model(uri)]
            by = recorded.get("by")
            by = by if by not in (None, "chain", "file") else None
            if uris and all(map(storage.is_at_hand, [*uris, *([by] if by else [])])):
                return uris, by
        return [], None

    def labels(self) -> Uri | None:
        """Return the file with the cluster of every particle, where volumes stand for clusters."""
        uri = storage.join(self.folder, LABELS_NAME)
        return uri if storage.exists(uri) else None

    def inputs(self) -> list[Uri]:
        """Return the run or the folder of maps, which results must not replace."""
        made_from = self.settings.get(MADE_FROM) or {}
        return [uri for uri in (made_from.get("run"), self.settings.get("volumes")) if uri]


_AGAIN = "Score again with `raydrgn occupancy score` and --overwrite."


def _read_settings(uri: Uri) -> dict[str, Any]:
    if not storage.is_at_hand(uri):
        return {}
    try:
        found = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise InputError(f"{uri} is damaged ({error}). Make this folder again.") from error
    return found if isinstance(found, dict) else {}
