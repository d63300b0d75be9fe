"""How a command's part of a training run ended."""

from dataclasses import dataclass

from raydrgn.io.storage import Uri
from raydrgn.training.prepare_run import PreparedRun


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """How a command's part of a run ended."""

    root: Uri
    """Run directory."""

    epochs: int
    """Epochs of the whole run."""

    num_particles: int

    finished: bool
    """False if it was stopped before its last epoch."""

    trained: bool = True
    """False if all epochs were finished before."""

    @classmethod
    def of(cls, run: PreparedRun, *, finished: bool, trained: bool = True) -> "TrainResult":
        """Describe the end of a run."""
        return cls(
            root=run.root,
            epochs=run.config.train.epochs,
            num_particles=len(run.table),
            finished=finished,
            trained=trained,
        )
