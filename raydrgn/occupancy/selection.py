"""Which atoms make up a subunit: chains, whole files, or selections that a YAML file names.

::

    uL1: A                              # a chain
    H68: AA:1852-1893                   # residues of a chain
    stalk:                              # several of either
      - G
      - {chains: [H, I], residues: [1-60, 72]}
    barrel: {chain: C, secondary: sheet}
    arm: {chain: C, helices: [1, 2]}    # as the file counts them, from 1; sheets likewise
    other: {file: second_model.cif}     # where there are several files
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.occupancy.atomic_models import (
    HELIX,
    MODEL_SUFFIXES,
    SHEET,
    AtomicModel,
    is_model,
    read_model,
)
from raydrgn.settings import MAP_SUFFIXES
from raydrgn.shapes import Bool
from raydrgn.yaml_tables import parse_text

KEYS = ("file", "chain", "chains", "residues", "secondary", "helices", "sheets")
KINDS = {"helix": HELIX, "sheet": SHEET}
_RANGE = re.compile(r"\s*(-?\d+)\s*(?:-\s*(-?\d+))?\s*")
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\0\n]')


@dataclass(frozen=True, kw_only=True, slots=True)
class Subunit:
    """Atoms under one name.

    Raises:
        ConfigError: If files cannot have that name.
    """

    name: str
    parts: tuple[tuple[AtomicModel, Bool[np.ndarray, " n"]], ...]
    """Models, and which of their atoms."""

    def __post_init__(self) -> None:
        if _FORBIDDEN.search(self.name):
            raise ConfigError(
                f"{self.name!r} cannot be the name of a subunit: files cannot have that name. "
                "Name a selection of these atoms in a YAML file (--by)."
            )

    @property
    def num_atoms(self) -> int:
        """Atoms of all parts."""
        return sum(int(chosen.sum()) for _, chosen in self.parts)


def subunits_of_models(uris: Sequence[Uri], by: str) -> list[Subunit]:
    """Read atomic models, and return their subunits; none if all files are maps.

    Args:
        uris: Atomic models, or maps of one subunit each.
        by: ``chain``, ``file``, or a YAML file of selections.

    Raises:
        ConfigError: If models are mixed with maps, or a file is neither.
    """
    atomic = [is_model(uri) for uri in uris]
    if not any(atomic):
        for uri in uris:
            if not uri.endswith(MAP_SUFFIXES):
                raise ConfigError(
                    f"{uri} is neither an atomic model ({', '.join(MODEL_SUFFIXES)}) nor a map "
                    f"({', '.join(MAP_SUFFIXES)})."
                )
        return []
    if not all(atomic):
        raise ConfigError("Give atomic models or maps, not both.")
    models = [read_model(uri) for uri in uris]
    if by == "chain":
        return by_chain(models)
    if by == "file":
        return by_file(models)
    return by_selection(by, models)


def by_chain(models: Sequence[AtomicModel]) -> list[Subunit]:
    """Return each chain as ``FILE_chainC``, as MAVEn names them."""
    return [
        Subunit(name=f"{model.name}_chain{chain}", parts=((model, model.chains == chain),))
        for model in models
        for chain in model.chain_names()
    ]


def by_file(models: Sequence[AtomicModel]) -> list[Subunit]:
    """Return each file as one subunit."""
    return [
        Subunit(name=model.name, parts=((model, np.ones(len(model.chains), dtype=bool)),))
        for model in models
    ]


def by_selection(uri: Uri, models: Sequence[AtomicModel]) -> list[Subunit]:
    """Return the subunits that a YAML file names.

    Raises:
        ConfigError: If the file is not such a mapping; names the subunit.
        InputError: If a selection finds no atoms.
    """
    raw = parse_text(storage.read_bytes(uri), uri)
    if not isinstance(raw, Mapping) or not raw:
        raise ConfigError(f"{uri} should name subunits, one per line, such as `uL1: A`.")
    found = []
    for name, given in raw.items():
        where = f"{uri}, {name}"
        parts = [
            part
            for selection in (given if isinstance(given, list) else [given])
            for part in _select(selection, models, where)
        ]
        if not parts:
            raise ConfigError(_not_a_selection(where, given))
        found.append(Subunit(name=str(name), parts=tuple(_joined(parts))))
    return found


def _joined(
    parts: list[tuple[AtomicModel, Bool[np.ndarray, " n"]]],
) -> list[tuple[AtomicModel, Bool[np.ndarray, " n"]]]:
    """Join the selections of each model, so that no atom counts twice."""
    found: dict[int, tuple[AtomicModel, Bool[np.ndarray, " n"]]] = {}
    for model, chosen in parts:
        before = found.get(id(model))
        found[id(model)] = (model, chosen if before is None else before[1] | chosen)
    return list(found.values())


def _not_a_selection(where: str, given: Any) -> str:
    return f"{where}: {given!r} is not a selection. Give a chain, such as A:10-50."


def _select(
    given: Any, models: Sequence[AtomicModel], where: str
) -> list[tuple[AtomicModel, Bool[np.ndarray, " n"]]]:
    if isinstance(given, str):
        chain, _, residues = given.partition(":")
        given = {"chain": chain.strip(), **({"residues": residues} if residues else {})}
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(_not_a_selection(where, given))
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}. Known keys: {', '.join(KEYS)}.")
    if "file" in given:
        models = _models_of(given["file"], models, where)
    chains = _listed(given.get("chain", []), where) + _listed(given.get("chains", []), where)
    known = list(dict.fromkeys(name for model in models for name in model.chain_names()))
    for chain in chains:
        if chain not in known:
            raise InputError(
                f"{where}: there is no chain {chain!r}. Chains are {', '.join(known)}; capital and "
                "small letters differ."
            )
    parts = [(model, _chosen(given, chains, model, where)) for model in models]
    parts = [(model, chosen) for model, chosen in parts if chosen.any()]
    if not parts:
        raise InputError(f"{where}: {dict(given)} selects no atoms.")
    return parts


def _chosen(
    given: Mapping[str, Any], chains: list[str], model: AtomicModel, where: str
) -> Bool[np.ndarray, " n"]:
    chosen = np.isin(model.chains, chains) if chains else np.ones(len(model.chains), dtype=bool)
    if "residues" in given:
        chosen &= _within(model.residues, given["residues"], where)
    if "secondary" in given:
        kind = given["secondary"]
        if kind not in KINDS:
            raise ConfigError(f"{where}: secondary is {kind!r}; known: {', '.join(KINDS)}.")
        chosen &= model.secondary == KINDS[kind]
    for key, kind in (("helices", HELIX), ("sheets", SHEET)):
        if key in given:
            chosen &= (model.secondary == kind) & _within(model.elements, given[key], where)
    return chosen


def _within(numbers: np.ndarray, ranges: Any, where: str) -> Bool[np.ndarray, " n"]:
    inside = np.zeros(len(numbers), dtype=bool)
    for text in _listed(ranges, where):
        match = _RANGE.fullmatch(text)
        if not match:
            raise ConfigError(f"{where}: {text!r} is not a number or range, such as 10-50.")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise ConfigError(f"{where}: the range {text} ends before it begins.")
        inside |= (numbers >= first) & (numbers <= last)
    return inside


def _listed(given: Any, where: str) -> list[str]:
    if isinstance(given, str):
        return [part.strip() for part in given.split(",")]
    if isinstance(given, list) and all(isinstance(part, str) for part in given):
        return [part.strip() for part in given]
    raise ConfigError(f"{where}: {given!r} should be a name, or a list of names in [ ].")


def _models_of(file: Any, models: Sequence[AtomicModel], where: str) -> list[AtomicModel]:
    found = [m for m in models if file in (m.name, m.uri, PurePosixPath(m.uri).name)]
    if not found:
        known = ", ".join(PurePosixPath(model.uri).name for model in models)
        raise InputError(f"{where}: {file!r} is not among the models: {known}.")
    return found
