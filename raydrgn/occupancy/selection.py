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
import yaml

from raydrgn.errors import ConfigError, InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.occupancy.atomic_models import HELIX, SHEET, AtomicModel
from raydrgn.shapes import Bool

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
                f"{self.name!r} cannot be the name of a subunit and its files; name a selection of "
                "these atoms in a YAML file (--by)."
            )

    @property
    def num_atoms(self) -> int:
        """Atoms of all parts."""
        return sum(int(chosen.sum()) for _, chosen in self.parts)


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
    try:
        # text only, so that the chains 1 and NO stay names
        raw = yaml.load(storage.read_bytes(uri), Loader=_DistinctKeys)
    except yaml.YAMLError as error:
        raise ConfigError(f"{uri} is not YAML: {error}.") from error
    if not isinstance(raw, Mapping) or not raw:
        raise ConfigError(f"{uri} should name subunits, one per line, such as `uL1: A`.")
    found = []
    for name, said in raw.items():
        where = f"{uri}, {name}"
        parts = [
            part
            for one in (said if isinstance(said, list) else [said])
            for part in _select(one, models, where)
        ]
        if not parts:
            raise ConfigError(
                f"{where}: {said!r} is not a selection; say a chain, such as A:10-50."
            )
        found.append(Subunit(name=str(name), parts=tuple(_joined(parts))))
    return found


class _DistinctKeys(yaml.BaseLoader):
    """Takes text as it stands, and a name once only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found {name!r} twice", node.value[i][0].start_mark
                )
        return super().construct_mapping(node, deep)


def _joined(
    parts: list[tuple[AtomicModel, Bool[np.ndarray, " n"]]],
) -> list[tuple[AtomicModel, Bool[np.ndarray, " n"]]]:
    """Join the selections of each model, so that no atom counts twice."""
    found: dict[int, tuple[AtomicModel, Bool[np.ndarray, " n"]]] = {}
    for model, chosen in parts:
        before = found.get(id(model))
        found[id(model)] = (model, chosen if before is None else before[1] | chosen)
    return list(found.values())


def _select(
    said: Any, models: Sequence[AtomicModel], where: str
) -> list[tuple[AtomicModel, Bool[np.ndarray, " n"]]]:
    if isinstance(said, str):
        chain, _, residues = said.partition(":")
        said = {"chain": chain.strip(), **({"residues": residues} if residues else {})}
    if not isinstance(said, Mapping) or not said:
        raise ConfigError(f"{where}: {said!r} is not a selection; say a chain, such as A:10-50.")
    unknown = [key for key in said if key not in KEYS]
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(KEYS)}.")
    if "file" in said:
        models = _models_of(said["file"], models, where)
    chains = _listed(said.get("chain", []), where) + _listed(said.get("chains", []), where)
    known = list(dict.fromkeys(name for model in models for name in model.chain_names()))
    for chain in chains:
        if chain not in known:
            raise InputError(
                f"{where}: there is no chain {chain!r}; chains: {', '.join(known)}. Capitals "
                "matter."
            )
    parts = [(model, _chosen(said, chains, model, where)) for model in models]
    parts = [(model, chosen) for model, chosen in parts if chosen.any()]
    if not parts:
        raise InputError(f"{where}: {dict(said)} selects no atoms.")
    return parts


def _chosen(
    said: Mapping[str, Any], chains: list[str], model: AtomicModel, where: str
) -> Bool[np.ndarray, " n"]:
    chosen = np.isin(model.chains, chains) if chains else np.ones(len(model.chains), dtype=bool)
    if "residues" in said:
        chosen &= _within(model.residues, said["residues"], where)
    if "secondary" in said:
        kind = said["secondary"]
        if kind not in KINDS:
            raise ConfigError(f"{where}: secondary is {kind!r}; known: {', '.join(KINDS)}.")
        chosen &= model.secondary == KINDS[kind]
    for key, kind in (("helices", HELIX), ("sheets", SHEET)):
        if key in said:
            chosen &= (model.secondary == kind) & _within(model.elements, said[key], where)
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


def _listed(said: Any, where: str) -> list[str]:
    if isinstance(said, str):
        return [part.strip() for part in said.split(",")]
    if isinstance(said, list) and all(isinstance(part, str) for part in said):
        return [part.strip() for part in said]
    raise ConfigError(f"{where}: {said!r} should be a name, or a list of names, in [ ].")


def _models_of(file: Any, models: Sequence[AtomicModel], where: str) -> list[AtomicModel]:
    found = [m for m in models if file in (m.name, m.uri, PurePosixPath(m.uri).name)]
    if not found:
        known = ", ".join(PurePosixPath(model.uri).name for model in models)
        raise InputError(f"{where}: {file!r} is none of the models given: {known}.")
    return found
