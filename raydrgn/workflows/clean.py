"""``clean``: a run without the weights of epochs that nobody needs any more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import RunDirectoryError
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds
from raydrgn.wording import counted

EVERY = 5
"""Epochs of which the weights of one are kept, where the run has no number of its own."""

if TYPE_CHECKING:
    from raydrgn.run.reader import RunReader
    from raydrgn.run.surplus import EpochWeights, WeightsOfEpochs


@dataclass(frozen=True, kw_only=True)
class CleanSettings:
    """Settings of ``clean``."""

    run: Annotated[str, Setting("Run directory; a path or URL.", is_argument=True)]

    every: Annotated[
        int | None,
        Setting(
            "Keep the weights of every n-th epoch, and of the last. By default of every fifth, or "
            "as the run was trained with --set train.keep_epochs of `raydrgn train`.",
            min=1,
        ),
    ] = None

    dry_run: Annotated[bool, Setting("Only list what would be deleted.")] = False

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class CleanResult:
    """What ``clean`` deleted, or would delete."""

    run: str
    deleted: "tuple[EpochWeights, ...]"
    """Ascending."""

    kept: Mapping[int, str]
    """Epochs whose weights are kept, ascending, and why."""

    is_dry_run: bool
    """Whether nothing was deleted."""

    @property
    def num_bytes(self) -> int:
        """Size of what is deleted."""
        return sum(weights.size for weights in self.deleted)


def run(
    settings: CleanSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> CleanResult:
    """Delete the weights of epochs but every n-th, the last, and those with results in the run.

    Raises:
        RunDirectoryError: If it is no run of raydrgn's, has no finished epoch, or is being trained.
    """
    from raydrgn.run.claim import RunClaim
    from raydrgn.run.reader import open_run
    from raydrgn.run.writer import RunWriter
    from raydrgn.wording import in_bytes

    opened = open_run(settings.run)
    if opened.is_foreign:
        raise RunDirectoryError(
            f"{opened.root} is a run of cryoDRGN's; raydrgn deletes only weights that it wrote."
        )
    every = settings.every or _own_every(opened)
    found = _find(opened.root, every)
    if settings.dry_run or not found.surplus:
        return _result(opened.root, found, is_dry_run=settings.dry_run)
    with RunClaim(opened.root) as claim:
        claim.take()
        found = _find(opened.root, every)  # as the command before has left it
        writer = RunWriter(opened.root, num_particles=0, claim=claim.ticket)
        for done, weights in enumerate(found.surplus, start=1):
            writer.delete_weights([weights])
            progress("deleting", done, len(found.surplus), unit="epochs")
        cleaned = _result(opened.root, found, is_dry_run=False)
        epochs = ", ".join(map(str, cleaned.kept))
        writer.log(
            f"raydrgn clean: the weights of {counted(len(found.surplus), 'epoch')} are deleted "
            f"({in_bytes(cleaned.num_bytes)}); those of epochs {epochs} are kept"
        )
    return cleaned


def _own_every(run: "RunReader") -> int:
    """Return ``train.keep_epochs`` of a run where it keeps not all epochs, else ``EVERY``."""
    from raydrgn.run.config import RunConfig

    keep_epochs = RunConfig.read(run.files.config).train.keep_epochs
    return keep_epochs if keep_epochs > 1 else EVERY


def _find(root: str, every: int) -> "WeightsOfEpochs":
    from raydrgn.run.directory import RunDirectory
    from raydrgn.run.surplus import weights_of_epochs

    found = weights_of_epochs(RunDirectory(root), every=every)
    if not found.kept:
        raise RunDirectoryError(f"{root} has no finished epoch yet; there is nothing to delete.")
    return found


def _result(root: str, found: "WeightsOfEpochs", *, is_dry_run: bool) -> CleanResult:
    return CleanResult(run=root, deleted=found.surplus, kept=found.kept, is_dry_run=is_dry_run)
