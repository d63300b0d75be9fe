"""Selections given back: what goes out and comes in again is the same table."""

import logging

import mrcfile
import numpy as np
import numpy.lib.recfunctions
import pytest

from raydrgn.errors import ConfigError, InputError
from raydrgn.geometry.rotations import from_axis_angle, random_rotations, to_axis_angle
from raydrgn.io import cryodrgn, originals, selection
from raydrgn.io.cryosparc import read_cryosparc
from raydrgn.io.imaging import Imaging
from raydrgn.io.matching import find_numbers
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.io.passthrough import read_rows
from raydrgn.io.relion import read_relion
from raydrgn.io.sources import open_particles, to_ctf, to_poses
from raydrgn.io.starrows import read_text_star
from raydrgn.io.verification import same_ctf, same_poses
from star_and_cs import BOX, COUNT, source, star_text, write_ind


@pytest.mark.parametrize("kind", ["pkl", "npy", "txt"])
def test_rows_go_out_as_they_came_in_the_order_asked_for(kind, folder):
    out = str(folder / "out.star")
    ind = write_ind(folder, [7, 2, 2, 11], kind)
    assert selection.export_star(source(folder, ind=ind), out) == 4
    before, after = read_text_star(str(folder / "in.star")), read_text_star(out)
    rows = before.particles().rows
    assert after.particles().rows == [rows[7], rows[2], rows[2], rows[11]]
    assert after.particles().columns == before.particles().columns
    assert after.preamble == before.preamble
    assert after.block("general").head == before.block("general").head
    assert after.block("optics").cells("rlnOpticsGroup") == ["1", "2"]  # those in use
    again = open_particles(source(folder, "out.star"))
    expected = open_particles(source(folder)).select(np.array([7, 2, 2, 11]))
    for name in (*CTF_COLUMNS, "rotation", "shift_angstrom", "slice", "pixel_size_angstrom"):
        np.testing.assert_array_equal(again.column(name), expected.column(name))


def test_the_tables_of_bodies_follow_the_particles(folder):
    """Multi-body refinement has a block for each body, whose rows RELION matches by number."""
    cells = "".join(f"{i} {2 * i}\n" for i in range(COUNT))
    body = f"data_images_body_1\n\nloop_\n_rlnAngleRot #1\n_rlnOriginX #2\n{cells}\n"
    (folder / "in.star").write_text(star_text() + body)
    ind = write_ind(folder, [7, 2, 11])
    selection.export_star(source(folder, ind=ind), str(folder / "out.star"))
    after = read_text_star(str(folder / "out.star")).block("images_body_1")
    assert after.rows == ["7 14", "2 4", "11 22"]
    (folder / "in.star").write_text(star_text() + body.replace("3 6\n", ""))
    with pytest.raises(InputError, match="images_body_1 has 11 rows, but there are 12 particles"):
        selection.export_star(source(folder, ind=ind), str(folder / "out.star"))


def test_the_whole_file_is_the_same_text(folder):
    selection.export_star(source(folder), str(folder / "out.star"))
    text = star_text().replace("3 unused 1.5 8 300 2.7 0.1\n", "")
    assert (folder / "out.star").read_text() == text


def test_a_table_that_was_read_from_a_star_file_gives_its_rows(folder, caplog):
    table = open_particles(source(folder)).select(np.array([5, 3]))
    table.write(str(folder / "t.parquet"))
    (folder / "far").mkdir()
    with caplog.at_level(logging.INFO, logger="raydrgn"):
        selection.export_star(source(folder, "t.parquet"), str(folder / "far" / "out.star"))
    rows = read_text_star(str(folder / "in.star")).particles().rows
    out = read_text_star(str(folder / "far" / "out.star"))
    assert out.particles().rows == [rows[5], rows[3]]
    # image names are kept, since they lead to the same stack from the folder below
    again = open_particles(source(folder / "far", "out.star"))
    assert again.stacks == table.stacks
    assert not caplog.text


