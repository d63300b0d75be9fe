"""How a command's part of a training run ended."""

from dataclasses import dataclass

from raydrgn.io.storage import Uri
from raydrgn.run.directory import Position
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

    stopped: bool = False
    """Whether a stop was asked for; in its last steps an epoch is finished all the same."""

    trained: bool = True
    """False if all epochs were finished before."""

    has_checkpoint: bool = True
    """False if it was stopped before its first checkpoint."""

    restarts: bool = False
    """Whether the learning rate rises once more if the run is trained further."""

    report: Uri = ""
    """Report of the analysis at the end; empty if none was made."""

    analysis_problem: str = ""
    """Why the analysis, or a volume of it, was not made, and how to make it; empty otherwise."""

    @classmethod
    def of(
        cls,
        run: PreparedRun,
        *,
        finished: bool,
        stopped: bool = False,
        trained: bool = True,
        kept: Position | None = None,
    ) -> "TrainResult":
        """Describe the end of a run.

        Args:
            run: The run.
            finished: Whether its last epoch is done.
            stopped: Whether a stop was asked for.
            trained: Whether anything was left to do.
            kept: Position of the newest checkpoint, if it is known.
        """
        return cls(
            root=run.root,
            epochs=run.config.train.epochs,
            num_particles=len(run.table),
            finished=finished,
            stopped=stopped,
            trained=trained,
            has_checkpoint=run.initial is not None or kept != Position(1, 0),
            restarts=run.config.mfa is None and run.config.train.schedule == "cosine",
        )

    @property
    def goes_on(self) -> bool:
        """Whether what follows training may begin: it is finished, and no stop was asked for."""
        return self.finished and not self.stopped

    @property
    def what_is_kept(self) -> str:
        """What a run that was stopped goes on from, in words."""
        return "a checkpoint is kept" if self.has_checkpoint else "it has no checkpoint yet"
