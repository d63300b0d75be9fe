"""``raydrgn clean``."""

from raydrgn.cli.command import command
from raydrgn.cli.console import columns, result
from raydrgn.remote.progress import Progress
from raydrgn.wording import counted
from raydrgn.workflows import clean as workflow
from raydrgn.workflows.clean import CleanResult, CleanSettings


@command(CleanSettings)
def clean(settings: CleanSettings, progress: Progress) -> None:
    """Delete the weights of epochs that are not needed any more.

    Kept are those of every n-th epoch, of the last, and of epochs that results in the run directory
    were made from; results that were written elsewhere are not known. Latents and losses of every
    epoch stay, and so does everything else: the run can be analysed, trained further, and its
    convergence judged. While training, --set train.keep_epochs=N of train does the same. A run
    exported with links to its weights loses those that are deleted here.
    """
    result(*_lines(workflow.run(settings, progress=progress)))


def _lines(found: CleanResult) -> list[str]:
    from raydrgn.wording import in_bytes

    size = f"{in_bytes(found.num_bytes)} ({found.num_bytes:,} bytes)"
    count = counted(len(found.deleted), "epoch")
    what = "would be deleted" if found.is_dry_run else "deleted"
    head = [f"weights of {count}, {size}, {what} from {found.run}"]
    if not found.deleted:
        head = [f"nothing to delete in {found.run}"]
    rows = [(f"epoch {epoch}", "kept", reason) for epoch, reason in found.kept.items()]
    if found.is_dry_run:
        going = "would be deleted"
        rows += [(f"epoch {w.epoch}", going, in_bytes(w.size)) for w in found.deleted]
        rows.sort(key=lambda row: int(row[0].split()[1]))
    return [*columns(rows), *head]