def test_other_poses_are_written_over_the_old_ones_only(folder):
    table = open_particles(source(folder))
    turned = random_rotations(COUNT, generator=np.random.default_rng(1)).astype(np.float32)
    poses = str(folder / "poses.pkl")
    shifts = np.full((COUNT, 2), 0.125, dtype=np.float32)
    cryodrgn.write_poses(poses, cryodrgn.Poses(turned, shifts))
    selection.export_star(source(folder, poses=poses), str(folder / "out.star"))
    again = open_particles(source(folder, "out.star"))
    np.testing.assert_allclose(again.rotations, turned, atol=2e-7)
    np.testing.assert_allclose(again.column("shift_angstrom"), 0.125 * BOX * 1.5, rtol=1e-6)
    for name in CTF_COLUMNS:
        np.testing.assert_array_equal(again.column(name), table.column(name))
    new, old = (read_text_star(str(folder / f)).particles() for f in ("out.star", "in.star"))
    assert new.columns == old.columns
    assert new.cells("rlnMicrographName") == old.cells("rlnMicrographName")


def test_other_ctf_is_written_where_it_fits_and_refused_where_not(folder):
    values = to_ctf(open_particles(source(folder)))
    values[:, 2] += 500
    place = str(folder / "ctf.pkl")
    cryodrgn.write_ctf(place, values)
    selection.export_star(source(folder, ctf=place), str(folder / "out.star"))
    again = open_particles(source(folder, "out.star"))
    np.testing.assert_allclose(again.column("defocus_u_angstrom"), values[:, 2])
    values[:, 5] = 200
    cryodrgn.write_ctf(place, values)
    with pytest.raises(InputError, match=r"rlnVoltage 300 in the optics group.*has 200"):
        selection.export_star(source(folder, ctf=place), str(folder / "out.star"))


def test_a_ctf_that_particles_have_of_their_own_is_written_there(folder):
    """Written into the optics groups alone, RELION would go on with the old one."""
    star = read_text_star(str(folder / "in.star"))
    own = {"rlnSphericalAberration": ["2.9"] * COUNT, "rlnVoltage": ["200"] * COUNT}
    changed = star.with_blocks(star.particles().with_columns(own))
    changed.write(str(folder / "in.star"))
    values = to_ctf(open_particles(source(folder)))
    assert set(values[:, 6]) == {np.float32(2.9)}
    values[:, 6] = 2.8
    place = str(folder / "ctf.pkl")
    cryodrgn.write_ctf(place, values)
    selection.export_star(source(folder, ctf=place), str(folder / "out.star"))
    again = open_particles(source(folder, "out.star"))
    np.testing.assert_allclose(again.column("spherical_aberration_mm"), 2.8, rtol=1e-6)
    given = read_relion(str(folder / "in.star"), imaging=Imaging(voltage_kv=300.0))
    given.write(str(folder / "given.parquet"))
    selection.export_star(source(folder, "given.parquet"), str(folder / "given.star"))
    again = open_particles(source(folder, "given.star"))
    assert set(again.column("voltage_kv")) == {300}


def test_shifts_in_pixels_stay_in_pixels(folder):
    text = star_text().replace("rlnOriginXAngst", "rlnOriginX").replace("YAngst", "Y")
    (folder / "px.star").write_text(text)
    poses = to_poses(open_particles(source(folder, "px.star")))
    place = str(folder / "poses.pkl")
    cryodrgn.write_poses(place, cryodrgn.Poses(poses.rotations, poses.shifts_fraction + 0.25))
    selection.export_star(source(folder, "px.star", poses=place), str(folder / "out.star"))
    out = read_text_star(str(folder / "out.star")).particles()
    assert "rlnOriginXAngst" not in out.columns
    expected = poses.shifts_fraction[:, 0] * BOX + 2
    np.testing.assert_allclose([float(v) for v in out.cells("rlnOriginX")], expected, atol=1e-5)


def test_a_file_with_shifts_in_both_units_has_new_ones_in_both(folder):
    """As files that were converted from RELION 3.0 have."""
    text = star_text()
    (folder / "one.star").write_text(text)
    poses = to_poses(open_particles(source(folder, "one.star")))
    star = read_text_star(str(folder / "one.star"))
    particles = star.particles()
    doubled = {f"rlnOrigin{axis}": ["7"] * len(particles.rows) for axis in "XY"}
    star.with_blocks(particles.with_columns(doubled)).write(str(folder / "both.star"))
    place = str(folder / "poses.pkl")
    cryodrgn.write_poses(place, cryodrgn.Poses(poses.rotations, poses.shifts_fraction + 0.25))
    selection.export_star(source(folder, "both.star", poses=place), str(folder / "out.star"))
    out = read_text_star(str(folder / "out.star")).particles()
    pixel_size = open_particles(source(folder, "one.star")).column("pixel_size_angstrom")
    for axis in "XY":
        angstrom, pixels = (
            np.array(out.cells(f"rlnOrigin{axis}{unit}"), dtype=float) for unit in ("Angst", "")
        )
        np.testing.assert_allclose(pixels * pixel_size, angstrom, atol=1e-4)


