"""From settings to a checked configuration and particle table, before Ray starts."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from raydrgn.data.image_statistics import ImageStatistics
from raydrgn.data.restoration import log_restoration
from raydrgn.data.statistics import measure_scale
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.pixel_sizes import log_pixel_sizes, reference_pixel_size
from raydrgn.io.sources import open_particles
from raydrgn.io.storage import Uri
from raydrgn.io.unmodelled import refuse_unmodelled
from raydrgn.mfa.config import MASKS
from raydrgn.mfa.support import read_support
from raydrgn.remote.allocation import Wanted
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.claim import RunClaim
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.recipe import RECIPES, recipe_config
from raydrgn.run.refined_poses import with_poses_from
from raydrgn.run.relocation import relocation_command, require_stacks, with_sample
from raydrgn.run.status import RunStatus, find_run
from raydrgn.settings import setting_fields
from raydrgn.shapes import Float
from raydrgn.training.checks import (
    check_batch_size,
    check_count,
    check_images,
    check_trainable,
    warn_of_few_updates,
)
from raydrgn.training.disk_room import warn_of_room
from raydrgn.training.held_out import without_held_out
from raydrgn.training.initial_weights import find_weights, initial_checkpoint
from raydrgn.training.mixture_latents import MixtureLatents
from raydrgn.training.new_config import METHODS, new_config, refuse_recipe
from raydrgn.training.schedule import change_note

log = logging.getLogger(__name__)

MAY_CHANGE = (
    "train.epochs",
    "train.learning_rate",
    "train.schedule",
    "train.checkpoint_minutes",
    "train.keep_epochs",
    "train.amp",
)
"""Settings, beside those of ``resources``, that may differ when a run goes on."""

SOURCE_OPTIONS = {
    field.name: "the PARTICLES argument"
    if field.setting.is_argument
    else field.setting.option(field.name)
    for field in setting_fields(ParticleSource)
}
"""How the command line names the fields of the section ``source``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What a user asks of `train`."""

    root: Uri
    """Run directory."""

    source: ParticleSource | None
    """Particles; None goes on with those of the run."""

    method: str | None = None
    """``vae``, or ``mfa`` for a mixture of factor analysers; None means ``vae``."""

    recipe: str | None = None
    """Named set of training values; None means ``fast``."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Values of single settings, by ``section.field``; they win over the recipe.

    ``train.load`` may also be ``RUN`` or ``RUN:EPOCH``, and ``train.init`` may be ``RUN``.
    """

    poses_from: Uri | None = None
    """Run whose refined poses are taken."""

    drop_bad: bool = False
    """Whether images that cannot be used are left out rather than refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedRun:
    """A run that is checked and can be trained."""

    root: Uri
    config: RunConfig
    table: ParticleTable
    held_out: ParticleTable | None = None
    """Particles kept out of training."""

    initial: Checkpoint | None = None
    """Weights to start from; None for random weights, and for a run that goes on."""

    targets: Float[np.ndarray, "2 n zdim"] | None = None
    """Means and log-variances that the encoder of a new run is pre-trained on."""

    note: str | None = None
    """What the user should know about the training that follows."""


def begin(
    request: RunRequest,
    *,
    claim: RunClaim | None = None,
    before_reading: Callable[[RunConfig, int], None] | None = None,
) -> PreparedRun:
    """Make configuration and particles of a new run.

    Args:
        request: What is asked for.
        claim: Taken before the images are read, once it is known that the rest can be used.
        before_reading: Called with the configuration and the number of particles before the
            directory is claimed and images are read, which takes long; it may refuse.

    Raises:
        InputError: If the particles do not allow training.
        ConfigError: If a value makes no sense.
        RunDirectoryError: If the run to start from is of another network or method.
        StorageError: If the run directory cannot be written.
        ClaimError: If another command trains in it.
    """
    table, config = _checked(request)
    start = _start_of(config, table)
    storage.require_writable(request.root)
    if before_reading is not None:
        before_reading(config, len(table))
    if claim is not None:
        _take(claim, request.root)
    log_pixel_sizes(table)
    log_restoration(table)
    table, statistics = check_images(table, config.data.box, drop=request.drop_bad)
    table, held_out = without_held_out(table, config.train.held_out_fraction)
    check_count(config, len(table))
    config = _measured(config, table, statistics, given=request.values)
    warn_of_few_updates(config, len(table))
    warn_of_room(config, request.root)
    notes, targets = [], None
    if start.checkpoint is not None:
        notes.append(f"starting from the weights {config.train.load}")
    if request.poses_from:
        notes.append(f"poses are those that {request.poses_from} has refined")
    if start.mixture is not None:
        targets = start.mixture.of_particles(table, zdim=config.model.zdim)
        root = start.mixture.run.root
        notes += [f"starting from the mixture {root}", *start.mixture.poses_notes(table)]
    return PreparedRun(
        root=request.root,
        config=config,
        table=with_sample(table),
        held_out=held_out,
        initial=start.checkpoint,
        targets=targets,
        note="; ".join(notes) or None,
    )


