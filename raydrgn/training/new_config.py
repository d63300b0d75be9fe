"""The configuration of a new run: of its method, its recipe, and the run it starts from."""

import logging
from collections.abc import Mapping
from typing import Any, get_args

from raydrgn.data.config import ImageConfig, Precision
from raydrgn.data.store import shard_bytes
from raydrgn.errors import ConfigError, RunDirectoryError
from raydrgn.geometry.lattice import half_disc
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.mfa.config import EPOCHS, MASKS, MfaConfig
from raydrgn.model.config import ModelConfig
from raydrgn.run.config import RunConfig, refuse_of_other_method
from raydrgn.run.recipe import TrainConfig, recipe_config, recipe_network
from raydrgn.training.initial_weights import find_weights
from raydrgn.training.mixture_latents import MixtureLatents

log = logging.getLogger(__name__)

METHODS = ("vae", "mfa")

SINGLE_BYTES = 20e9
"""Prepared particles, all together, that data.precision=auto keeps in single precision.

They fit beside the network into a GPU of 40 GB. The choice depends on nothing else, so that a run
is the same on every machine.
"""


def new_config(
    source: ParticleSource,
    values: Mapping[str, Any],
    *,
    method: str,
    recipe: str | None,
    box: int,
    pixel_size_angstrom: float,
    num_particles: int,
) -> RunConfig:
    """Return the configuration of a new run, with single values set.

    Images of a mixture of factor analysers are not windowed, which would leave their noise neither
    white nor of as many independent values as it seems.

    Raises:
        ConfigError: If a value makes no sense, or is one of the other method.
        RunDirectoryError: If the weights to start from are those of no network.
    """
    if method not in METHODS:
        raise ConfigError(f"The method is {method!r}; known methods: {', '.join(METHODS)}.")
    is_mfa = method == "mfa"
    refuse_recipe(recipe, is_mfa=is_mfa)
    for name in values:
        refuse_of_other_method(name, is_mfa=is_mfa)
    values = _with_absolute_mask(values)
    values = _with_precision(values, num_particles=num_particles, box=box)
    given, model = _with_loaded_network(values, recipe_network(recipe, box))
    given = _with_mixture(given)
    train = (
        TrainConfig(epochs=EPOCHS) if is_mfa else recipe_config(recipe, num_particles=num_particles)
    )
    return RunConfig(
        source=source.absolute(),
        data=ImageConfig(box=box, window=not is_mfa),
        model=model,
        mfa=MfaConfig() if is_mfa else None,
        train=train,
        pixel_size_angstrom=pixel_size_angstrom,
    ).with_values(given)


def refuse_recipe(recipe: str | None, *, is_mfa: bool) -> None:
    """Refuse a recipe, which is a set of values of the autoencoder, for a mixture.

    Raises:
        ConfigError: If there is one.
    """
    if is_mfa and recipe is not None:
        raise ConfigError("A recipe is a choice of the method vae; leave out --recipe for mfa.")


def _with_precision(values: Mapping[str, Any], *, num_particles: int, box: int) -> dict[str, Any]:
    """Return the values with the precision of the particles that ``auto`` stands for."""
    given = values.get("data.precision", "float32")
    if given in get_args(Precision):
        return dict(values)
    if given != "auto":
        raise ConfigError(
            f"--set: data.precision is {given!r}; expected 'float32', 'float16' or 'auto'."
        )
    size = shard_bytes((num_particles, len(half_disc(box)), 2), "float32")
    precision = "float32" if size <= SINGLE_BYTES else "float16"
    log.info("%.1f GB of prepared particles, kept in %s", size / 1e9, precision)
    return {**values, "data.precision": precision}


def _with_absolute_mask(values: Mapping[str, Any]) -> dict[str, Any]:
    mask = values.get("mfa.mask")
    if not isinstance(mask, str) or not mask or mask in MASKS:
        return dict(values)
    return {**values, "mfa.mask": storage.absolute(mask)}


def _with_mixture(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the weights file of the mixture of ``train.init``, and its zdim."""
    init = values.get("train.init")
    if not init:
        return dict(values)
    mixture = MixtureLatents.of_run(str(init))
    zdim = mixture.default_zdim
    if "model.zdim" not in values:
        log.info("zdim is %d: the mixture has %d components", zdim, mixture.num_components)
    return {"model.zdim": zdim, **values, "train.init": mixture.weights}


def _with_loaded_network(
    values: Mapping[str, Any], network: ModelConfig
) -> tuple[dict[str, Any], ModelConfig]:
    """Return the values with the file that ``train.load`` names, and its network, or that given."""
    load = values.get("train.load")
    if not load:
        return dict(values), network
    run, uri = find_weights(str(load))
    if run.model is None:
        raise RunDirectoryError(
            f"{run.root} is a mixture of factor analysers, which has no network to start from."
        )
    return {**values, "train.load": uri}, run.model