def test_pickles_make_a_relion_3_1_file_that_reads_as_the_same_table(folder):
    table = open_particles(source(folder))
    poses, ctf = str(folder / "poses.pkl"), str(folder / "ctf.pkl")
    cryodrgn.write_poses(poses, to_poses(table))
    cryodrgn.write_ctf(ctf, to_ctf(table))
    ind = write_ind(folder, [9, 0, 4])
    made = source(folder, "stack.mrcs", poses=poses, ctf=ctf, ind=ind)
    selection.export_star(made, str(folder / "out.star"))
    again, expected = open_particles(source(folder, "out.star")), open_particles(made)
    np.testing.assert_array_equal(again.column("slice"), [9, 0, 4])
    for name in (*CTF_COLUMNS, "shift_angstrom", "pixel_size_angstrom", "box"):
        np.testing.assert_array_equal(again.column(name), expected.column(name))
    np.testing.assert_allclose(again.rotations, expected.rotations, atol=2e-7)
    assert read_text_star(str(folder / "out.star")).block("optics") is not None


def test_cs_rows_keep_every_field_and_uid(folder, cs_rows):
    ind = write_ind(folder, [7, 2, 11])
    selection.export_cs(source(folder, "in.cs", ind=ind), str(folder / "out.cs"))
    out = read_rows(str(folder / "out.cs"))
    assert out.dtype == cs_rows.dtype
    np.testing.assert_array_equal(out, cs_rows[[7, 2, 11]])
    group = (folder / "out.csg").read_text()
    assert "metafile: '>out.cs'" in group
    assert "particle.alignments3D" in group
    assert "num_items: 3" in group


def test_uids_stay_unique(folder, cs_rows, caplog):
    ind = write_ind(folder, [7, 2, 7, 2])
    assert selection.export_cs(source(folder, "in.cs", ind=ind), str(folder / "out.cs")) == 2
    assert "2 particles are selected more than once" in caplog.text
    np.testing.assert_array_equal(read_rows(str(folder / "out.cs"))["uid"], cs_rows["uid"][[7, 2]])


def test_other_poses_and_ctf_go_into_cs_fields(folder, cs_rows):
    table = open_particles(source(folder, "in.cs"))
    values = to_ctf(table)
    values[:, 8] = 90
    cryodrgn.write_ctf(str(folder / "ctf.pkl"), values)
    turned = random_rotations(COUNT, generator=np.random.default_rng(1)).astype(np.float32)
    fractions = np.full((COUNT, 2), 0.25, np.float32)
    cryodrgn.write_poses(str(folder / "poses.pkl"), cryodrgn.Poses(turned, fractions))
    given = source(folder, "in.cs", poses=str(folder / "poses.pkl"), ctf=str(folder / "ctf.pkl"))
    selection.export_cs(given, str(folder / "out.cs"))
    again = open_particles(source(folder, "out.cs"))
    np.testing.assert_allclose(again.rotations, turned, atol=1e-6)
    np.testing.assert_allclose(again.column("shift_angstrom"), 3.0, rtol=1e-6)
    out = read_rows(str(folder / "out.cs"))
    np.testing.assert_allclose(out["ctf/phase_shift_rad"], np.pi / 2, rtol=1e-6)
    np.testing.assert_array_equal(out["uid"], cs_rows["uid"])


def test_axis_angle_vectors_survive_the_round_trip():
    rotations = random_rotations(50, generator=np.random.default_rng(3))
    np.testing.assert_allclose(from_axis_angle(to_axis_angle(rotations)), rotations, atol=1e-12)


def test_uids_are_not_made_up(folder):
    with pytest.raises(ConfigError, match=r"does not come from a .cs file.*Import Particle Stack"):
        selection.export_cs(source(folder), str(folder / "out.cs"))


