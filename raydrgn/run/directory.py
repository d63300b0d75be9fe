"""Names of everything a run writes; no other module spells a file name of a run."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri

CONFIG, CRYODRGN_CONFIG = "config.yaml", "config.pkl"
"""Configuration of a run; cryoDRGN's older versions pickle it."""


def is_run(names: Iterable[str]) -> bool:
    """Return whether a folder of files of these names is a run, raydrgn's or cryoDRGN's."""
    return not {CONFIG, CRYODRGN_CONFIG}.isdisjoint(names)


class Position(NamedTuple):
    """A place in a run: ``step`` steps of epoch ``epoch`` are done; epochs count from 1."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, step {self.step}"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where everything of a run lies; the root is a path or a URL."""

    root: Uri

    @property
    def config(self) -> Uri:
        """The configuration the run was started with."""
        return storage.join(self.root, CONFIG)

    @property
    def manifest(self) -> Uri:
        """What is finished, with sizes and checksums."""
        return storage.join(self.root, "manifest.json")

    @property
    def log(self) -> Uri:
        """What happened, for people."""
        return storage.join(self.root, "run.log")

    @property
    def metrics(self) -> Uri:
        """Losses over steps, one JSON object per line."""
        return storage.join(self.root, "metrics.jsonl")

    @property
    def particles(self) -> Uri:
        """The particle table trained on."""
        return storage.join(self.root, "particles.parquet")

    @property
    def held_out(self) -> Uri:
        """The particles kept out of training, where there are any."""
        return storage.join(self.root, "held_out.parquet")

    def claim(self, number: int) -> Uri:
        """The claim of a command that trains the run."""
        return storage.join(self.root, f"claim.{number}.json")

    def heartbeat(self, number: int) -> Uri:
        """When the command that has a claim was last alive."""
        return storage.join(self.root, f"claim.{number}.heartbeat")

    def weights(self, epoch: int | None) -> Uri:
        """Weights after an epoch, or the last ones."""
        return storage.join(self.root, _numbered("weights", epoch))

    def latents(self, epoch: int | None) -> Uri:
        """Latent means, then log-variances, after an epoch, or the last ones."""
        return storage.join(self.root, _numbered("z", epoch))

    @property
    def targets(self) -> Uri:
        """Latents that the encoder is pre-trained on, until the first epoch is finished."""
        return storage.join(self.root, "state", "targets.npy")

    def checkpoint(self, position: Position) -> Uri:
        """The checkpoint of a position."""
        return storage.join(self.root, "state", f"{position.epoch}.{position.step}.pt")

    def latent_part(self, epoch: int, start: int) -> Uri:
        """Latents of one worker, from table row ``start`` on, until those of all are there."""
        return storage.join(self.root, "state", f"z.{epoch}.{start}.npy")

    def estimates(self, epoch: int) -> Uri:
        """Contrast, shift and others of each particle after an epoch, where they are estimated."""
        return storage.join(self.root, f"estimates.{epoch}.parquet")

    def estimate_part(self, position: Position, start: int) -> Uri:
        """Estimates of one worker's particles at a checkpoint, from table row ``start`` on."""
        name = f"estimates.{position.epoch}.{position.step}.{start}.npy"
        return storage.join(self.root, "state", name)

    def results(self, command: str, epoch: int | None = None) -> Uri:
        """Folder of the results of a command on one epoch, or on the run as a whole."""
        return storage.join(self.root, command if epoch is None else f"{command}.{epoch}")

    def epochs(self) -> list[int]:
        """Return the epochs that have both weights and latents, ascending."""
        names = storage.list_names(self.root)
        return sorted(_numbers("weights", names) & _numbers("z", names))

    def latent_epochs(self) -> list[int]:
        """Return the epochs that have latents, ascending; weights of some may be gone."""
        return sorted(_numbers("z", storage.list_names(self.root)))


def _numbered(kind: str, epoch: int | None) -> str:
    return f"{kind}.pkl" if epoch is None else f"{kind}.{epoch}.pkl"


def _numbers(kind: str, names: Sequence[str]) -> set[int]:
    """Return the epochs that have a file of a kind."""
    found = (re.fullmatch(rf"{kind}\.(\d+)\.pkl", name) for name in names)
    return {int(match[1]) for match in found if match}


def no_run(root: Uri) -> RunDirectoryError:
    """Return the error of a place that is no run directory, by what is there instead."""
    if not storage.exists(root):
        return RunDirectoryError(f"{root} does not exist; check the path of the run.")
    if not storage.is_folder(root):
        return RunDirectoryError(f"{root} is not a run directory: it is a file.")
    if not storage.list_names(root):
        return RunDirectoryError(f"{root} is not a run directory: it is empty.")
    return RunDirectoryError(f"{root} is not a run directory: it has no config.yaml.")
