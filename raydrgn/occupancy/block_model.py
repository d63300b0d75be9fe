"""The atomic model coloured by structural block: a ChimeraX script, and a figure."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.occupancy.atomic_models import AtomicModel, read_model
from raydrgn.occupancy.classes import TwoWay
from raydrgn.occupancy.heat_map import block_colours
from raydrgn.occupancy.selection import Subunit, by_chain, by_file, by_selection
from raydrgn.occupancy.table import split_name
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.shapes import Float, Int

REST = "#d0d0d0"
DRAWN_ATOMS = 12_000
"""Atoms of the figure at most, of each model."""


class ColouredModel(NamedTuple):
    """A model, and the block of each of its atoms."""

    model: AtomicModel
    blocks: Int[np.ndarray, " n"]
    """From 1; 0 for atoms that are in no subunit of the table."""


def colour_models(
    found: TwoWay, uris: Sequence[Uri], *, selection: Uri | None = None
) -> tuple[list[ColouredModel], list[str]]:
    """Return the block of each atom, and the subunits that have no atoms in the models.

    Subunits are found by name as ``occupancy masks`` names them, for chains and files; else by
    chain alone where there is one model; else whatever the case, where that leaves no doubt.

    Args:
        found: Blocks.
        uris: Atomic models.
        selection: YAML file that says which atoms the subunits are, if they are not chains or
            files.

    Raises:
        InputError: If no subunit has atoms in the models.
    """
    models = [read_model(uri) for uri in uris]
    known = _by_name(_subunits(models, selection), by_chain_alone=len(models) == 1)
    blocks = [np.zeros(len(model.chains), dtype=np.int64) for model in models]
    missing = []
    for name, block in zip(found.table.subunits, found.blocks.labels.tolist(), strict=True):
        chain = split_name(name)[1]
        one = next(
            (known[n] for n in (name, chain, name.lower(), chain.lower()) if n in known), None
        )
        if one is None:
            missing.append(name)
            continue
        for model, chosen in one.parts:
            place = next(i for i, other in enumerate(models) if other is model)
            blocks[place][chosen] = block
    if len(missing) == len(found.table.subunits):
        raise InputError(
            f"{', '.join(uris)}: no chain or file is called like a subunit of the table, such as "
            f"{missing[0]!r}. Give the model that the masks were made of; where these are "
            "selections, their YAML file with --by."
        )
    return [ColouredModel(*pair) for pair in zip(models, blocks, strict=True)], missing


def _subunits(models: Sequence[AtomicModel], selection: Uri | None) -> list[Subunit]:
    if selection is not None:
        return by_selection(selection, models)
    return [*by_file(models), *by_chain(models)]


def _by_name(subunits: Sequence[Subunit], *, by_chain_alone: bool) -> dict[str, Subunit]:
    """Return subunits by all names that mean one of them only, the exact ones first."""
    exact = {one.name: one for one in subunits}
    known = {split_name(one.name)[1]: one for one in subunits if by_chain_alone} | exact
    lower = Counter(name.lower() for name in known)
    return {n.lower(): one for n, one in known.items() if lower[n.lower()] == 1} | known


def write_coloured(coloured: Sequence[ColouredModel], count: int, folder: ResultFolder) -> None:
    """Write ``blocks.cxc``, and a copy of each model beside it.

    The script names the atoms of each block ``B1``, ``B2`` and so on.
    """
    lines = ["# The model by structural block, in the colours of the heat map", "set bgColor white"]
    for number, one in enumerate(coloured, start=1):
        name = PurePosixPath(one.model.uri).name
        storage.write_bytes(folder.at("model", name), storage.read_bytes(one.model.uri))
        lines.append(f"open model/{name} id {number}")
    # cartoons of polymers; spheres of all else, such as ligands and the models of simulate
    lines += [
        "hide atoms",
        "show cartoons",
        "show ~protein & ~nucleic & ~solvent atoms",
        "style sphere",
        f"color #1-{len(coloured)} {REST}",
    ]
    colours = block_colours(count)
    for block in range(1, count + 1):
        specs = [
            f"#{number}{part}"
            for number, one in enumerate(coloured, start=1)
            for part in atom_specs(one.model, one.blocks == block)
        ]
        if specs:
            lines.append(f"name frozen B{block} {' | '.join(specs)}")
            lines.append(f"color B{block} {colours[block - 1]}")
    lines += ["lighting soft", "view", ""]
    storage.write_bytes(folder.at("blocks.cxc"), "\n".join(lines).encode())


def atom_specs(model: AtomicModel, chosen: np.ndarray) -> list[str]:
    """Return some atoms of a model as ChimeraX names them: chains, or ranges of their residues."""
    whole, parts = [], []
    for chain in model.chain_names():
        inside = model.chains == chain
        if not (chosen & inside).any():
            continue
        if chosen[inside].all():
            whole.append(chain)
            continue
        residues = np.unique(model.residues[chosen & inside])
        breaks = [0, *(np.flatnonzero(np.diff(residues) > 1) + 1).tolist(), len(residues)]
        ranges = [f"{residues[a]}-{residues[b - 1]}" for a, b in pairwise(breaks)]
        parts.append(f"/{chain}:{','.join(ranges)}")
    return [*([f"/{','.join(whole)}"] if whole else []), *parts]


def draw_models(coloured: Sequence[ColouredModel], count: int) -> Figure:
    """Draw atoms from three sides in the colours of their blocks, the farther ones paler."""
    generator = np.random.default_rng(0)
    places, blocks = [], []
    for one in coloured:
        rows = generator.permutation(len(one.blocks))[:DRAWN_ATOMS]
        places.append(one.model.positions_angstrom[rows])
        blocks.append(one.blocks[rows])
    xyz, labels = np.concatenate(places), np.concatenate(blocks)
    table = np.array([to_rgb(colour) for colour in (REST, *block_colours(count))])
    figure = Figure(figsize=(11, 4.0), layout="constrained")
    axes = figure.subplots(1, 3)
    names = "xyz"
    for axis, (across, up, deep) in zip(axes, ((0, 1, 2), (0, 2, 1), (1, 2, 0)), strict=True):
        depth = xyz[:, deep] if deep != 1 else -xyz[:, deep]  # the viewer is at the end of z or x
        order = np.argsort(depth)
        axis.scatter(
            xyz[order, across], xyz[order, up], s=3, linewidths=0, rasterized=True,
            c=_paler(table[labels[order]], depth[order]),
        )  # fmt: skip
        axis.set(aspect="equal", xlabel=f"{names[across]}, Å", ylabel=f"{names[up]}, Å")
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for block, colour in enumerate(block_colours(count), start=1):
        axes[0].scatter([], [], s=25, color=colour, label=f"B{block}")
    if not labels.all():
        axes[0].scatter([], [], s=25, color=REST, label="none")
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    return figure


def _paler(colours: Float[np.ndarray, "n 3"], depth: Float[np.ndarray, " n"]) -> np.ndarray:
    near = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
    share = (0.45 + 0.55 * near)[:, None]
    return share * colours + (1 - share)