def _checked(request: RunRequest) -> tuple[ParticleTable, RunConfig]:
    """Return particles and configuration of a new run, as far as they are known without images."""
    if request.source is None:
        raise ConfigError(
            f"{request.root} holds no run to go on with; name the particles to start one."
        )
    _refuse_source_values(request.values)
    table = open_particles(request.source)
    if request.poses_from:
        table = with_poses_from(table, request.poses_from)
    refuse_unmodelled(table)
    box = check_trainable(table)
    config = new_config(
        request.source,
        request.values,
        method=request.method or METHODS[0],
        recipe=request.recipe,
        box=box,
        pixel_size_angstrom=round(reference_pixel_size(table), 6),
        num_particles=len(table),
    )
    if config.data.box != box:
        raise ConfigError(f"data.box follows from the images, which have {box} px; do not set it.")
    check_batch_size(config)
    if config.mfa is not None and config.mfa.mask not in MASKS:
        read_support(  # refused here, if it is not a mask
            config.mfa.mask,
            box=box,
            device=torch.device("cpu"),
            pixel_size_angstrom=config.pixel_size_angstrom,
        )
    return table, config


class _Start(NamedTuple):
    """What a new run starts from; nothing for random weights."""

    checkpoint: Checkpoint | None
    mixture: MixtureLatents | None


def _start_of(config: RunConfig, table: ParticleTable) -> _Start:
    load, init = config.train.load, config.train.init
    mixture = MixtureLatents.of_run(init) if init else None
    if mixture is not None:
        mixture.check(table, zdim=config.model.zdim)
    return _Start(initial_checkpoint(load, config) if load else None, mixture)


def _measured(
    config: RunConfig,
    table: ParticleTable,
    statistics: ImageStatistics,
    *,
    given: Mapping[str, Any],
) -> RunConfig:
    """Return the configuration with what images show: their correction, scale, and the rate."""
    measured = {f"data.{k}": v for k, v in dataclasses.asdict(statistics.correction).items()}
    config = config.with_values({k: v for k, v in measured.items() if k not in given})
    if config.data.subtract_background:
        log.warning("the background of each image is subtracted before training")
    if config.data.background_sd is not None:
        log.warning("images are scaled to backgrounds of one SD before training")
    if "data.scale" not in given:
        config = config.with_values({"data.scale": measure_scale(table, config.data)})
    return _with_rate(config)


def _take(claim: RunClaim, root: Uri) -> None:
    """Claim a directory for a new run, unless another command has trained there meanwhile."""
    claim.take()
    status = find_run(root)
    if status is not None:
        raise RunDirectoryError(
            f"{root} holds a run of another command meanwhile, with {status.count}. `raydrgn train "
            "--resume` goes on with it; for a new run choose another -o."
        )


def _with_rate(config: RunConfig) -> RunConfig:
    if config.mfa is not None:
        return config
    rate = config.train.peak_rate(config.model.decoder_width)
    return config.with_values({"train.learning_rate": rate})


def variant(run: PreparedRun, root: Uri, values: Mapping[str, Any]) -> PreparedRun:
    """Return a run on the same particles with other settings of the network and its training.

    Nothing is read or measured again. If the directory holds this run already, it goes on.

    Raises:
        ConfigError: If a value makes no sense.
        RunDirectoryError: If the directory holds another run.
    """
    config = _with_rate(run.config.with_values(values))
    check_batch_size(config)
    check_count(config, len(run.table))
    status = find_run(root)
    if status is not None:
        found, wanted = status.config.to_dict(), config.to_dict()
        for section in ("source", "data", "model", "train"):
            if found.get(section) != wanted.get(section):
                reason = f"its settings of {section} differ. Choose another -o."
                raise RunDirectoryError(f"{root} holds another run: {reason}")
    return dataclasses.replace(run, root=root, config=config)


