"""Masks of atomic models: densities as ChimeraX makes them, selections, and models elsewhere."""

import gzip
import json
import math

import gemmi
import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from phantoms import patch, write_mrc
from raydrgn.cli.main import app
from raydrgn.errors import ConfigError, InputError, RaydrgnError
from raydrgn.io.mrc import read_header, read_volume
from raydrgn.occupancy.atomic_models import read_model
from raydrgn.occupancy.molmap import density_of_atoms
from raydrgn.occupancy.options import MaskOptions
from raydrgn.occupancy.selection import by_chain, by_selection
from raydrgn.occupancy.table import OccupancyTable
from subunit_files import BOX

PIXEL = 4.0
CHAINS = {"A": (10, 12, 14), "a": (34, 12, 20), "LA": (20, 34, 30)}
"""Centres, Å, of chains with one letter, a small one, and two."""


def write_model(path, *, moved=(0, 0, 0), chains=CHAINS):
    """Write chains of ten residues, the first five of which are a helix; return the path."""
    structure = gemmi.Structure()
    model = gemmi.Model(1)
    generator = np.random.default_rng(0)
    for name, centre in chains.items():
        chain = gemmi.Chain(name)
        for number in range(1, 11):
            residue = gemmi.Residue()
            residue.name, residue.seqid = "ALA", gemmi.SeqId(number, " ")
            residue.entity_type = gemmi.EntityType.Polymer
            residue.subchain = name
            atom = gemmi.Atom()
            atom.name, atom.element = "CA", gemmi.Element("C")
            place = np.array(centre) + np.array(moved) + generator.normal(0, 2, 3)
            atom.pos = gemmi.Position(*place)
            residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    for name in chains:
        helix = gemmi.Helix()
        for end, number in ((helix.start, 1), (helix.end, 5)):
            end.chain_name, end.res_id.seqid = name, gemmi.SeqId(number, " ")
            end.res_id.name = "ALA"
        helix.pdb_helix_class = gemmi.Helix.HelixClass.RAlpha
        structure.helices.append(helix)
    if path.suffix == ".pdb":
        structure.write_pdb(str(path))
    else:
        structure.make_mmcif_document().write_file(str(path))
    return path


