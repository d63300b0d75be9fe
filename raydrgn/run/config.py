"""Everything that decides the outcome of a run, as written to ``config.yaml``."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from raydrgn import __version__
from raydrgn.data.config import ImageConfig
from raydrgn.errors import ConfigError
from raydrgn.io import storage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.storage import Uri
from raydrgn.mfa.config import MfaConfig
from raydrgn.model.config import ModelConfig
from raydrgn.remote.resources import Resources, worker_range
from raydrgn.run.recipe import TrainConfig
from raydrgn.yaml_tables import parse_table, parse_value

MFA_TRAIN = ("epochs", "seed", "checkpoint_minutes", "keep_epochs", "held_out_fraction")
"""Fields of ``TrainConfig`` that a mixture of factor analysers uses; it has no optimiser."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """The sections of a run's configuration."""

    source: ParticleSource
    """Where the particles came from."""

    data: ImageConfig
    """How images are prepared."""

    pixel_size_angstrom: float
    """Pixel size of the volumes, and of most images."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Shape of the network; not used with ``mfa``."""

    mfa: MfaConfig | None = None
    """A mixture of factor analysers, fitted instead of a network."""

    train: TrainConfig = field(default_factory=TrainConfig)
    """Objective and optimiser."""

    resources: Resources = field(default_factory=Resources)
    """Workers and what each gets; decides the order of sums, and nothing else."""

    raydrgn_version: str = __version__
    """Version that made the run."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, where: str = "config.yaml") -> "RunConfig":
        """Build from plain values.

        Raises:
            ConfigError: If a key is unknown, missing or not of its type; names ``where``, section
                and key.
        """
        _refuse_unknown(raw, where)
        try:
            return _adapter().validate_python(_with_words(_with_worker_range(raw)))
        except ValidationError as error:
            first = error.errors()[0]
            cause = first.get("ctx", {}).get("error")
            if isinstance(cause, ConfigError):
                raise cause from error
            place = ".".join(map(str, first["loc"]))
            if first["type"] == "missing":
                raise ConfigError(f"{where}: {place} is missing; it has no default.") from error
            expected = first["msg"].removeprefix("Input should be ")
            raise ConfigError(
                f"{where}: {place} is {first['input']!r}; expected {expected}."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that ``from_dict`` takes back unchanged."""
        raw = dataclasses.asdict(self)
        if self.mfa is None:
            del raw["mfa"]
            return raw
        del raw["model"]
        raw["train"] = {name: raw["train"][name] for name in MFA_TRAIN}
        return raw

    @property
    def zdim(self) -> int:
        """Dimension of the latents."""
        return self.mfa.components if self.mfa else self.model.zdim

    def largest_batch(self, num_particles: int) -> int:
        """Return the largest number of parts that the particles can be divided into.

        Of a network the batch size; other methods have no batches.
        """
        return num_particles if self.mfa else self.train.batch_size

    def to_yaml(self) -> str:
        """Return the text of ``config.yaml``."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def read(cls, uri: Uri) -> "RunConfig":
        """Read a run's ``config.yaml``.

        Raises:
            ConfigError: If it is not YAML, or not a configuration of this version.
        """
        raw = read_yaml(uri)
        if isinstance(source := raw.get("source"), Mapping):  # empty text was taken once, as none
            raw["source"] = {name: value for name, value in source.items() if value != ""}
        return cls.from_dict(raw, where=uri)

    def with_values(self, changes: Mapping[str, Any]) -> "RunConfig":
        """Return the configuration with values replaced, each named ``section.field``.

        Raises:
            ConfigError: If there is no such field, it is one of the other method, or the value is
                not of its type.
        """
        raw = self.to_dict()
        for name, value in changes.items():
            section, _, key = name.partition(".")
            refuse_of_other_method(name, is_mfa=self.mfa is not None)
            if not key or not isinstance(raw.get(section), dict):
                known = ", ".join(k for k, v in raw.items() if isinstance(v, dict))
                raise ConfigError(
                    f"{name!r} does not name a setting; write section.field, with a section of "
                    f"{known}."
                )
            raw[section] = {**raw[section], key: value}
            if name == "resources.num_workers":  # a number alone ends an earlier range
                raw[section] |= worker_range(value)
        return RunConfig.from_dict(raw, where="--set")


def refuse_of_other_method(name: str, *, is_mfa: bool) -> None:
    """Refuse a setting that has no effect on a run, since it is one of the other method.

    Args:
        name: The setting, as ``section.field``.
        is_mfa: Whether the run is a mixture of factor analysers.

    Raises:
        ConfigError: If it is one of the other method.
    """
    section, _, key = name.partition(".")
    if section == "mfa" and not is_mfa:
        raise ConfigError(
            f"{name} is a setting of the method mfa: start a run with `raydrgn train --method "
            "mfa`, or leave it out."
        )
    if is_mfa and (section == "model" or (section == "train" and key not in MFA_TRAIN)):
        advice = "leave it out"
        if name == "model.zdim":
            advice = "use mfa.components (`raydrgn train --components`) instead"
        raise ConfigError(f"{name} is a setting of the method vae, not of mfa; {advice}.")


def parse_assignment(text: str) -> tuple[str, Any]:
    """Return name and value of a ``section.field=value``.

    Raises:
        ConfigError: If there is no equals sign or the value is not YAML.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes section.field=value, got {text!r}.")
    return name.strip(), parse_value(value, f"--set {text}")


def read_yaml(uri: Uri) -> dict[str, Any]:
    """Read a YAML file that holds a table of keys.

    Raises:
        ConfigError: If it is anything else.
    """
    return parse_table(storage.read_bytes(uri), uri)


def _with_worker_range(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with a range of workers, such as ``2-8``, as its two ends."""
    resources = raw.get("resources")
    if not isinstance(resources, Mapping) or not isinstance(resources.get("num_workers"), str):
        return dict(raw)
    return {**raw, "resources": {**resources, **worker_range(resources["num_workers"])}}


def _with_words(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the words on and off, which YAML reads as truth values."""
    resources = raw.get("resources")
    if not isinstance(resources, Mapping) or not isinstance(resources.get("compile"), bool):
        return dict(raw)
    return {**raw, "resources": {**resources, "compile": "on" if resources["compile"] else "off"}}


@cache
def _adapter() -> Any:
    return TypeAdapter(RunConfig)


def _refuse_unknown(raw: Mapping[str, Any], where: str) -> None:
    sections: dict[str, type] = {
        "source": ParticleSource,
        "data": ImageConfig,
        "model": ModelConfig,
        "mfa": MfaConfig,
        "train": TrainConfig,
        "resources": Resources,
    }
    places: list[tuple[str, Mapping[str, Any], type]] = [(where, raw, RunConfig)]
    for name, section in sections.items():
        if isinstance(raw.get(name), Mapping):
            places.append((f"{where}, section {name}", raw[name], section))
    for place, values, owner in places:
        known = [f.name for f in dataclasses.fields(owner)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(
                f"Unknown key {unknown[0]!r} in {place}. Known keys: {', '.join(known)}."
            )
