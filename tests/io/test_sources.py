"""Any source becomes one checked table; parts that do not fit are refused."""

import pickle

import numpy as np
import pytest

from phantoms import (
    OPTICS,
    cs_rows,
    hostile_pickle,
    images_of,
    optics_columns,
    random_matrices,
    star_31,
    table_of,
    write_cs,
    write_mrc,
)
from raydrgn.errors import ConfigError, InputError, RaydrgnError, StorageError
from raydrgn.io import storage
from raydrgn.io.cryodrgn import Poses, read_ctf, read_poses, write_ctf, write_poses
from raydrgn.io.imaging import Imaging
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS, NoParticlesError, ParticleTable
from raydrgn.io.pixel_sizes import reference_pixel_size
from raydrgn.io.sources import (
    open_particles,
    read_for_parsing,
    read_metadata,
    require_poses,
    to_ctf,
    to_poses,
)

COUNT = 6
CTF_ROW = [8.0, 1.5, *OPTICS.values()]


@pytest.fixture
def folder(tmp_path):
    """A stack of six images with cryoDRGN's pickles beside it, in the order of the stack."""
    rng = np.random.default_rng(3)
    write_mrc(tmp_path / "p.mrcs", images_of(COUNT))
    write_poses(
        str(tmp_path / "poses.pkl"),
        Poses(random_matrices(COUNT, rng), rng.uniform(-0.2, 0.2, (COUNT, 2))),
    )
    table = np.tile(CTF_ROW, (COUNT, 1))
    table[:, 2] += np.arange(COUNT)
    write_ctf(str(tmp_path / "ctf.pkl"), table)
    return tmp_path


def source(folder, **changes):
    places = {"particles": "p.mrcs", "poses": "poses.pkl", "ctf": "ctf.pkl"} | changes
    return ParticleSource(**{k: v and str(folder / v) for k, v in places.items()})


def put_ind(folder, indices):
    (folder / "ind.pkl").write_bytes(pickle.dumps(indices))


def test_a_stack_with_pickles(folder):
    table = open_particles(source(folder))
    poses, ctf = read_poses(str(folder / "poses.pkl")), read_ctf(str(folder / "ctf.pkl"))
    np.testing.assert_array_equal(table.rotations, poses.rotations)
    # fractions of the box of 8 px of 1.5 Å, and not of the odd lattice (conventions.md, 2.1)
    shifts = poses.shifts_fraction * np.float32(12)
    np.testing.assert_allclose(table.column("shift_angstrom"), shifts, rtol=1e-6)
    for i, name in enumerate(CTF_COLUMNS):
        np.testing.assert_array_equal(table.column(name), ctf[:, 2 + i])


def test_pickles_come_back_as_they_were(folder):
    table = open_particles(source(folder))
    poses, again = read_poses(str(folder / "poses.pkl")), to_poses(table)
    np.testing.assert_array_equal(again.rotations, poses.rotations)
    np.testing.assert_allclose(again.shifts_fraction, poses.shifts_fraction, rtol=2e-7)
    np.testing.assert_array_equal(to_ctf(table), read_ctf(str(folder / "ctf.pkl")))


def test_a_list_of_stacks_is_one_set_in_its_order(folder):
    (folder / "more").mkdir()
    write_mrc(folder / "more" / "q.mrcs", images_of(2))
    (folder / "list.txt").write_text("more/q.mrcs\n\n  p.mrcs  \r\n")
    table = open_particles(source(folder, particles="list.txt", poses=None, ctf=None))
    assert table.stacks == [str(folder / "more" / "q.mrcs"), str(folder / "p.mrcs")]
    assert table.stack_codes.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert table.column("slice").tolist() == [0, 1, 0, 1, 2, 3, 4, 5]
    assert table.column("index").tolist() == list(range(8))


def test_a_list_elsewhere_names_stacks_beside_itself(folder):
    storage.write_bytes("memory://src/p.mrcs", storage.read_bytes(str(folder / "p.mrcs")))
    storage.write_bytes("memory://src/list.txt", b"p.mrcs\n")
    table = open_particles(ParticleSource(particles="memory://src/list.txt"))
    assert table.stacks == ["memory://src/p.mrcs"]
    assert len(table) == COUNT