def write_map(path, model, *, origin=(0, 0, 0)):
    """Write the density of a whole model as a map; return the path."""
    found = read_model(str(model))
    volume = density_of_atoms(
        found.positions_angstrom - np.array(origin),
        found.atomic_numbers,
        resolution_angstrom=10.0,
        box=BOX,
        pixel_size_angstrom=PIXEL,
    )
    write_mrc(path, volume, pixel_size=PIXEL, volume=True)
    with mrcfile.open(path, "r+") as mrc:
        mrc.header.origin.x, mrc.header.origin.y, mrc.header.origin.z = origin
    return path


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["occupancy", "masks", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def names(folder):
    return sorted(p.stem.removeprefix("Mask_") for p in (folder / "masks").iterdir())


def test_atoms_far_from_the_map_leave_its_density_as_it_is():
    near = np.random.default_rng(0).uniform(5, 35, (20, 3))
    far = np.array([[9999.0, 9999, 9999], [20, 20, -500]])  # as some programs mark what is missing
    given = {"resolution_angstrom": 8.0, "box": 40, "pixel_size_angstrom": 1.0}
    alone = density_of_atoms(near, np.full(20, 6), **given)
    both = density_of_atoms(np.concatenate([near, far]), np.full(22, 6), **given)
    np.testing.assert_array_equal(both, alone)
    assert not density_of_atoms(far, np.full(2, 6), **given).any()


def test_the_density_of_an_atom_holds_its_electrons_around_its_place():
    place = np.array([[21.3, 25.2, 18.9]])
    volume = density_of_atoms(
        place, np.array([7]), resolution_angstrom=8.0, box=40, pixel_size_angstrom=1.0
    )
    assert volume.sum() == pytest.approx(7, rel=0.01)  # ChimeraX: 0.996 to 1.008
    ticks = np.arange(40)
    share = volume / volume.sum()
    centre = [(share.sum(axis=axes) * ticks).sum() for axes in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(centre, place[0], atol=0.02)
    spread = np.sqrt((share.sum(axis=(0, 1)) * (ticks - place[0, 0]) ** 2).sum())
    # σ of the Gaussian, and what linear interpolation over a third of the resolution adds
    assert spread == pytest.approx(np.hypot(8 / (np.pi * np.sqrt(2)), 8 / 3 / np.sqrt(6)), rel=0.03)


def test_densities_and_masks_of_chimerax_and_relion_are_reproduced(real_maps, tmp_path):
    folder = real_maps[0].parent
    run(folder / "prots1.pdb", "--map", real_maps[4], "-o", tmp_path)
    for expected in (folder / "reference").glob("*.mrc"):
        stem, chain = expected.stem[:-1], expected.stem[-1].upper()
        found, _ = read_volume(str(tmp_path / f"reference/{stem}{chain}.mrc"))
        np.testing.assert_allclose(found, read_volume(str(expected))[0], rtol=0, atol=1e-5)
        mask, _ = read_volume(str(tmp_path / f"masks/Mask_{stem}{chain}.mrc"))
        theirs, _ = read_volume(str(folder / f"masks/Mask_{expected.stem}.mrc"))
        assert 2 * (mask * theirs).sum() / (mask + theirs).sum() > 0.99
    out = tmp_path / "scores"
    score = ["occupancy", "score", "--volumes", folder, "--masks", tmp_path, "-o", out]
    assert CliRunner().invoke(app, list(map(str, score))).exit_code == 0
    scored, theirs = (
        OccupancyTable.read(str(place)) for place in (out, folder / "occupancies_expected.csv")
    )
    rows = [scored.volumes.index(name) for name in theirs.volumes]
    columns = [scored.labels.index(label.upper()) for label in theirs.labels]
    np.testing.assert_allclose(scored.values[np.ix_(rows, columns)], theirs.values, rtol=1e-4)


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
def test_each_chain_is_a_subunit_whatever_its_letters(tmp_path, suffix):
    model = write_model(tmp_path / f"m.{suffix}")
    run(model, "--map", write_map(tmp_path / "map.mrc", model), "-o", tmp_path / "out")
    assert names(tmp_path / "out") == ["m_chainA", "m_chainLA", "m_chaina"]
    for chain, centre in CHAINS.items():
        density, _ = read_volume(str(tmp_path / f"out/reference/m_chain{chain}.mrc"))
        peak = np.unravel_index(density.argmax(), density.shape)[::-1]
        assert np.linalg.norm(np.array(peak) * PIXEL - centre) < 2 * PIXEL
    listed = json.loads((tmp_path / "out/subunits.json").read_text())["subunits"]
    assert [one["parts"][0]["chimerax"] for one in listed] == ["/A", "/a", "/LA"]


def test_packed_models_and_other_files_hold_the_same_atoms(tmp_path):
    model = write_model(tmp_path / "m.pdb")
    (tmp_path / "p.pdb.gz").write_bytes(gzip.compress(model.read_bytes()))
    plain, packed, cif = (
        read_model(str(path))
        for path in (model, tmp_path / "p.pdb.gz", write_model(tmp_path / "m.cif"))
    )
    for other in (packed, cif):
        np.testing.assert_allclose(other.positions_angstrom, plain.positions_angstrom, atol=2e-3)
        assert other.chains.tolist() == plain.chains.tolist()
        np.testing.assert_array_equal(other.secondary, plain.secondary)
    assert packed.name == "p"


@pytest.mark.parametrize("damage", ["cut", "changed", "no gzip"])
def test_packed_models_that_are_damaged_are_refused(tmp_path, damage):
    packed = gzip.compress(write_model(tmp_path / "m.pdb").read_bytes())
    middle = len(packed) // 2
    changed = packed[:middle] + bytes(16) + packed[middle + 16 :]
    contents = {"cut": packed[:middle], "changed": changed, "no gzip": b"ATOM"}
    (tmp_path / "p.pdb.gz").write_bytes(contents[damage])
    with pytest.raises(InputError, match=r"p\.pdb\.gz is not a whole gzip file"):
        read_model(str(tmp_path / "p.pdb.gz"))


def test_selections_take_chains_residues_and_helices(tmp_path):
    model = read_model(str(write_model(tmp_path / "m.cif")))
    said = tmp_path / "s.yaml"
    said.write_text(
        "one: A\nrange: LA:2-4,9\nboth: [a, 'A:1-3']\n"
        "map: {chains: [A, a], residues: [1-2, 10]}\n"
        "helix: {chain: a, secondary: helix}\nthird: {helices: 3, residues: 4-8}\n"
    )
    found = {one.name: one for one in by_selection(str(said), [model])}
    atoms = {name: [int(c.sum()) for _, c in one.parts] for name, one in found.items()}
    assert atoms == {
        "one": [10], "range": [4], "both": [13], "map": [6], "helix": [5], "third": [2],
    }  # fmt: skip
    [(_, chosen)] = found["third"].parts
    assert set(model.chains[chosen]) == {"LA"}
    assert set(model.residues[chosen]) == {4, 5}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("x: B", r"s.yaml, x: there is no chain 'B'. Chains are A, a, LA"),
        ("x: A:50-60", r"x: .* selects no atoms"),
        ("x: {chain: A, residue: 1-5}", r"unknown key 'residue'. Known keys: .*residues"),
        ("x: A:9-2", r"9-2 ends before it begins"),
        ("x: {chain: A, secondary: coil}", r"secondary is 'coil'; known: helix, sheet"),
        ("a/b: A", r"cannot be the name"),
        ("x: A\nx: a", r"the key 'x' is given twice"),
        ("x: []", r"x: \[\] is not a selection"),
        ("- A", r"should name subunits"),
        ("x: [A", r"is not YAML"),
    ],
)
def test_selections_that_say_nothing_are_refused(tmp_path, said, message):
    model = read_model(str(write_model(tmp_path / "m.cif")))
    (tmp_path / "s.yaml").write_text(said)
    with pytest.raises(RaydrgnError, match=message):
        by_selection(str(tmp_path / "s.yaml"), [model])


