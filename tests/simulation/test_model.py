"""The phantom's atomic model: in the frame of the maps, its density that of the phantom."""

import csv
import io

import numpy as np
import yaml

from raydrgn.occupancy.atomic_models import read_model
from raydrgn.occupancy.molmap import density_of_atoms
from raydrgn.simulation.model import model_files
from raydrgn.simulation.phantom import ASSEMBLY, render

BOX = 48
PIXEL = 340 / BOX


def test_the_density_of_each_chain_is_that_of_the_subunit(tmp_path):
    files = model_files(ASSEMBLY, box=BOX)
    path = tmp_path / "model.pdb"
    path.write_text(files["model.pdb"])
    model = read_model(str(path))
    chains = yaml.safe_load(files["subunits.yaml"])
    for number, subunit in enumerate(ASSEMBLY.subunits):
        own = model.chains == chains[subunit.name]
        density = density_of_atoms(
            model.positions_angstrom[own],
            model.atomic_numbers[own],
            resolution_angstrom=10.0,
            box=BOX,
            pixel_size_angstrom=PIXEL,
        )
        atoms = ASSEMBLY.subunit_atoms(number, angle_deg=ASSEMBLY.rest_deg)
        expected = render(atoms, box=BOX, pixel_size_angstrom=PIXEL)
        assert np.corrcoef(density.ravel(), expected.ravel())[0, 1] > 0.985


def test_the_composition_says_which_state_has_which_subunit():
    rows = list(csv.DictReader(io.StringIO(model_files(ASSEMBLY, box=BOX)["composition.csv"])))
    for state, row in zip(ASSEMBLY.states, rows, strict=True):
        assert row.pop("state") == state.name
        assert {name for name, there in row.items() if there == "1"} == set(state.subunits)