def test_star_cs_and_parquet_carry_their_metadata(tmp_path):
    star, _ = star_31(tmp_path)
    expected = open_particles(ParticleSource(particles=star))
    assert expected.has_poses
    assert expected.has_ctf
    expected.write(str(tmp_path / "p.parquet"))
    again = open_particles(ParticleSource(particles=str(tmp_path / "p.parquet")))
    assert again.table.equals(expected.table)
    cs = open_particles(ParticleSource(particles=write_cs(tmp_path, cs_rows())))
    assert cs.stacks == expected.stacks


def test_pickles_replace_what_a_star_file_says(tmp_path):
    star, _ = star_31(tmp_path)
    rotations = random_matrices(4, np.random.default_rng(0)).astype(np.float32)
    write_poses(str(tmp_path / "poses.pkl"), Poses(rotations, np.zeros((4, 2))))
    table = open_particles(ParticleSource(particles=star, poses=str(tmp_path / "poses.pkl")))
    np.testing.assert_array_equal(table.rotations, rotations)
    assert not table.column("shift_angstrom").any()


# Selections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("indices", [[4, 0, 2], np.array([4, 0, 2])], ids=["list", "array"])
def test_indices_take_rows_of_everything_in_their_order(folder, indices):
    put_ind(folder, indices)
    full, part = open_particles(source(folder)), open_particles(source(folder, ind="ind.pkl"))
    assert part.column("index").tolist() == [4, 0, 2]
    assert part.table.equals(full.select(np.array([4, 0, 2])).table)


def test_a_selection_has_the_frame_of_all_particles(folder):
    ctf = read_ctf(str(folder / "ctf.pkl"))
    ctf[3:, 1] = 1.6
    ctf[0, 1] = 1.6
    write_ctf(str(folder / "ctf.pkl"), ctf)
    put_ind(folder, np.array([1, 2, 4]))
    assert reference_pixel_size(open_particles(source(folder, ind="ind.pkl"))) == pytest.approx(1.6)
    write_ctf(str(folder / "ctf.pkl"), ctf[[1, 2, 4]])
    assert reference_pixel_size(open_particles(source(folder, ind="ind.pkl"))) == pytest.approx(1.5)


def test_pickles_of_the_selected_particles_only_are_taken_as_they_are(folder):
    put_ind(folder, [4, 0, 2])
    full = open_particles(source(folder))
    poses = to_poses(full)
    write_poses(str(folder / "poses.pkl"), Poses(*(part[[4, 0, 2]] for part in poses)))
    part = open_particles(source(folder, ind="ind.pkl"))
    np.testing.assert_array_equal(part.rotations, full.rotations[[4, 0, 2]])


def refuse(folder, message, error=InputError, **changes):
    with pytest.raises(error, match=message) as caught:
        open_particles(source(folder, **changes))
    assert isinstance(caught.value, RaydrgnError)


def test_indices_beyond_the_particles_are_refused(folder):
    put_ind(folder, [0, 6])
    refuse(folder, r"ind\.pkl contains particle 6, but .*p\.mrcs has 6", ind="ind.pkl")


def test_no_particle_at_all_is_refused(folder):
    put_ind(folder, [])
    refuse(folder, r"ind\.pkl selects no particle", ind="ind.pkl")


# What does not fit ---------------------------------------------------------------------------


def test_poses_and_ctf_of_another_count_are_refused(folder):
    full = open_particles(source(folder))
    write_poses(str(folder / "poses.pkl"), Poses(*(part[:5] for part in to_poses(full))))
    refuse(folder, r"poses\.pkl has 5 rows, but there are 6 particles\. .*one data set")
    put_ind(folder, [0, 1, 2])
    refuse(folder, r"poses\.pkl has 5 rows, .* 6 particles \(3 selected\)", ind="ind.pkl")
    write_ctf(str(folder / "ctf.pkl"), np.tile(CTF_ROW, (7, 1)))
    refuse(folder, r"ctf\.pkl has 7 rows, but there are 6 particles", poses=None)


