"""From what a user asks to a checked configuration and particle table, before Ray starts."""

import dataclasses
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import bad_images_message, find_bad_images
from raydrgn.data.statistics import measure_scale
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.geometry.lattice import half_disc
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.sources import open_particles
from raydrgn.io.storage import Uri
from raydrgn.model.config import ModelConfig
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.remote.resources import cores_here
from raydrgn.remote.session import allocate
from raydrgn.run.config import RunConfig
from raydrgn.run.directory import RunDirectory
from raydrgn.run.manifest import Manifest
from raydrgn.run.recipe import RECIPES, TrainConfig

log = logging.getLogger(__name__)

SCAN_BYTES = 2_000_000_000
"""Images, as float32, up to which every one is looked at before Ray starts."""

MAY_CHANGE = ("train.epochs", "train.learning_rate", "train.checkpoint_minutes", "train.amp")
"""Settings, beside those of ``resources``, that may differ when a run goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What a user asks of `train`."""

    root: Uri
    """Run directory."""

    source: ParticleSource | None
    """Particles; None goes on with those of the run."""

    recipe: str | None = None
    """Named set of training values; None means ``fast``."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Values given one by one, by ``section.field``; they win over the recipe."""

    drop_bad: bool = False
    """Whether images that cannot be used are left out rather than refused."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far the run in a directory is."""

    config: RunConfig
    epochs_done: int

    @property
    def is_finished(self) -> bool:
        """Whether its last epoch is done."""
        return self.epochs_done >= self.config.train.epochs


def find_run(root: Uri) -> RunStatus | None:
    """Return the run in a directory, or None if there is nothing.

    Raises:
        RunDirectoryError: If the directory holds a run of another program.
    """
    run = RunDirectory(root)
    names = storage.list_names(root)
    if "manifest.json" not in names:
        foreign = [n for n in names if n.startswith(("weights.", "config.")) and n != "config.yaml"]
        if foreign or ("config.yaml" in names and _is_foreign(run.config)):
            raise RunDirectoryError(
                f"{root} holds a run of another program ({(foreign or ['config.yaml'])[0]}); "
                "choose another -o."
            )
        if "config.yaml" not in names:
            return None
    if "config.yaml" not in names:
        raise RunDirectoryError(f"{root} has a manifest, but no config.yaml; choose another -o.")
    finished = Manifest.read(run.manifest).finished_epochs()
    return RunStatus(RunConfig.read(run.config), finished[-1] if finished else 0)


def _is_foreign(uri: Uri) -> bool:
    return b"raydrgn_version" not in storage.read_bytes(uri)


def begin(request: RunRequest) -> tuple[RunConfig, ParticleTable]:
    """Make configuration and particles of a new run.

    Raises:
        InputError: If the particles do not allow training.
        ConfigError: If a value makes no sense.
    """
    if request.source is None:
        raise ConfigError("A new run needs particles.")
    recipe = request.recipe or "fast"
    if recipe not in RECIPES:
        raise ConfigError(f"--recipe is {recipe!r}; known: {', '.join(RECIPES)}.")
    table = open_particles(request.source)
    box = _check_trainable(table)
    pixel_sizes = table.column("pixel_size_angstrom")
    train = TrainConfig(**RECIPES[recipe])
    config = RunConfig(
        source=request.source.absolute(),
        data=ImageConfig(box=box),
        train=train,
        pixel_size_angstrom=round(float(pixel_sizes[0]), 6),
    ).with_values(request.values)
    if config.data.box != box:
        raise ConfigError(f"data.box follows from the images, which have {box} px; do not set it.")
    _check_batch(config, len(table))
    table = _without_bad(table, box, drop=request.drop_bad)
    if "data.scale" not in request.values:
        scale = measure_scale(table, config.data)
        config = config.with_values({"data.scale": scale})
    rate = config.train.peak_rate(config.model.decoder_width)
    config = config.with_values({"train.learning_rate": rate})
    _warn_of_room(config, request.root)
    return config, table


