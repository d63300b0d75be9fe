"""``embed``: latents of other particles, by the encoder of a run."""

import logging
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io.particle_source import DropBad, ParticleSource
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.io.particles import ParticleTable
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.config import RunConfig
    from raydrgn.run.reader import RunReader
    from raydrgn.training.encoding import Encoded

log = logging.getLogger(__name__)

SAME_PIXELS = 0.01
"""Relative difference of pixel sizes up to which they are the same."""

CLEAR_SD = 4.0
"""Standard errors from which a mean correlation is not one by chance."""


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """Settings of ``embed``."""

    run: Annotated[str, Setting("Run directory, of raydrgn's autoencoder.", is_argument=True)]

    source: ParticleSource

    out: Annotated[str, Setting("Folder for the results.", flags=("-o", "--out"))]

    epoch: Annotated[
        int | None, Setting("Epoch; the last finished one by default.", project="epoch")
    ] = None

    drop_bad: DropBad = False

    opposite_contrast: Annotated[
        bool, Setting("The images have the opposite contrast of those that the run was trained on.")
    ] = False

    overwrite: Annotated[bool, Setting("Replace earlier results in the folder.")] = False

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class EmbedResult:
    """Latents and losses of the particles; the folder has them as files."""

    folder: "ResultFolder"
    epoch: int | None
    particles: "ParticleTable"
    encoded: "Encoded"


def run(
    settings: EmbedSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> EmbedResult:
    """Encode particles that the run has not seen, and write latents and losses.

    ``z.pkl`` is a file of latents as ``analyze``, ``filter`` and cryoDRGN take it; raydrgn takes
    the numbers of the particles from ``particles.parquet`` beside it. A warning tells of images
    that do not correlate with what the run decodes, or with its negative.

    Raises:
        RaydrgnError: If the run, the particles or the folder do not allow it.
    """
    from raydrgn.data.image_statistics import leave_out_bad
    from raydrgn.io.cryodrgn import write_latents
    from raydrgn.io.sources import open_particles, require_poses
    from raydrgn.io.unmodelled import refuse_unmodelled
    from raydrgn.model.device import default_device
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.config import RunConfig
    from raydrgn.run.latents_file import EMBEDDED_LATENTS
    from raydrgn.run.reader import open_run
    from raydrgn.run.weights import read_network_tensors
    from raydrgn.training.encoding import encode_particles

    opened = open_run(settings.run)
    _require_encoder(opened)
    epoch = opened.epoch(settings.epoch)
    config = RunConfig.read(opened.files.config)
    _refuse_latents_of_mixture(config, opened.root)
    table = open_particles(settings.source)
    require_poses(table)
    refuse_unmodelled(table)
    _require_same_images(table, opened, config.data.box)
    folder = ResultFolder(settings.out)
    folder.require_writable()
    if settings.drop_bad:
        table, _ = leave_out_bad(table)
    given = {"command": "embed", "drop_bad": settings.drop_bad} | asdict(settings.source.absolute())
    if settings.opposite_contrast:
        given["opposite_contrast"] = True
        config = replace(config, data=replace(config.data, invert=not config.data.invert))
    folder.begin(given, made_from=opened.identity(epoch), overwrite=settings.overwrite)
    tensors = read_network_tensors(opened.files.weights(epoch))
    encoded = encode_particles(config, tensors, table, device=default_device(), progress=progress)
    write_latents(folder.at(EMBEDDED_LATENTS), encoded.mean, encoded.logvar)
    _write_table(encoded, table, folder)
    folder.finish()
    remedy = "Leave out" if settings.opposite_contrast else "Give"
    if problem := _disagreement(encoded, opened.root, remedy):
        log.warning("%s", problem)
    return EmbedResult(folder=folder, epoch=epoch, particles=table, encoded=encoded)


def _refuse_latents_of_mixture(config: "RunConfig", root: str) -> None:
    """Refuse an encoder that was trained on the latents of a mixture."""
    if config.train.init:
        raise RunDirectoryError(
            f"The encoder of {root} was trained only to reproduce the latents of its own "
            "particles (train.init in its config.yaml), and does not know those of others. Fit all "
            "particles together with `raydrgn train --method mfa`."
        )


def _require_encoder(opened: "RunReader") -> None:
    if opened.is_foreign:
        raise RunDirectoryError(
            f"{opened.root} is a run of cryoDRGN. Train a run of raydrgn from its weights: raydrgn "
            f"train PARTICLES -o RUN --load {opened.root}, and take that one."
        )
    if opened.is_mixture:
        raise RunDirectoryError(
            f"{opened.root} is a mixture of factor analysers, which has no encoder: fit it to all "
            "particles together with `raydrgn train --method mfa`."
        )


def _require_same_images(table: "ParticleTable", run: "RunReader", wanted: int) -> None:
    """Refuse particles of another box, or of pixel sizes that none of the run's particles has."""
    import numpy as np

    box = table.single_box()
    if box != wanted:
        raise InputError(
            f"The particles have {box} px, but those of {run.root} have {wanted} px. Bring them to "
            f"that box with `raydrgn downsample PARTICLES -D {wanted} -o OUT.star`."
        )
    known = np.unique(run.particles().column("pixel_size_angstrom"))
    sizes = np.unique(table.column("pixel_size_angstrom"))
    other = sizes[np.abs(sizes[:, None] / known - 1).min(axis=1) > SAME_PIXELS]
    if other.size:
        listed = ", ".join(f"{size:.4g}" for size in known)
        raise InputError(
            f"The particles have a pixel size of {other[0]:.4g} Å, but those of {run.root} have "
            f"{listed} Å: the network would take them for others."
        )


def _write_table(encoded: "Encoded", table: "ParticleTable", folder: "ResultFolder") -> None:
    """Write a row of each particle: numbers, latents, losses."""
    import numpy as np

    from raydrgn.run.latents_file import EMBEDDED_PARTICLES

    columns = {
        "particle": np.arange(len(table)),
        "original": table.column("index"),
        **{f"z{k}": column for k, column in enumerate(encoded.mean.T)},
        "reconstruction": encoded.reconstruction,
        "correlation": encoded.correlation,
        "kl": encoded.kl,
    }
    folder.write_parquet(EMBEDDED_PARTICLES, columns)


def _disagreement(encoded: "Encoded", root: str, remedy: str) -> str | None:
    """Return in words that images are not of what a run decodes; None if they agree with it."""
    import numpy as np

    mean = float(encoded.correlation.mean())
    error = float(encoded.correlation.std()) / np.sqrt(len(encoded.correlation))
    if mean > CLEAR_SD * error:
        return None
    found = f"The images correlate with what {root} decodes from their latents by {mean:.3f} in the"
    if mean < -CLEAR_SD * error:
        return (
            f"{found} mean: they have the opposite contrast of those that it was trained on. "
            f"{remedy} --opposite-contrast, with --overwrite."
        )
    return (
        f"{found} mean, which is no correlation: their poses are of another frame or hand than "
        "those of the run, or they show something else. Their latents mean nothing."
    )