@pytest.mark.parametrize("column", [0, 1], ids=["box", "pixel size"])
def test_a_ctf_without_a_size_is_refused(folder, column):
    table = np.tile(CTF_ROW, (COUNT, 1))
    table[2, column] = 0
    write_ctf(str(folder / "ctf.pkl"), table)
    refuse(folder, r"ctf\.pkl, row 2 \(from 0\): the box is .*; both must be positive")


def test_bad_poses_are_refused(folder):
    rotations = np.tile(np.eye(3), (COUNT, 1, 1))
    rotations[3] = np.diag([1, -1, 1])
    write_poses(str(folder / "poses.pkl"), Poses(rotations, np.zeros((COUNT, 2))))
    refuse(folder, r"row 3 \(from 0\): the rotation is not a rotation")
    shifts = np.zeros((COUNT, 2))
    shifts[2] = 0, 3
    write_poses(str(folder / "poses.pkl"), Poses(np.tile(np.eye(3), (COUNT, 1, 1)), shifts))
    refuse(folder, r"poses\.pkl has shifts larger than the box .* row 2 \(\[0.0, 3.0\] boxes\)")


@pytest.mark.parametrize("option", ["poses", "ctf", "ind"])
def test_nothing_of_a_malicious_pickle_runs(folder, option):
    _, mark = hostile_pickle(folder, "evil.pkl")
    refuse(folder, r"evil\.pkl is refused", **{option: "evil.pkl"})
    assert not mark.exists()


def test_a_missing_stack_of_a_list_is_named_with_its_line(folder):
    (folder / "list.txt").write_text("p.mrcs\n\ngone.mrcs\n")
    refuse(folder, r"list\.txt, line 3: .*gone\.mrcs does not exist", particles="list.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n\n", r"list\.txt lists no stacks"), (b"\xff\xfe\x00", r"list\.txt is not text")],
)
def test_a_list_that_is_none_is_refused(folder, content, message):
    (folder / "list.txt").write_bytes(content)
    refuse(folder, message, particles="list.txt")


def test_a_list_of_stacks_of_different_boxes_is_refused_when_one_is_needed(folder):
    write_mrc(folder / "q.mrcs", images_of(2, box=6))
    (folder / "list.txt").write_text("p.mrcs\nq.mrcs\n")
    table = open_particles(source(folder, particles="list.txt", poses=None, ctf=None))
    with pytest.raises(InputError, match="differ in size: 2 of 6 px, 6 of 8 px"):
        table.single_box()


def test_other_suffixes_are_refused(folder):
    refuse(folder, r"p\.dat does not exist", StorageError, particles="p.dat")
    refuse(folder, "expected .mrcs.*found '.pkl'", ConfigError, particles="poses.pkl")
    with pytest.raises(ConfigError, match=r"neither a RELION \.star nor a cryoSPARC \.cs"):
        read_metadata(str(folder / "p.mrcs"))


def test_a_table_whose_stack_has_changed_is_refused(folder):
    stack = str(folder / "p.mrcs")
    table_of(COUNT, stacks=(stack,)).write(str(folder / "p.parquet"))
    write_mrc(folder / "p.mrcs", images_of(COUNT, box=10))
    refuse(folder, "has other boxes than its stacks", particles="p.parquet", poses=None,
           ctf=None)  # fmt: skip
    write_mrc(folder / "p.mrcs", images_of(COUNT - 2))
    refuse(folder, r"row 4 \(from 0\): slice 5 of", particles="p.parquet", poses=None, ctf=None)


@pytest.mark.parametrize(
    ("kind", "message"),
    [(".star", "rlnAngleRot.*--poses"), (".cs", "alignments3D/pose.*Refinement")],
)
def test_particles_without_poses_say_where_there_are_some(kind, message):
    table = ParticleTable.from_columns(
        {"index": [0], "stack": ["a"], "slice": [0], "box": [8]},
        metadata={"source": f"/x/run{kind}"},
    )
    with pytest.raises(InputError, match=message):
        require_poses(table)
    with pytest.raises(InputError, match=f"/x/run{kind} has no"):
        to_poses(table)
    with pytest.raises(InputError, match="has no defocus; run CTF estimation"):
        to_ctf(table)


