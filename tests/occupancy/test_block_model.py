"""The model by block: atoms of subunits under any name, and what ChimeraX is told."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from planted import planted_table
from raydrgn.errors import InputError
from raydrgn.occupancy.atomic_models import read_model
from raydrgn.occupancy.block_model import BlockModel, block_models, write_script
from raydrgn.occupancy.classes import find_classes
from raydrgn.occupancy.options import ClassOptions
from raydrgn.occupancy.table import OccupancyTable
from raydrgn.reporting.result_folder import ResultFolder

ATOM = (
    "ATOM  {n:5d}  CA  ALA {chain}{residue:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
    "  1.00  0.00           C\n"
)


def model_file(path, chains):
    """Write a model of one atom per residue; chains are letters with their residues."""
    lines, number = [], 0
    for chain, residues in chains.items():
        for residue in residues:
            number += 1
            lines.append(
                ATOM.format(n=number, chain=chain, residue=residue, x=number, y=0.0, z=0.0)
            )
    path.write_text("".join(lines) + "END\n")
    return str(path)


def blocks_of(names):
    """Return clustered occupancies of four subunits, the first two in one block."""
    table, *_ = planted_table(60, noise=0.05)
    table = OccupancyTable(
        volumes=table.volumes, subunits=tuple(names), values=table.values[:, [6, 7, 20, 21]]
    )
    return find_classes(table, ClassOptions(blocks=2))


@pytest.mark.parametrize(
    "names",
    [
        ["ribo_chaina", "ribo_chainb", "ribo_chainC", "ribo_chainD"],
        ["old_chaina", "old_chainb", "old_chainC", "old_chainD"],  # the file was renamed
        ["old_chainA", "old_chainB", "old_chainc", "old_chaind"],  # MAVEn's lower case
        ["a", "b", "C", "D"],
    ],
)
def test_subunits_are_chains_of_the_model(tmp_path, names):
    chains = {"a": range(1, 4), "b": range(1, 3), "C": range(1, 3), "D": range(1, 2), "E": [1]}
    found = blocks_of(names)
    [one], missing = block_models(found, [model_file(tmp_path / "ribo.pdb", chains)])
    assert missing == []
    first, second = found.blocks.labels[0], found.blocks.labels[2]
    assert first != second
    assert one.blocks.tolist() == [first] * 5 + [second] * 3 + [0]


def test_case_counts_where_chains_differ_by_it(tmp_path):
    found = blocks_of(["m_chaina", "m_chainb", "m_chainA", "m_chainB"])
    chains = {"a": [1], "b": [1], "A": [1], "B": [1]}
    [one], _ = block_models(found, [model_file(tmp_path / "m.pdb", chains)])
    assert one.blocks.tolist() == found.blocks.labels.tolist()


def test_models_of_one_name_and_names_with_spaces_are_opened(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    uris = [
        model_file(tmp_path / "one" / "m.pdb", {"A": [1]}),
        model_file(tmp_path / "two" / "m.pdb", {"B": [1, 2]}),
        model_file(tmp_path / "my model; 2.pdb", {"C": [1]}),
    ]
    models = [
        BlockModel(read_model(uri), np.ones(len(read_model(uri).chains), dtype=np.int64))
        for uri in uris
    ]
    write_script(models, 1, ResultFolder(str(tmp_path / "out")))
    script = (tmp_path / "out" / "blocks.cxc").read_text().splitlines()
    opened = [shlex.split(line)[1] for line in script if line.startswith("open ")]
    assert opened == ["model/1/m.pdb", "model/2/m.pdb", "model/my model; 2.pdb"]
    for uri, file in zip(uris, opened, strict=True):
        assert (tmp_path / "out" / file).read_bytes() == Path(uri).read_bytes()


def test_a_model_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"m\.pdb: no chain or file has the name of .*'uL1'"):
        block_models(
            blocks_of(["uL1", "uL2", "bL9", "bL20"]), [model_file(tmp_path / "m.pdb", {"A": [1]})]
        )


def test_atoms_are_whole_chains_or_ranges_of_residues(tmp_path):
    chains = {"a": range(1, 5), "B": [1, 2, 3, 7, 8], "c": [1]}
    model = read_model(model_file(tmp_path / "m.pdb", chains))
    chosen = (model.chains != "B") | np.isin(model.residues, [2, 3, 8])
    assert model.chimerax(chosen) == "/a,c /B:2-3,8"
    assert model.chimerax(chosen | (model.residues == 7)) == "/a,c /B:2-8"  # none lies between
    assert model.chimerax(np.zeros(len(chosen), dtype=bool)) == ""