@pytest.mark.parametrize(
    "given",
    [
        {"resolution_angstrom": 0.0},
        {"resolution_angstrom": math.inf},
        {"threshold": -1.0},
        {"threshold": math.nan},
        {"extend_angstrom": math.inf},
        {"soft_angstrom": -1.0},
    ],
)
def test_lengths_and_thresholds_that_are_none_are_refused(given):
    with pytest.raises(ConfigError, match=f"--{next(iter(given)).split('_')[0]} must be"):
        MaskOptions(**given)


def test_names_that_tables_and_files_cannot_have_are_refused(tmp_path):
    model = write_model(tmp_path / "m.cif")
    base = ("--map", write_map(tmp_path / "map.mrc", model), "-o", tmp_path / "out")
    (tmp_path / "other").mkdir()
    same = write_model(tmp_path / "other" / "m.cif")
    with pytest.raises(InputError, match="two subunits named 'm_chainA'"):
        run(model, same, *base)
    (tmp_path / "s.yaml").write_text("z1: A")
    with pytest.raises(InputError, match="cannot be named 'z1'"):
        run(model, *base, "--by", tmp_path / "s.yaml")
    slash = write_model(tmp_path / "slash.cif", chains={"A/B": CHAINS["A"]})
    with pytest.raises(ConfigError, match=r"'slash_chainA/B' cannot be .*--by"):
        run(slash, *base)
    with pytest.raises(ConfigError, match="--origin takes finite numbers"):
        run(model, *base, "--origin", "1,2,nan")
    assert not (tmp_path / "out").exists()


