"""Atomic models: atoms of a PDB or mmCIF file as arrays, with chain, residue, helix and sheet.

Chains and residue numbers are the authors' (``auth_asym_id``, ``auth_seq_id``), as viewers show
them. The first of alternative positions is used, and the first of several models. Water and ions
belong to their chain, as in ChimeraX.
"""

import gzip
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import gemmi
import numpy as np

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.shapes import Bool, Float, Int

log = logging.getLogger(__name__)

PDB_SUFFIXES, CIF_SUFFIXES = (".pdb", ".ent"), (".cif", ".mmcif")
MODEL_SUFFIXES = PDB_SUFFIXES + CIF_SUFFIXES
CARBON = 6
HELIX, SHEET = 1, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class AtomicModel:
    """Atoms of one file, in its order."""

    uri: Uri
    name: str
    """Of the file, without its suffix."""

    positions_angstrom: Float[np.ndarray, "n 3"]
    """x, y, z."""

    atomic_numbers: Int[np.ndarray, " n"]
    chains: np.ndarray
    """Chain of each atom, text."""

    residues: Int[np.ndarray, " n"]
    secondary: Int[np.ndarray, " n"]
    """1 within a helix, 2 within a strand of a sheet, else 0."""

    elements: Int[np.ndarray, " n"]
    """Number, from 1 in the order of the file, of the helix or sheet; else 0."""

    def chain_names(self) -> list[str]:
        """Return the chains in the order of the file."""
        return list(dict.fromkeys(self.chains.tolist()))

    def chimerax(self, chosen: Bool[np.ndarray, " n"]) -> str:
        """Return some atoms as ChimeraX specifies them: whole chains, or ranges of their residues.

        Ranges go over gaps of the numbering, where the file has no residue between.
        """
        whole, parts = [], []
        for chain in self.chain_names():
            inside = self.chains == chain
            if not (chosen & inside).any():
                continue
            if chosen[inside].all():
                whole.append(chain)
                continue
            residues, listed = np.unique(self.residues[chosen & inside]), self.residues[inside]
            gaps = np.flatnonzero(np.diff(np.searchsorted(np.unique(listed), residues)) > 1) + 1
            ranges = [
                f"{part[0]}" if len(part) == 1 else f"{part[0]}-{part[-1]}"
                for part in np.split(residues, gaps)
            ]
            parts.append(f"/{chain}:{','.join(ranges)}")
        return " ".join([*([f"/{','.join(whole)}"] if whole else []), *parts])


def is_model(uri: Uri) -> bool:
    """Return whether a file has the name of an atomic model."""
    return PurePosixPath(_without_gz(uri)).suffix.lower() in MODEL_SUFFIXES


def read_model(uri: Uri) -> AtomicModel:
    """Read a PDB or mmCIF file, ``.gz`` too.

    Raises:
        InputError: If it is neither, or has no atoms.
    """
    structure = _parse(uri)
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError(f"{uri} contains no atoms.")
    if len(structure) > 1:
        log.info("%s contains %d models: the first one is used", uri, len(structure))
    structure.remove_alternative_conformations()
    rows = [
        (atom.pos.tolist(), atom.element.atomic_number, chain.name, residue.seqid.num)
        for chain in structure[0]
        for residue in chain
        for atom in residue
    ]
    positions, numbers, chains, residues = (list(column) for column in zip(*rows, strict=True))
    found = np.array(numbers)
    if (found == 0).any():
        log.warning(
            "%s: %d atoms of unknown element are treated as carbon", uri, (found == 0).sum()
        )
        found[found == 0] = CARBON
    xyz = np.array(positions, dtype=np.float64)
    if not np.isfinite(xyz).all():
        raise InputError(f"{uri} has coordinates that are not finite.")
    chain_of, residue_of = np.array(chains, dtype=object), np.array(residues)
    secondary, elements = _secondary(structure, chain_of, residue_of)
    return AtomicModel(
        uri=uri,
        name=PurePosixPath(_without_gz(uri)).stem,
        positions_angstrom=xyz,
        atomic_numbers=found,
        chains=chain_of,
        residues=residue_of,
        secondary=secondary,
        elements=elements,
    )


def write_moved(
    uri: Uri,
    out: Uri,
    *,
    rotation: Float[np.ndarray, "3 3"],
    shift_angstrom: Float[np.ndarray, "3"],
) -> None:
    """Write a model after the motion x → R x + shift, all else of it as it is.

    Args:
        uri: The model.
        out: Where to write it, as PDB or mmCIF by its suffix.
        rotation: R.
        shift_angstrom: The shift, after the rotation.
    """
    structure = _parse(uri)
    motion = gemmi.Transform(gemmi.Mat33(rotation.tolist()), gemmi.Vec3(*shift_angstrom.tolist()))
    for model in structure:
        model.transform_pos_and_adp(motion)
    if PurePosixPath(out).suffix.lower() in CIF_SUFFIXES:
        text = structure.make_mmcif_document().as_string()
    else:
        text = structure.make_pdb_string()
    storage.write_bytes(out, text.encode())


def fitted_name(uri: Uri) -> str:
    """Return what the file of a model that was moved is called: as the model, not compressed."""
    return PurePosixPath(_without_gz(uri)).name


def model_places(names: Sequence[str]) -> list[str]:
    """Return where models lie in a folder of results: in folders by number if names repeat."""
    return [
        f"model/{name}" if names.count(name) == 1 else f"model/{number}/{name}"
        for number, name in enumerate(names, start=1)
    ]


def _without_gz(uri: Uri) -> Uri:
    return uri.removesuffix(".gz")


def _parse(uri: Uri) -> Any:
    suffix = PurePosixPath(_without_gz(uri)).suffix.lower()
    content = storage.read_bytes(uri)
    try:
        text = (gzip.decompress(content) if uri.endswith(".gz") else content).decode(
            errors="replace"
        )
        if suffix in CIF_SUFFIXES:
            blocks = gemmi.cif.read_string(text)
            block = next((b for b in blocks if b.find_values("_atom_site.Cartn_x")), blocks[0])
            return gemmi.make_structure_from_block(block)
        return gemmi.read_pdb_string(text)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{uri} is not a whole gzip file: {error}. Copy it again.") from error
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"{uri} cannot be read as an atomic model: {error}.") from error


def _secondary(
    structure: Any, chains: np.ndarray, residues: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return the kind and number of the helix or sheet that the file puts each atom in."""
    kinds, numbers = np.zeros(len(residues), dtype=np.int64), np.zeros(len(residues), np.int64)
    stretches = [
        *((HELIX, n, helix.start, helix.end) for n, helix in enumerate(structure.helices, 1)),
        *(
            (SHEET, n, strand.start, strand.end)
            for n, sheet in enumerate(structure.sheets, 1)
            for strand in sheet.strands
        ),
    ]
    for kind, number, start, end in stretches:
        first, last = start.res_id.seqid.num, end.res_id.seqid.num
        inside = (chains == start.chain_name) & (residues >= first) & (residues <= last)
        kinds[inside], numbers[inside] = kind, number
    return kinds, numbers
