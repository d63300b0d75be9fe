"""A phantom as an atomic model, in the frame of its maps: a PDB file whose chains are subunits.

A phantom's atom is a blob of σ 5 Å; here it is a residue of carbon atoms, scattered so that at 10 Å
resolution (σ 2.25 Å each, ChimeraX's molmap) they make up that blob. There are as many of them as
atoms in as much protein: 94,000 in the assembly, 1.3 MDa.
"""

import string

import gemmi
import numpy as np
import yaml

from raydrgn.simulation.ensemble import FIELD_ANGSTROM
from raydrgn.simulation.phantom import ATOM_SIGMA_ANGSTROM, Phantom

ATOMS_PER_RESIDUE = 100
MODEL_RESOLUTION_ANGSTROM = 10.0
MODEL_FILES = MODEL_NAME, SUBUNITS_NAME, COMPOSITION_NAME = (
    "model.pdb",
    "subunits.yaml",
    "composition.csv",
)


def model_files(phantom: Phantom, *, box: int) -> dict[str, str]:
    """Return name and content of the files that describe a phantom's subunits.

    Args:
        phantom: At rest, with all of its subunits.
        box: Of the maps, whose first voxel is at (0, 0, 0) Å.
    """
    chains = dict(zip((s.name for s in phantom.subunits), string.ascii_uppercase, strict=False))
    names = list(chains)
    rows = [
        f"{state.name},{','.join(str(int(name in state.subunits)) for name in names)}\n"
        for state in phantom.states
    ]
    return {
        MODEL_NAME: _pdb(phantom, chains, centre_angstrom=box // 2 * FIELD_ANGSTROM / box),
        SUBUNITS_NAME: yaml.safe_dump(chains, sort_keys=False),
        COMPOSITION_NAME: f"state,{','.join(names)}\n{''.join(rows)}",
    }


def _pdb(phantom: Phantom, chains: dict[str, str], *, centre_angstrom: float) -> str:
    own = MODEL_RESOLUTION_ANGSTROM / (np.pi * np.sqrt(2))
    spread = np.sqrt(ATOM_SIGMA_ANGSTROM**2 - own**2)
    structure, model = gemmi.Structure(), gemmi.Model(1)
    structure.name = "PHANTOM"
    for number, name in enumerate(chains):
        chain = gemmi.Chain(chains[name])
        blobs = phantom.subunit_atoms(number, angle_deg=phantom.rest_deg) + centre_angstrom
        generator = np.random.default_rng(number)
        for place, blob in enumerate(blobs, start=1):
            residue = gemmi.Residue()
            residue.name, residue.seqid = "UNK", gemmi.SeqId(place, " ")
            residue.entity_type = gemmi.EntityType.Polymer
            scatter = generator.normal(0, spread, (ATOMS_PER_RESIDUE, 3))
            for atom_number, xyz in enumerate(blob + scatter - scatter.mean(axis=0), start=1):
                atom = gemmi.Atom()
                atom.name, atom.element = f"C{atom_number}", gemmi.Element("C")
                atom.pos = gemmi.Position(*xyz)
                residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
    structure.add_model(model)
    structure.raw_remarks = [
        f"REMARK   1 chain {letter}: {name}".ljust(80) for name, letter in chains.items()
    ]
    return str(structure.make_pdb_string())