def test_model_and_map_have_one_frame_wherever_its_origin_is(tmp_path, caplog):
    here = write_model(tmp_path / "here.pdb")
    there = write_model(tmp_path / "there.pdb", moved=(100, -40, 7))
    run(here, "--map", write_map(tmp_path / "0.mrc", here), "-o", tmp_path / "0")
    away = write_map(tmp_path / "1.mrc", there, origin=(100, -40, 7))
    patch(away, 212, bytes(4))  # the machine stamp
    run(there, "--map", away, "-o", tmp_path / "1")
    assert not caplog.records
    for chain in CHAINS:
        one, two = (
            read_volume(str(tmp_path / f"{n}/masks/Mask_{name}_chain{chain}.mrc"))
            for n, name in ((0, "here"), (1, "there"))
        )
        np.testing.assert_array_equal(one[0], two[0])
        assert two[1].origin_angstrom == (100, -40, 7)


def test_the_start_of_a_map_is_its_origin_where_that_is_zero(tmp_path):
    path = write_mrc(tmp_path / "m.mrc", np.ones((4, 4, 4), np.float32), pixel_size=2, volume=True)
    with mrcfile.open(path, "r+") as mrc:
        mrc.nstart = (-2, 0, 3)
    assert read_header(path).origin_angstrom == (-4, 0, 6)
    with mrcfile.open(path, "r+") as mrc:
        mrc.header.origin.x = np.nan
    assert read_header(path).origin_angstrom == (-4, 0, 6)
    with mrcfile.open(path, "r+") as mrc:
        mrc.header.origin = (5, 6, 7)
    assert read_header(path).origin_angstrom == (5, 6, 7)


START = (-16, 0, 3)
ORIGIN = tuple(PIXEL * voxels for voxels in START)


def started_map(path, model, *, header_angstrom):
    """Write a map with its start in voxels, and a wrong pixel size."""
    write_map(path, model, origin=ORIGIN)
    with mrcfile.open(path, "r+") as mrc:
        mrc.voxel_size = header_angstrom
        mrc.header.origin = (0, 0, 0)
        mrc.nstart = START
    return path


@pytest.mark.parametrize("header_angstrom", [1.0, 0.0])
def test_the_start_of_a_map_counts_in_voxels_of_the_size_that_is_given(tmp_path, header_angstrom):
    """Masks lie where those of a map do that has the right pixel size and the origin in Å."""
    model = write_model(tmp_path / "m.pdb", moved=ORIGIN)
    right = write_map(tmp_path / "right.mrc", model, origin=ORIGIN)
    wrong = started_map(tmp_path / "wrong.mrc", model, header_angstrom=header_angstrom)
    run(model, "--map", right, "-o", tmp_path / "0")
    run(model, "--map", wrong, "--pixel-size", PIXEL, "-o", tmp_path / "1")
    for chain in CHAINS:
        name = f"masks/Mask_m_chain{chain}.mrc"
        one, two = (read_volume(str(tmp_path / folder / name)) for folder in "01")
        np.testing.assert_array_equal(one[0], two[0])
        assert two[1].origin_angstrom == ORIGIN


def test_a_model_is_fitted_to_a_map_by_its_start_in_voxels_of_the_size_that_is_given(tmp_path):
    model = write_model(tmp_path / "m.pdb", moved=ORIGIN)
    wrong = started_map(tmp_path / "wrong.mrc", model, header_angstrom=0.0)
    run(model, "--map", wrong, "--pixel-size", PIXEL, "--fit", "-o", tmp_path / "out")
    fitted = read_model(str(tmp_path / "out" / "model" / "m.pdb"))
    places = read_model(str(model)).positions_angstrom
    np.testing.assert_allclose(fitted.positions_angstrom, places, atol=0.5)