@pytest.mark.parametrize(
    ("psize", "flag", "factor"), [(1.5, False, 1), (3.0, False, 2), (0, True, 2), (0, False, 1)]
)
def test_shifts_of_smaller_images_are_known_from_the_file_or_the_flag(
    psize, flag, factor, folder, cs_rows, caplog
):
    cs_rows["alignments3D/psize_A"] = psize
    with (folder / "h.cs").open("wb") as stream:
        np.save(stream, cs_rows)
    table = read_cryosparc(str(folder / "h.cs"), imaging=Imaging(half_size_shifts=flag))
    expected = cs_rows["alignments3D/shift"] * 1.5 * factor
    np.testing.assert_allclose(table.column("shift_angstrom"), expected, rtol=1e-6)
    assert ("2 times those of the images" in caplog.text) == (factor == 2)


def downsampled(table, folder):
    """Return particles as of images of half the box, in a stack of their own, with other shifts."""
    with mrcfile.new(folder / "small.mrcs") as stack:
        stack.set_data(np.zeros((len(table), BOX // 2, BOX // 2), np.float32))
    return table.with_columns(
        {
            "box": np.full(len(table), BOX // 2),
            "pixel_size_angstrom": 2 * table.column("pixel_size_angstrom"),
            "stack": np.full(len(table), str(folder / "small.mrcs"), dtype=object),
            "slice": np.arange(len(table)),
            "shift_angstrom": table.column("shift_angstrom") + 1.5,
        }
    )


def test_particles_of_smaller_images_go_out_as_rows_of_the_original_star_file(folder):
    table = downsampled(open_particles(source(folder)), folder).select(np.array([5, 3]))
    out = str(folder / "out.star")
    assert selection.export_star(source(folder), out, table=table) == 2
    again, before = open_particles(source(folder, "out.star")), open_particles(source(folder))
    assert again.single_box() == BOX
    assert again.stacks == before.stacks
    np.testing.assert_array_equal(again.column("slice"), before.column("slice")[[5, 3]])
    shift = before.column("shift_angstrom")[[5, 3]] + 1.5
    np.testing.assert_allclose(again.column("shift_angstrom"), shift, rtol=1e-6)


@pytest.mark.parametrize(("psize", "flag"), [(1.5, False), (3.0, False), (0, True), (0, False)])
def test_shifts_of_smaller_images_go_out_in_the_pixels_of_the_original_cs_file(
    psize, flag, folder, cs_rows
):
    cs_rows["alignments3D/psize_A"] = psize
    with (folder / "h.cs").open("wb") as stream:
        np.save(stream, cs_rows)
    imaging = Imaging(half_size_shifts=flag)
    before = read_cryosparc(str(folder / "h.cs"), imaging=imaging)
    table = downsampled(before, folder)
    selection.export_cs(source(folder, "h.cs"), str(folder / "out.cs"), table=table)
    again = read_cryosparc(str(folder / "out.cs"), imaging=imaging)
    shift = before.column("shift_angstrom") + 1.5
    np.testing.assert_allclose(again.column("shift_angstrom"), shift, rtol=1e-5)
    # and poses that are as they were stay as they are, to the bit
    selection.export_cs(source(folder, "h.cs"), str(folder / "same.cs"), table=before)
    assert read_rows(str(folder / "same.cs")).tobytes() == cs_rows.tobytes()


def test_an_original_file_that_is_gone_is_named(folder, cs_rows, caplog):
    """RELION's other columns and cryoSPARC's uids are in that file alone."""
    table, of_cs = open_particles(source(folder)), open_particles(source(folder, "in.cs"))
    for name in ("in.star", "in.cs"):
        (folder / name).rename(folder / f"moved_{name}")
    run = ParticleSource(particles=str(folder / "a run"))
    selection.export_star(run, str(folder / "out.star"), table=table)
    assert f"{folder / 'in.star'}, from which the particles were read, does not exist" in (
        caplog.text
    )
    assert f"raydrgn relocate '{folder / 'a run'}' --particles FILE" in caplog.text
    assert same_poses(table, open_particles(source(folder, "out.star")))
    gone = f"{folder / 'in.cs'}, from which the particles were read and whose uids"
    with pytest.raises(InputError, match=gone):
        selection.export_cs(run, str(folder / "out.cs"), table=of_cs)


def test_contrast_and_junk_go_out_beside_the_poses(folder, cs_rows):
    def refined(name):
        table = open_particles(source(folder, name))
        values = np.linspace(0.5, 1, COUNT, dtype=np.float32)
        return table.with_columns({"contrast": values, "null_probability": 1 - values}), values

    table, values = refined("in.star")
    selection.export_star(source(folder), str(folder / "out.star"), table=table)
    particles = read_text_star(str(folder / "out.star")).particles()
    np.testing.assert_array_equal(np.float32(particles.cells("raydrgnContrast")), values)
    np.testing.assert_array_equal(np.float32(particles.cells("raydrgnNullProbability")), 1 - values)
    table, values = refined("in.cs")
    selection.export_cs(source(folder, "in.cs"), str(folder / "out.cs"), table=table)
    rows = read_rows(str(folder / "out.cs"))
    np.testing.assert_array_equal(rows["alignments3D/alpha"], values)
    np.testing.assert_array_equal(rows["uid"], cs_rows["uid"])


def test_shifts_in_pixels_go_out_in_those_of_the_original_star_file(folder):
    text = (folder / "in.star").read_text()
    text = text.replace("rlnOriginXAngst", "rlnOriginX").replace("rlnOriginYAngst", "rlnOriginY")
    (folder / "in.star").write_text(text)
    before = open_particles(source(folder))
    table = downsampled(before, folder)
    selection.export_star(source(folder), str(folder / "out.star"), table=table)
    again = open_particles(source(folder, "out.star"))
    shift = before.column("shift_angstrom") + 1.5
    np.testing.assert_allclose(again.column("shift_angstrom"), shift, atol=1e-5)


def test_a_cs_file_without_poses_names_the_jobs_that_have_them(folder, cs_rows):
    kept = [name for name in cs_rows.dtype.names if not name.startswith("alignments3D")]
    with (folder / "x.cs").open("wb") as stream:
        np.save(stream, np.lib.recfunctions.repack_fields(cs_rows[kept]))
    with pytest.raises(
        InputError, match=r"Non-uniform.*Heterogeneous Refinement.*2D Classification"
    ):
        to_poses(open_particles(source(folder, "x.cs")))


def test_numbers_of_another_program_s_selection_are_found(folder, cs_rows):
    ind = write_ind(folder, [7, 2, 11])
    for name, export in (("in.star", selection.export_star), ("in.cs", selection.export_cs)):
        out = str(folder / f"out{name[2:]}")
        export(source(folder, name, ind=ind), out)
        found = find_numbers(out, str(folder / name))
        np.testing.assert_array_equal(found, [7, 2, 11])
    with pytest.raises(InputError, match=r"000001@stack.mrcs is not in"):
        find_numbers(str(folder / "in.star"), str(folder / "out.star"))
    with pytest.raises(InputError, match=r"both be .star, or both .cs"):
        find_numbers(str(folder / "in.star"), str(folder / "in.cs"))


def test_numbers_of_a_run_are_those_of_the_original_file(folder):
    table = open_particles(source(folder)).select(np.array([3, 5, 8]))
    chosen = selection.select_indices(table, np.array([8, 3]))
    np.testing.assert_array_equal(chosen.column("index"), [8, 3])
    with pytest.raises(InputError, match="Particle 4 was selected, but is none of the 3"):
        selection.select_indices(table, np.array([4]))
    with pytest.raises(InputError, match="no particle"):
        selection.select_indices(table.select(np.array([], dtype=int)), np.array([4]))


@pytest.mark.parametrize(
    ("out", "ind", "error", "message"),
    [
        ("out.txt", None, ConfigError, r"should end in .star"),
        ("in.star", None, ConfigError, "would replace"),
        ("out.star", [3, 12], InputError, "contains particle 12, but .* has 12"),
        ("out.star", [], InputError, "selects no particle"),
    ],
)
def test_what_makes_no_sense_is_refused(out, ind, error, message, folder):
    chosen = None if ind is None else write_ind(folder, np.array(ind, dtype=np.int64), "npy")
    with pytest.raises(error, match=message):
        selection.export_star(source(folder, ind=chosen), str(folder / out))


def test_indices_have_three_formats(tmp_path):
    with pytest.raises(ConfigError, match=r".pkl, .npy or .txt"):
        cryodrgn.write_indices(str(tmp_path / "a.csv"), np.arange(3))


def test_a_table_agrees_with_the_file_it_was_read_from(folder):
    table = open_particles(source(folder))
    assert same_poses(table, originals.original_rows(table, str(folder / "in.star")))
    assert same_ctf(table, originals.original_rows(table, str(folder / "in.star")))