def test_the_field_s_files_give_the_same_images(empiar):
    from raydrgn.data.source import ImageSource

    tables = [
        open_particles(ParticleSource(particles=str(empiar / f"empiar_10076_7.{kind}")))
        for kind in ("star", "cs", "mrc")
    ]
    stacks = [ImageSource.of(table).read() for table in tables]
    assert stacks[0].shape == (7, 320, 320)
    for other in stacks[1:]:
        np.testing.assert_array_equal(other, stacks[0])


# Files of the field that are elsewhere, in another order or empty -----------------------------


def test_the_ctf_or_poses_of_the_file_in_another_order_are_refused(tmp_path):
    defocus = {"rlnDefocusU": [10_000 + 100 * i for i in range(4)]}
    angles = {"rlnAngleRot": [10 * i for i in range(4)]}
    star, _ = star_31(tmp_path, particles=defocus | angles)
    table = open_particles(ParticleSource(particles=star))
    ctf, poses = str(tmp_path / "ctf.pkl"), str(tmp_path / "poses.pkl")
    order = np.array([2, 0, 1, 3])
    for rows, refused in ((np.arange(4), False), (order, True)):
        write_ctf(ctf, to_ctf(table)[rows])
        write_poses(poses, Poses(*(part[rows] for part in to_poses(table))))
        for given, what in (({"ctf": ctf}, "defocus values"), ({"poses": poses}, "rotations")):
            source = ParticleSource(particles=star, **given)
            if not refused:
                assert len(open_particles(source)) == 4
                continue
            with pytest.raises(InputError, match=rf"the {what} of .*in another order \(row 0"):
                open_particles(source)


def test_a_table_follows_its_stacks_to_where_they_are_now(tmp_path):
    (tmp_path / "old").mkdir()
    star, _ = star_31(tmp_path / "old")
    open_particles(ParticleSource(particles=star)).write(str(tmp_path / "p.parquet"))
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "stack.mrcs").rename(tmp_path / "new" / "stack.mrcs")
    parquet = str(tmp_path / "p.parquet")
    with pytest.raises(InputError, match=r"old/stack\.mrcs, which is at none of.*--datadir"):
        open_particles(ParticleSource(particles=parquet))
    moved = open_particles(ParticleSource(particles=parquet, datadir=str(tmp_path / "new")))
    assert moved.stacks == [str(tmp_path / "new" / "stack.mrcs")]


@pytest.mark.parametrize("known", [True, False])
def test_metadata_are_enough_where_box_and_pixel_size_are_known(tmp_path, caplog, known):
    optics = None if known else optics_columns(rlnImageSize=None)
    star, _ = star_31(tmp_path, stack="elsewhere/p.mrcs", optics=optics)
    if not known:
        with pytest.raises(InputError, match="at none of"):
            read_for_parsing(star, need_images=True)
    imaging = None if known else Imaging(box=8)
    table = read_for_parsing(star, need_images=True, imaging=imaging)
    assert "images were not read" in caplog.text
    assert table.stacks == ["elsewhere/p.mrcs"]
    assert table.single_box() == 8
    assert table.has_poses
    table.write(str(tmp_path / "p.parquet"))
    (tmp_path / "far" / "elsewhere").mkdir(parents=True)
    write_mrc(tmp_path / "far" / "elsewhere" / "p.mrcs", images_of(4))
    source = ParticleSource(particles=str(tmp_path / "p.parquet"), datadir=str(tmp_path / "far"))
    assert open_particles(source).stacks == [str(tmp_path / "far" / "elsewhere" / "p.mrcs")]


