"""How far a run is: from its manifest and configuration, never from what files happen to exist."""

from dataclasses import dataclass

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import CONFIG, RunDirectory
from raydrgn.run.manifest import Manifest


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far the run in a directory is."""

    config: RunConfig
    epochs_done: int

    @property
    def is_finished(self) -> bool:
        """Whether its last epoch is done."""
        return self.epochs_done >= self.config.train.epochs

    @property
    def count(self) -> str:
        """How far it is, in words: ``3 of 20 epochs done``."""
        return f"{self.epochs_done} of {self.config.train.epochs} epochs done"


def find_run(root: Uri) -> RunStatus | None:
    """Return the run in a directory, or None if there is nothing.

    Raises:
        RunDirectoryError: If the directory holds a run of another program.
    """
    run = RunDirectory(root)
    names = storage.list_names(root)
    if "manifest.json" not in names:
        foreign = [n for n in names if n.startswith(("weights.", "config.")) and n != CONFIG]
        if foreign or (CONFIG in names and not _is_own(run.config)):
            raise RunDirectoryError(
                f"{root} holds a run of another program ({(foreign or [CONFIG])[0]}); "
                "choose another -o."
            )
        if CONFIG not in names:
            return None
    if CONFIG not in names:
        raise RunDirectoryError(f"{root} has a manifest, but no config.yaml; choose another -o.")
    finished = Manifest.read(run.manifest).finished_epochs()
    return RunStatus(RunConfig.read(run.config), finished[-1] if finished else 0)


def _is_own(config: Uri) -> bool:
    return b"raydrgn_version" in storage.read_bytes(config)
