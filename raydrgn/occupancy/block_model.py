"""The structural block of each atom of a model, and a ChimeraX script that colours them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from raydrgn.decoding.chimerax import word
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.occupancy.atomic_models import AtomicModel, model_places, read_model
from raydrgn.occupancy.classes import OccupancyClasses
from raydrgn.occupancy.colours import NO_BLOCK, block_colours
from raydrgn.occupancy.selection import Subunit, by_chain, by_file, by_selection
from raydrgn.occupancy.table import split_name
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Int


class BlockModel(NamedTuple):
    """An atomic model with the block of each atom."""

    model: AtomicModel
    blocks: Int[np.ndarray, " n"]
    """From 1; 0 for atoms that are in no subunit of the table."""


def block_models(
    found: OccupancyClasses, uris: Sequence[Uri], *, selection: Uri | None = None
) -> tuple[list[BlockModel], list[str]]:
    """Return the block of each atom, and the subunits that have no atoms in the models.

    Subunits are matched by their names from ``occupancy masks``; else by chain where there is one
    model; else without regard to case, where that is unambiguous.

    Args:
        found: Classes and blocks.
        uris: Atomic models.
        selection: YAML file of the subunits' atoms, if they are not chains or files.

    Raises:
        InputError: If no subunit has atoms in the models.
    """
    models = [read_model(uri) for uri in uris]
    known = _by_name(_subunits(models, selection), by_chain_alone=len(models) == 1)
    blocks = [np.zeros(len(model.chains), dtype=np.int64) for model in models]
    missing = []
    for name, block in zip(found.table.subunits, found.blocks.labels.tolist(), strict=True):
        chain = split_name(name)[1]
        names = (name, chain, name.lower(), chain.lower())
        subunit = next((known[other] for other in names if other in known), None)
        if subunit is None:
            missing.append(name)
            continue
        for model, chosen in subunit.parts:
            index = next(i for i, other in enumerate(models) if other is model)
            blocks[index][chosen] = block
    if len(missing) == len(found.table.subunits):
        raise InputError(
            f"{', '.join(uris)}: no chain or file has the name of a subunit of the table, such as "
            f"{missing[0]!r}. Give the model that the masks were made of, and the YAML file of "
            "selections with --by if they were made of one."
        )
    return [BlockModel(*pair) for pair in zip(models, blocks, strict=True)], missing


def _subunits(models: Sequence[AtomicModel], selection: Uri | None) -> list[Subunit]:
    if selection is not None:
        return by_selection(selection, models)
    return [*by_file(models), *by_chain(models)]


def _by_name(subunits: Sequence[Subunit], *, by_chain_alone: bool) -> dict[str, Subunit]:
    """Return subunits by all unambiguous names: exact ones, chains, and either in lower case."""
    exact = {subunit.name: subunit for subunit in subunits}
    chains = {split_name(subunit.name)[1]: subunit for subunit in subunits if by_chain_alone}
    known = chains | exact
    counts = Counter(name.lower() for name in known)
    lower = {name.lower(): found for name, found in known.items() if counts[name.lower()] == 1}
    return lower | known


def write_script(models: Sequence[BlockModel], count: int, folder: ResultFolder) -> None:
    """Write ``blocks.cxc``, a ChimeraX script, and a copy of each model beside it.

    The script names the atoms of each block ``B1``, ``B2`` and so on.
    """
    lines = ["# The model by structural block, in the colours of the heat map", "set bgColor white"]
    places = model_places([PurePosixPath(model.uri).name for model, _ in models])
    for number, ((model, _), place) in enumerate(zip(models, places, strict=True), start=1):
        storage.write_bytes(folder.at(place), storage.read_bytes(model.uri))
        lines.append(f"open {word(place)} id {number}")
    # cartoons of polymers; spheres of the rest, such as ligands and the models of simulate
    lines += [
        "hide atoms",
        "show cartoons",
        "show ~protein & ~nucleic & ~solvent atoms",
        "style sphere",
        f"color #1-{len(models)} {NO_BLOCK}",
    ]
    colours = block_colours(count)
    for block in range(1, count + 1):
        specs = [
            f"#{number}{part}"
            for number, (model, blocks) in enumerate(models, start=1)
            for part in model.chimerax(blocks == block).split()
        ]
        if specs:
            lines.append(f"name frozen B{block} {' | '.join(specs)}")
            lines.append(f"color B{block} {colours[block - 1]}")
    lines += ["lighting soft", "view", ""]
    storage.write_bytes(folder.at("blocks.cxc"), "\n".join(lines).encode())
