"""What commands that decode volumes share: one pool of decoders, and the list of failures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from raydrgn.cli.console import messages

if TYPE_CHECKING:
    from raydrgn.decoding.options import VolumeOptions
    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.run.weights import DecoderState


@contextmanager
def decoding(
    state: "DecoderState", options: "VolumeOptions", *, workers: int, address: str | None
) -> Iterator["DecoderPool"]:
    """Open the decoder pool of a command; one worker and no cluster is this process."""
    import os

    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.remote.resources import Resources
    from raydrgn.remote.session import allocated

    in_process = workers == 1 and not (address or os.environ.get("RAY_ADDRESS"))
    with (
        allocated(Resources(num_workers=workers), address, in_process=in_process) as allocation,
        DecoderPool(state, options, allocation) as pool,
    ):
        yield pool


def end_with(failures: Sequence[str]) -> None:
    """List what failed, and end with code 1 if anything has."""
    for failure in failures:
        messages.print(failure, highlight=False, markup=False, soft_wrap=True)
    if failures:
        messages.print(f"{len(failures)} pieces failed; run the same command again for them.")
        raise typer.Exit(1)
