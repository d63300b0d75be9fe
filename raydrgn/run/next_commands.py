"""The commands that usually follow on some particles of a run, filled in."""

import shlex
from dataclasses import replace

from raydrgn.errors import RaydrgnError
from raydrgn.io import cryodrgn
from raydrgn.io.originals import original_of
from raydrgn.io.selection import counts_as_original
from raydrgn.io.storage import Uri
from raydrgn.run.reader import RunReader


def selection_commands(run: RunReader, ind: Uri, *, name: str) -> list[str]:
    """Return the commands that export some particles, and that train on them alone.

    Args:
        run: A run that they are of.
        ind: File of their numbers in the original set.
        name: Of what the commands write.

    Returns:
        Nothing if the particles of the run are not known. Particles are exported for the program
        that they come from. Where the particle file is a table of a selection, whose rows have
        other numbers, there is no command to train.
    """
    try:
        is_cs = original_of(run.particles(), ".cs") is not None
        trains = run.source is not None and counts_as_original(
            run.source, cryodrgn.read_indices(ind)
        )
    except RaydrgnError:
        return []
    place, chosen, out = map(shlex.quote, (run.root, ind, f"{name}.{'cs' if is_cs else 'star'}"))
    export = f"raydrgn export star {place} --ind {chosen} -o {out}"
    if is_cs:
        export = f"raydrgn export cs {place} --ind {chosen} -o {out}"
    return [export, *([_train_command(run, ind, name)] if trains else [])]


def _train_command(run: RunReader, ind: Uri, name: str) -> str:
    assert run.source is not None
    chosen = replace(run.source, ind=ind)
    words = ["raydrgn", "train", chosen.particles, *chosen.words()]
    words += ["--method", "mfa"] if run.is_mixture else []
    words += [] if run.inverts else ["--uninvert-data"]
    return shlex.join([*words, "-o", name])