def resume(request: RunRequest, status: RunStatus) -> PreparedRun:
    """Return the run that goes on, with the changes that are allowed.

    Raises:
        RunDirectoryError: If the settings are of another run than the one in the directory.
        ConfigError: If the run has more epochs already, or a value makes no sense.
        StorageError: If the run directory cannot be written.
    """
    _refuse_source_values(request.values)
    config = status.config
    if request.source is not None and request.source.absolute() != config.source:
        theirs = dataclasses.asdict(config.source)
        mine = dataclasses.asdict(request.source.absolute())
        name = next(key for key in theirs if theirs[key] != mine[key])
        raise RunDirectoryError(
            f"{request.root} holds another run: its {name} is {_unlike(theirs[name], mine[name])}. "
            "Choose another -o, or leave the particles out to go on with it. If they have moved, "
            f"give their folder first: {relocation_command(request.root)} FOLDER"
        )
    if request.method and (request.method == "mfa") != (config.mfa is not None):
        method = "vae" if config.mfa is None else "mfa"
        raise RunDirectoryError(
            f"{request.root} holds another run: its method is {method}, not {request.method}. "
            "Choose another -o."
        )
    refuse_recipe(request.recipe, is_mfa=config.mfa is not None)
    changed = config.with_values(_resumed_values(request, config))
    _refuse_other_settings(request, config, changed)
    done = status.epochs_done
    if changed.train.epochs < done:
        raise ConfigError(
            f"{request.root} has {done} finished epochs, more than the {changed.train.epochs} "
            f"asked for. To train further, give a number above {done}."
        )
    is_cosine = config.mfa is None and changed.train.schedule == "cosine"
    if status.is_finished and changed.train.epochs > done and is_cosine:
        changed = changed.with_values({"train.restarted_after": done})
    table = ParticleTable.read(RunDirectory(request.root).particles)
    if changed.train.epochs > done:
        require_stacks(table, request.root)
    check_batch_size(changed)
    check_count(changed, len(table))
    storage.require_writable(request.root)
    note = None
    if config.mfa is None:
        note = change_note(config.train, changed.train, epochs_done=done)
    return PreparedRun(root=request.root, config=changed, table=table, note=note)


def _unlike(old: object, new: object) -> str:
    """Return two values that differ, in words: those of a run, and of a command."""
    if new is None or new == ():
        return f"{old}, and none is given here"
    return f"{'not given' if old is None or old == () else old}, not {new}"


def _refuse_other_settings(request: RunRequest, config: RunConfig, changed: RunConfig) -> None:
    """Refuse to go on with settings of another run."""
    before, after = config.to_dict(), changed.to_dict()
    for section in ("data", "model", "mfa", "train"):
        for key, old in before.get(section, {}).items():
            name, new = f"{section}.{key}", after[section][key]
            if new != old and (name not in MAY_CHANGE or name not in request.values):
                raise RunDirectoryError(
                    f"{request.root} holds another run: its {name} is {_unlike(old, new)}. Choose "
                    "another -o."
                )


def _refuse_source_values(values: Mapping[str, Any]) -> None:
    """Refuse to change the source by single values, which are applied after it has been read."""
    for name in values:
        section, _, key = name.partition(".")
        if section == "source":
            option = SOURCE_OPTIONS.get(key) or f"one of {', '.join(SOURCE_OPTIONS.values())}"
            raise ConfigError(f"--set cannot change {name}; use {option} instead.")


def _resumed_values(request: RunRequest, config: RunConfig) -> dict[str, Any]:
    """Return the values that a run is asked to go on with, those of a recipe included."""
    values = dict(request.values)
    for name in ("train.load", "train.init"):
        if values.get(name):
            values[name] = find_weights(str(values[name]))[1]
    if not request.recipe:
        return values
    chosen = recipe_config(request.recipe)
    recipe = dataclasses.asdict(chosen)
    recipe["learning_rate"] = chosen.peak_rate(config.model.decoder_width)
    names = {key for changes in RECIPES.values() for key in changes} | {"learning_rate"}
    names -= {"epochs"}  # a run goes on to its own last one
    return {f"train.{key}": recipe[key] for key in names} | values


def wanted(config: RunConfig, num_particles: int) -> Wanted:
    """Return what the workers of a run ask for, of a range the smallest number of them.

    Where each may have more particles to prepare than one process is to, a CPU is left for the
    tasks that do it.
    """
    resources = config.resources.smallest
    megabytes = image_megabytes(config, num_particles) / max(resources.num_workers, 1)
    return Wanted(
        resources=resources,
        most_workers=min(config.largest_batch(num_particles), num_particles),
        leaves_cpu=megabytes >= resources.local_ingest_mb,
    )


def image_megabytes(config: RunConfig, num_particles: int) -> float:
    """Return the size of all images, as float32."""
    return 4e-6 * config.data.box**2 * num_particles