def test_a_model_outside_the_map_is_refused_with_its_distance(tmp_path, caplog):
    model = write_model(tmp_path / "m.pdb")
    density = write_map(tmp_path / "map.mrc", model, origin=(-300, 0, 0))
    with pytest.raises(InputError, match=r"30 of 30 atoms lie outside .*with --origin 0,0,0"):
        run(model, "--map", density, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shifted = write_map(tmp_path / "2.mrc", model)
    run(model, "--map", shifted, "-o", tmp_path / "2", "--origin=-12,0,0")
    assert "moved by (-12, 0, 0) Å" in caplog.text


def test_masks_grow_by_whole_pixels_and_soften(tmp_path):
    model = write_model(tmp_path / "m.pdb", chains={"A": (24, 24, 24)})
    density = write_map(tmp_path / "map.mrc", model)
    sums = []
    for number, more in enumerate(([], ["--extend", 4], ["--extend", 4, "--soft", 8])):
        run(model, "--map", density, "-o", tmp_path / f"{number}", *more)
        mask, _ = read_volume(str(tmp_path / f"{number}/masks/Mask_m_chainA.mrc"))
        sums.append(mask)
    assert set(np.unique(sums[1])) == {0, 1}
    assert (sums[1] >= sums[0]).all()
    assert sums[1].sum() > sums[0].sum()
    np.testing.assert_array_equal(sums[2] == 1, sums[1] == 1)
    assert ((sums[2] > 0) & (sums[2] < 1)).any()


def test_empty_masks_and_strange_requests_are_refused(tmp_path):
    model = write_model(tmp_path / "m.pdb")
    density = write_map(tmp_path / "map.mrc", model)
    with pytest.raises(InputError, match="mask of m_chainA is empty"):
        run(model, "--map", density, "-o", tmp_path / "a", "--threshold", 9)
    with pytest.raises(ConfigError, match="--by is chain, file"):
        run(model, "--map", density, "-o", tmp_path / "b", "--by", "residue")
    with pytest.raises(ConfigError, match="not both"):
        run(model, density, "--map", density, "-o", tmp_path / "c")
    (tmp_path / "e.pdb").write_text("END\n")
    with pytest.raises(InputError, match=r"e.pdb contains no atoms"):
        run(tmp_path / "e.pdb", "--map", density, "-o", tmp_path / "d")


def test_a_map_can_be_a_subunit(tmp_path):
    model = write_model(tmp_path / "m.pdb")
    density = write_map(tmp_path / "whole.mrc", model)
    run(density, "--map", density, "-o", tmp_path / "out")
    assert names(tmp_path / "out") == ["whole"]
    mask, _ = read_volume(str(tmp_path / "out/masks/Mask_whole.mrc"))
    volume, _ = read_volume(str(density))
    np.testing.assert_array_equal(mask > 0, volume >= np.percentile(volume, 99.99) / 2)
    write_mrc(tmp_path / "zero.mrc", np.zeros_like(volume), pixel_size=PIXEL, volume=True)
    with pytest.raises(InputError, match=r"the threshold is half of the 99\.99th"):
        run(tmp_path / "zero.mrc", "--map", density, "-o", tmp_path / "none")


def test_a_map_with_the_wrong_pixel_size_of_the_grid_can_be_a_subunit(tmp_path):
    density = write_map(tmp_path / "whole.mrc", write_model(tmp_path / "m.pdb"))
    run(density, "--map", density, "--pixel-size", 5, "-o", tmp_path / "out")
    header = read_header(str(tmp_path / "out/masks/Mask_whole.mrc"))
    assert header.pixel_size_angstrom == 5
    other = tmp_path / "other.mrc"
    write_mrc(other, read_volume(str(density))[0], pixel_size=6.0, volume=True)
    with pytest.raises(InputError, match=r"px of 6 Å, but .*whole.mrc has 12 px of 5 Å"):
        run(other, "--map", density, "--pixel-size", 5, "-o", tmp_path / "none")


def test_chains_are_listed_in_the_order_of_the_file(tmp_path):
    model = read_model(str(write_model(tmp_path / "m.cif")))
    assert [one.name for one in by_chain([model])] == ["m_chainA", "m_chaina", "m_chainLA"]
