"""``raydrgn runs``."""

import json

from raydrgn.cli.command import command
from raydrgn.cli.console import columns, message, result
from raydrgn.cli.jobs import Json
from raydrgn.workflows import runs as workflow
from raydrgn.workflows.runs import ListedRun, RunsSettings

HEAD = ("run", "trained on", "box", "zdim", "epochs", "loss", "convergence", "score", "from")


@command(RunsSettings)
def runs(settings: RunsSettings, *, as_json: Json = False) -> None:
    """List the runs below a folder: what they were trained on, and what became of them.

    The columns: particle file and particles, box, dimension of the latent, epochs done, total loss
    of the last one, whether `raydrgn convergence` found that training has converged, the mean FSC
    that `raydrgn evaluate` found, and the runs whose weights or selections a run began with.
    """
    found = workflow.run(settings)
    if as_json:
        result(json.dumps([listed.to_dict() for listed in found.runs], indent=1))
    elif found.runs:
        result(*columns([HEAD, *(_row(listed, found.folder) for listed in found.runs)]))
    else:
        message(f"no runs below {found.folder}")


def _row(listed: ListedRun, folder: str) -> tuple[str, ...]:
    found = listed.summary
    name = _short(found.root, folder)
    if found.problem:
        return name, *[""] * (len(HEAD) - 2), found.problem
    count = f" ({found.num_particles:,})" if found.num_particles is not None else ""
    origins = (f"{_short(run, folder)} ({how})" for run, how in found.origins)
    return (
        name,
        f"{_short(found.particles, folder)}{count}",
        str(found.box or ""),
        str(found.zdim or ""),
        found.epochs_shown,
        "" if found.loss is None else f"{found.loss:.4f}",
        "" if listed.verdict is None else listed.verdict.short(),
        "" if listed.score is None else f"FSC {listed.score.fsc:.3f} (epoch {listed.score.epoch})",
        ", ".join(origins),
    )


def _short(uri: str, folder: str) -> str:
    """Return a place as seen from the folder that is listed."""
    return "." if uri == folder else uri.removeprefix(f"{folder.rstrip('/')}/")
