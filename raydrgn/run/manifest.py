"""What of a run is finished: checkpoints and epochs, each file with its size and checksum."""

import json
from dataclasses import asdict, dataclass, field

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.run.directory import Position

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One finished file."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> "FileRecord":
        """Record some content."""
        return cls(len(content), storage.checksum(content))

    def matches(self, content: bytes) -> bool:
        """Return whether content is what was recorded."""
        return len(content) == self.size and storage.checksum(content) == self.sha256


@dataclass(slots=True)
class Manifest:
    """Checkpoints by their position and published epochs by their number."""

    checkpoints: dict[Position, FileRecord] = field(default_factory=dict)
    epochs: dict[int, dict[str, FileRecord]] = field(default_factory=dict)
    """``weights`` and ``latents`` of each epoch; finished when it has both."""

    @classmethod
    def read(cls, uri: Uri) -> "Manifest":
        """Read a manifest; an absent one is empty.

        Raises:
            RunDirectoryError: If the file is damaged.
            StorageError: If it cannot be read; that is not taken for absence.
        """
        content = storage.read_if_there(uri)
        if content is None:
            return cls()
        try:
            raw = json.loads(content)
            if raw["format"] != FORMAT_VERSION:
                raise RunDirectoryError(
                    f"{uri} has format {raw['format']}; this version reads {FORMAT_VERSION}."
                )
            return cls(
                checkpoints={
                    Position(*map(int, key.split("."))): FileRecord(**record)
                    for key, record in raw["states"].items()
                },
                epochs={
                    int(epoch): {name: FileRecord(**record) for name, record in files.items()}
                    for epoch, files in raw["epochs"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunDirectoryError(
                f"{uri} is damaged ({error}). Weights and latents beside it can still be analysed; "
                "to go on training, start a new run."
            ) from error

    def write(self, uri: Uri) -> None:
        """Write the manifest, whole or not at all."""
        raw = {
            "format": FORMAT_VERSION,
            "states": {
                f"{p.epoch}.{p.step}": asdict(r) for p, r in sorted(self.checkpoints.items())
            },
            "epochs": {
                str(epoch): {name: asdict(record) for name, record in sorted(files.items())}
                for epoch, files in sorted(self.epochs.items())
            },
        }
        storage.write_bytes(uri, json.dumps(raw, indent=1).encode())

    def finished_epochs(self) -> list[int]:
        """Return the epochs whose weights and latents are both there, ascending."""
        return sorted(e for e, files in self.epochs.items() if {"weights", "latents"} <= set(files))