@pytest.mark.parametrize("need_images", [True, False])
def test_a_file_without_particles_is_refused_by_every_reader(tmp_path, need_images):
    star, _ = star_31(tmp_path)
    text = (tmp_path / "particles.star").read_text()
    rows = [line for line in text.splitlines() if "@" not in line]
    (tmp_path / "none.star").write_text("\n".join(rows) + "\n")
    places = [str(tmp_path / "none.star"), write_cs(tmp_path, cs_rows(0), "none.cs")]
    open_particles(ParticleSource(particles=star)).select(np.arange(0)).write(
        str(tmp_path / "none.parquet")
    )
    for place in [*places, str(tmp_path / "none.parquet")]:
        with pytest.raises(NoParticlesError, match=rf"{place} lists no particles"):
            open_particles(ParticleSource(particles=place), need_images=need_images)
    for place in places:
        with pytest.raises(NoParticlesError):
            read_metadata(place, need_images=need_images)


def test_an_error_of_a_row_names_the_pickle_that_it_comes_from(tmp_path):
    place = write_mrc(tmp_path / "stack.mrcs", images_of(4))
    rotations = random_matrices(4, np.random.default_rng(0)).astype(np.float32)
    rotations[2] = np.nan
    (tmp_path / "poses.pkl").write_bytes(pickle.dumps((rotations, np.zeros((4, 2), np.float32))))
    (tmp_path / "ind.txt").write_text("3\n2\n")
    given = {"particles": place, "poses": str(tmp_path / "poses.pkl")}
    for source in (
        ParticleSource(**given),
        ParticleSource(**given, ind=str(tmp_path / "ind.txt")),
    ):
        with pytest.raises(InputError, match=r"poses.pkl, row 2 \(from 0\): column rotation"):
            open_particles(source)
    table = np.tile(np.float32([8, 1.5, 15_000, 14_000, 5, 300, 2.7e7, 0.1, 0]), (4, 1))
    write_ctf(str(tmp_path / "ctf.pkl"), table)
    with pytest.raises(InputError, match=r"ctf.pkl, row 0 .*spherical_aberration_mm is 2.7e\+07"):
        open_particles(ParticleSource(particles=place, ctf=str(tmp_path / "ctf.pkl")))


def test_stacks_that_no_particle_of_a_selection_is_in_may_be_gone(tmp_path):
    stacks = [write_mrc(tmp_path / f"{name}.mrcs", images_of(2)) for name in "ab"]
    selected = table_of(4, stacks=stacks).select(np.array([1, 0]))
    selected.write(str(tmp_path / "some.parquet"))
    (tmp_path / "b.mrcs").unlink()
    again = open_particles(ParticleSource(particles=str(tmp_path / "some.parquet")))
    assert again.stacks == stacks[:1]


@pytest.mark.parametrize("of_selection", [False, True], ids=["all", "selected"])
def test_the_row_of_a_pickle_is_named_as_it_stands_there(tmp_path, of_selection):
    star, _ = star_31(tmp_path)
    table = np.tile(np.float32(CTF_ROW), (4, 1))
    table[:, 2] += np.arange(4)  # as no two rows of the file have
    table[3, 1] = 0
    (tmp_path / "ind.txt").write_text("1\n3\n")
    row = 1 if of_selection else 3
    write_ctf(str(tmp_path / "ctf.pkl"), table[[1, 3]] if of_selection else table)
    given = {"particles": star, "ind": str(tmp_path / "ind.txt")}
    with pytest.raises(InputError, match=rf"ctf.pkl, row {row} \(from 0\): the box is 8 px and"):
        open_particles(ParticleSource(**given, ctf=str(tmp_path / "ctf.pkl")))


def test_the_first_row_in_another_order_is_named_as_it_stands_in_the_pickle(tmp_path):
    star, _ = star_31(tmp_path, particles={"rlnAngleRot": [0.0, 10.0, 20.0, 30.0]})
    poses = to_poses(open_particles(ParticleSource(particles=star)))
    write_poses(str(tmp_path / "poses.pkl"), Poses(poses.rotations[::-1], poses.shifts_fraction))
    (tmp_path / "ind.txt").write_text("3\n0\n")
    given = {"poses": str(tmp_path / "poses.pkl"), "ind": str(tmp_path / "ind.txt")}
    with pytest.raises(InputError, match=r"another order \(row 3 is the first"):
        open_particles(ParticleSource(particles=star, **given))