def resume(request: RunRequest, status: RunStatus) -> tuple[RunConfig, ParticleTable]:
    """Return configuration and particles of a run that goes on, with the changes that are allowed.

    Raises:
        RunDirectoryError: If what is asked for is another run than the one in the directory.
    """
    config = status.config
    if request.source is not None and request.source.absolute() != config.source:
        theirs = dataclasses.asdict(config.source)
        mine = dataclasses.asdict(request.source.absolute())
        name = next(key for key in theirs if theirs[key] != mine[key])
        raise RunDirectoryError(
            f"{request.root} holds another run: its {name} is {theirs[name]}, not {mine[name]}. "
            "Choose another -o, or leave the particles out to go on with it."
        )
    values = dict(request.values)
    if request.recipe:
        recipe = dataclasses.asdict(TrainConfig(**RECIPES.get(request.recipe, {})))
        recipe["learning_rate"] = TrainConfig(**RECIPES.get(request.recipe, {})).peak_rate(
            config.model.decoder_width
        )
        names = {key for values in RECIPES.values() for key in values} | {"learning_rate"}
        values = {f"train.{key}": recipe[key] for key in names} | values
    changed = config.with_values(values)
    before, after = config.to_dict(), changed.to_dict()
    for section in ("data", "model", "train"):
        for key, old in before[section].items():
            name, new = f"{section}.{key}", after[section][key]
            if new != old and (name not in MAY_CHANGE or name not in request.values):
                raise RunDirectoryError(
                    f"{request.root} holds another run: its {name} is {old}, not {new}. Choose "
                    "another -o."
                )
    return changed, ParticleTable.read(RunDirectory(request.root).particles)


def check_resources(config: RunConfig, address: Uri | None) -> None:
    """Refuse what this machine cannot give, before Ray is started on it.

    Raises:
        ClusterError: If there are too few CPUs or GPUs.
    """
    if address or os.environ.get("RAY_ADDRESS"):
        return  # the cluster says what it has once it is joined
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    allocate(config.resources, available={"CPU": cores_here(), "GPU": devices})


def _check_trainable(table: ParticleTable) -> int:
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
    return box


def _check_batch(config: RunConfig, num_particles: int) -> None:
    workers = config.resources.num_workers
    if config.train.batch_size < workers:
        raise ConfigError(
            f"train.batch_size ({config.train.batch_size}) is the global batch; it must be at "
            f"least the number of workers ({workers})."
        )
    if num_particles < workers:
        raise InputError(f"{num_particles} particles cannot be shared by {workers} workers.")


def _without_bad(table: ParticleTable, box: int, *, drop: bool) -> ParticleTable:
    """Look at all images, if they are few enough, and refuse or leave out those of no use."""
    if not drop and 4 * box * box * len(table) > SCAN_BYTES:
        return table
    bad = find_bad_images(table, box=box)
    if not len(bad):
        return table
    indices = table.column("index")[bad]
    if not drop:
        raise InputError(bad_images_message(indices))
    log.warning("%d bad images are left out, the first is particle %d", len(bad), indices[0])
    kept = np.setdiff1d(np.arange(len(table)), bad)
    if not len(kept):
        raise InputError("No image is left after leaving out those of no use.")
    return table.select(kept)


def _warn_of_room(config: RunConfig, root: Uri) -> None:
    """Say so if the weights of all epochs will not fit where the run is to be."""
    if not storage.is_local(root):
        return
    folder = storage.local_path(storage.absolute(root))
    while not folder.exists():
        folder = folder.parent
    needed = config.train.epochs * _weights_bytes(config.model, config.data.box)
    free = shutil.disk_usage(folder).free
    if needed > free:
        log.warning(
            "%s has %.1f GB free, but the weights of %d epochs need %.1f GB",
            folder,
            free / 1e9,
            config.train.epochs,
            needed / 1e9,
        )


def _weights_bytes(model: ModelConfig, box: int) -> int:
    """Return the size of one epoch's weights: parameters and Adam's two moments, float32."""
    with torch.device("meta"):
        vae = HeterogeneousVAE(model, box=box, num_pixels=2 * len(half_disc(box)))
    return 3 * 4 * sum(parameter.numel() for parameter in vae.parameters())
