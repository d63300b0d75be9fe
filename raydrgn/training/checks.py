"""What particles and settings must be like for a training, checked before Ray starts."""

import logging
import math

from raydrgn.data.image_statistics import FAR_SD, ImageStatistics, leave_out_bad, measure_images
from raydrgn.data.ingest import bad_images_message
from raydrgn.data.statistics import sampled_rows
from raydrgn.errors import ConfigError, InputError
from raydrgn.io.half_sets import repeated_images
from raydrgn.io.particles import ParticleTable
from raydrgn.run.config import RunConfig
from raydrgn.run.recipe import TrainConfig
from raydrgn.wording import counted

log = logging.getLogger(__name__)

SCAN_BYTES = 2_000_000_000
"""Images, as float32, up to which all are checked before Ray starts."""

MIN_PER_COMPONENT = 10

FEW_UPDATES = 5000
"""Steps of the optimiser below which large batches are warned of; see jobs/README.md."""


def check_trainable(table: ParticleTable) -> int:
    """Refuse particles that training cannot use; return their box."""
    box = table.single_box()
    if not table.has_poses:
        raise InputError(
            "The particles have no poses; give them with --poses, or train on the particles file "
            "of a refinement."
        )
    if not table.has_ctf:
        log.warning(
            "the particles have no CTF parameters (--ctf); images are taken as plain projections"
        )
    if repeated := repeated_images(table):
        log.warning(
            "%s are of images that are listed more than once: with symmetry expansion that is "
            "right; else a file was joined with itself, and these count more than others",
            counted(repeated, "row"),
        )
    return box


def check_batch_size(config: RunConfig) -> None:
    """Refuse a batch of fewer particles than there are workers.

    Raises:
        ConfigError: If it is so.
    """
    workers = config.resources.num_workers
    if config.mfa is None and config.train.batch_size < workers:
        raise ConfigError(
            f"train.batch_size ({config.train.batch_size}) is the global batch, of which every "
            f"worker takes a part; it must be at least the number of workers ({workers})."
        )


def check_count(config: RunConfig, num_particles: int) -> None:
    """Refuse particles too few for the workers or components; warn of a batch larger than all.

    Raises:
        InputError: If they are too few.
    """
    workers = config.resources.num_workers
    if num_particles < workers:
        raise InputError(
            f"{counted(num_particles, 'particle')} cannot be divided among {workers} workers; use "
            "fewer --workers."
        )
    if config.mfa is not None:
        check_components(config.mfa.components, num_particles)
        return
    if num_particles < config.train.batch_size:
        log.warning(
            "%s in all, fewer than the batch size of %d: every step takes all of them",
            counted(num_particles, "particle"),
            config.train.batch_size,
        )


def check_components(components: int, num_particles: int) -> None:
    """Refuse particles too few for the components of a mixture.

    Raises:
        InputError: If they are.
    """
    most = num_particles // MIN_PER_COMPONENT
    if most >= components:
        return
    fewer = f"A mixture needs at least {MIN_PER_COMPONENT} particles."
    if most:
        again = f"raydrgn train PARTICLES --method mfa --components {most} -o RUN"
        fewer = f"`{again}` fits as many as there can be."
    raise InputError(
        f"{counted(num_particles, 'particle')} {'is' if num_particles == 1 else 'are'} too few for "
        f"{counted(components, 'component')}: each needs {MIN_PER_COMPONENT}. {fewer}"
    )


def warn_of_few_updates(config: RunConfig, num_particles: int) -> None:
    """Warn of batches larger than those of ``fast`` that leave few steps of the optimiser.

    The rate that is named grows with the square root of the batch, as is usual for Adam.
    """
    train, usual = config.train, TrainConfig()
    if config.mfa is not None or train.batch_size <= usual.batch_size:
        return
    updates, most = (
        train.epochs * max(num_particles // size, 1)
        for size in (train.batch_size, usual.batch_size)
    )
    if updates >= FEW_UPDATES:
        return
    rate = usual.peak_rate(config.model.decoder_width)
    log.warning(
        "batches of %d make %d updates of the network in %d epochs, where batches of %d make %d: "
        "maps will be coarser. Use a smaller train.batch_size; if they have to be so large, a "
        "train.learning_rate of %.2g suits them better than %.2g (jobs/README.md, Recipes)",
        train.batch_size,
        updates,
        train.epochs,
        usual.batch_size,
        most,
        rate * math.sqrt(train.batch_size / usual.batch_size),
        rate,
    )


def check_images(
    table: ParticleTable, box: int, *, drop: bool
) -> tuple[ParticleTable, ImageStatistics]:
    """Refuse or leave out images without use; leave out outliers, or warn of them.

    All images are read if they are to be left out, or are few enough, else a sample: an outlier
    beyond it has its far pixels replaced without being named.
    """
    if drop:
        return leave_out_bad(table)
    every = 4 * box * box * len(table) <= SCAN_BYTES
    examined = table if every else table.select(sampled_rows(len(table)))
    statistics, numbers = measure_images(examined, box=box), examined.column("index")
    if statistics.bad.any():
        raise InputError(bad_images_message(examined.select(statistics.bad)))
    for warning in statistics.warnings(numbers):
        log.warning("%s", warning)
    if statistics.outliers.any():
        log.warning(
            "outliers do not count for the scale of the images, and pixels beyond %d SD are "
            "replaced by the median of their image; leave the images out with --drop-bad",
            FAR_SD,
        )
    return table, statistics
