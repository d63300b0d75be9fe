"""The two halves of a run's particles, as runs of their own."""

import shlex
from dataclasses import replace

import numpy as np

from raydrgn.errors import InputError, RunDirectoryError, reworded
from raydrgn.io import storage
from raydrgn.io.half_sets import half_of_particles
from raydrgn.io.indices import write_indices
from raydrgn.io.mrc import write_volume
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.mfa.config import MASKS
from raydrgn.remote.resources import Resources
from raydrgn.run.config import RunConfig
from raydrgn.run.mixture import read_mixture
from raydrgn.run.reader import RunReader
from raydrgn.run.status import RunStatus, find_run
from raydrgn.shapes import Int
from raydrgn.training.checks import check_components
from raydrgn.training.prepare_run import PreparedRun, RunRequest, resume

HALVES = (1, 2)


def rows_of_half(table: ParticleTable, half: int) -> Int[np.ndarray, " m"]:
    """Return the rows of half 1 or 2, which are those of the refinement where it had halves."""
    return np.flatnonzero(half_of_particles(table) == half - 1)


def require_own(run: RunReader) -> None:
    """Refuse a run that raydrgn cannot train anew.

    Raises:
        RunDirectoryError: If it is cryoDRGN's, or has begun with the latents of a mixture.
    """
    if run.is_foreign:
        raise RunDirectoryError(
            f"{run.root} is a run of cryoDRGN; only runs of raydrgn can be trained anew on half of "
            "their particles."
        )
    if init := RunConfig.read(run.files.config).train.init:
        mixture = storage.parent(init)
        raise RunDirectoryError(
            f"The encoder of {run.root} was trained on the latents of {mixture}, which all "
            f"particles took part in. `raydrgn halves {shlex.quote(mixture)}` compares halves of "
            "these."
        )


def require_enough(run: RunReader, table: ParticleTable) -> None:
    """Refuse halves with fewer particles than the components of the run's mixture need.

    Raises:
        InputError: Naming the half.
    """
    config = RunConfig.read(run.files.config)
    for half in HALVES if config.mfa is not None else ():
        assert config.mfa is not None
        try:
            check_components(config.mfa.components, len(rows_of_half(table, half)))
        except InputError as error:
            raise reworded(error, f"Half {half} of {run.root}: {error}") from error


def prepare_half(run: RunReader, half: int, root: Uri, *, epochs: int) -> PreparedRun | None:
    """Return the training of a half that is still to be done; None if it is finished.

    Settings are those of the run, and so are poses, CTF and the scale of the images; the workers
    are as many as there is room for. Only the seed is new, and another in each half, so that the
    halves do not agree on what their first weights and Gaussian frequencies bring.

    Args:
        run: The whole run, one of raydrgn's.
        half: 1 or 2.
        root: Run directory of the half; its selection is written beside it.
        epochs: Epochs that the half is to have.
    """
    status = find_run(root)
    if status is not None:
        return _go_on(root, status)
    config, table = RunConfig.read(run.files.config), ParticleTable.read(run.files.particles)
    mine = table.select(rows_of_half(table, half))
    selection = f"{root}.ind.pkl"
    write_indices(selection, mine.column("index"))
    config = replace(
        config,
        train=replace(
            config.train,
            epochs=epochs,
            load=None,
            restarted_after=0,
            seed=config.train.seed + half,
        ),
        source=replace(config.source, ind=storage.absolute(selection)),
        resources=Resources(shard_store=config.resources.shard_store),
    )
    return PreparedRun(root=root, config=_with_mask(config, run, root), table=mine)


def _with_mask(config: RunConfig, run: RunReader, root: Uri) -> RunConfig:
    """Return a configuration whose mask is there: that of the run, where its file is gone."""
    if config.mfa is None or config.mfa.mask in MASKS or storage.is_at_hand(config.mfa.mask):
        return config
    uri = storage.absolute(f"{root}.mask.mrc")
    support = read_mixture(run, run.epoch(None)).support.numpy()
    write_volume(uri, support, pixel_size_angstrom=run.pixel_size_angstrom)
    return replace(config, mfa=replace(config.mfa, mask=uri))


def _go_on(root: Uri, status: RunStatus) -> PreparedRun | None:
    if status.is_finished:
        return None
    return resume(RunRequest(root=root, source=None), status)
