"""``raydrgn protocol``."""

import typer

from raydrgn.cli.command import command
from raydrgn.cli.console import columns, message, result
from raydrgn.cli.exit_codes import EXIT_INTERRUPTED
from raydrgn.protocol.settings import ProtocolSettings
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import Progress


@command(ProtocolSettings, inherits=False)
def protocol(settings: ProtocolSettings, executor: Executor, progress: Progress) -> None:
    """Go through the whole protocol: from particles and their map to classes and a report.

    Checks contrast and hand against the map, trains at a small box, proposes which particles are
    junk and waits; with --accept or --drop it goes on: trains at a large box, finds a path, the
    landscape, occupancies and classes, and exports them. What a step has made is kept: the same
    command goes on where it was stopped, and makes again what a changed setting concerns.
    """
    from raydrgn.protocol import project, sequence  # loads what its steps need

    try:
        found = sequence.run(settings, executor=executor, progress=progress)
    except KeyboardInterrupt:
        go_on = None if settings.estimate else project.command_if_begun(settings.out)
        if go_on is None:
            raise
        message(f"Stopped; what has been made is kept. To go on: {go_on}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if found.estimate is not None:
        advice = [found.estimate.advice] if found.estimate.advice else []
        result(*columns(found.estimate.rows()), *advice)
    elif found.proposal is not None:
        proposed, go_on = found.proposal, found.project.command()
        result(*columns(proposed.result["table"]), "", proposed.result["summary"])
        result(
            f"→ {proposed.at('report.html')}",
            "",
            f"To go on: {go_on} --accept",
            f"or, to drop other clusters: {go_on} --drop 3,11 (none keeps all)",
            f"or choose particles in a browser: {found.project.explore_command}",
        )
    else:
        result(f"{found.summary} → {found.report}")
