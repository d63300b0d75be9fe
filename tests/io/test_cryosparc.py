"""cryoSPARC's .cs files, and what is refused about them."""

import io
import logging
import pickle

import numpy as np
import numpy.lib.recfunctions
import pytest
import yaml
from scipy.spatial.transform import Rotation

from phantoms import Hostile, cs_rows, images_of, write_cs, write_mrc
from raydrgn.errors import ConfigError, InputError
from raydrgn.io.cryosparc import read_cryosparc
from raydrgn.io.cryosparcrows import with_pose_rows, write_rows
from raydrgn.io.half_sets import half_of_particles
from raydrgn.io.imaging import Imaging
from raydrgn.io.passthrough import read_rows
from raydrgn.io.relion import read_relion
from raydrgn.io.sources import require_poses


@pytest.fixture
def stack(tmp_path):
    return write_mrc(tmp_path / "stack.mrcs", images_of(4))


def table_from(folder, **options):
    fields = options.pop("fields", {})
    rows = cs_rows(fields=fields, **options.pop("rows", {}))
    return read_cryosparc(write_cs(folder, rows), **options)


def test_fields_become_columns_in_our_units(tmp_path, stack):
    table = table_from(tmp_path, fields={"ctf/phase_shift_rad": np.full(4, np.pi / 2, "f4")})
    assert table.stacks == [stack]
    assert table.column("slice").tolist() == [0, 1, 2, 3]
    assert table.single_box() == 8
    assert table.column("uid").tolist() == [10**18 + i for i in range(4)]
    assert table.table.column("optics_group").to_pylist() == ["23"] * 4
    np.testing.assert_allclose(table.column("phase_shift_deg"), 90, rtol=1e-6)
    np.testing.assert_allclose(table.column("defocus_angle_deg"), 5.28, rtol=1e-6)
    np.testing.assert_allclose(table.column("defocus_u_angstrom"), np.float32(15301.1))
    np.testing.assert_allclose(table.column("shift_angstrom"), [[4.5, -1.5]] * 4)


def test_the_split_of_a_refinement_is_kept(tmp_path, stack):
    fields = {"alignments3D/split": np.array([0, 1, 1, 0], dtype="u4")}
    table = table_from(tmp_path, fields=fields)
    np.testing.assert_array_equal(half_of_particles(table), [0, 1, 1, 0])


def test_pose_vectors_are_rodrigues_rotations_transposed(tmp_path, stack):
    # A turn by 90° about z takes x to y; transposed, row 0 (the image's x axis) is −y … (0, −1, 0)ᵀ
    turned = table_from(tmp_path).rotations[0]
    np.testing.assert_allclose(turned, [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-7)
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype("f4")
    vectors[0] = 0  # no turn at all, where cryoDRGN has NaN
    table = table_from(tmp_path, fields={"alignments3D/pose": vectors})
    expected = Rotation.from_rotvec(vectors.astype("f8")).inv().as_matrix()
    np.testing.assert_allclose(table.rotations, expected, atol=1e-6)
    np.testing.assert_array_equal(table.rotations[0], np.eye(3))


def test_paths_that_cryosparc_marks_are_the_same_paths(tmp_path, stack):
    paths = np.array([b">stack.mrcs", b"stack.mrcs", b">stack.mrcs", b"stack.mrcs"])
    table = table_from(tmp_path, fields={"blob/path": paths})
    assert table.stacks == [stack]


def test_slices_count_from_0_in_several_stacks(tmp_path):
    for name, count in (("b.mrcs", 3), ("a.mrcs", 2)):
        write_mrc(tmp_path / name, images_of(count))
    paths, numbers = [b"b.mrcs", b"a.mrcs", b"b.mrcs", b"a.mrcs"], [2, 1, 0, 0]
    fields = {"blob/path": np.array(paths), "blob/idx": np.array(numbers, dtype="u4")}
    table = table_from(tmp_path, fields=fields)
    found = [(table.stacks[c][-6:], s) for c, s in zip(
        table.stack_codes, table.column("slice"), strict=True
    )]  # fmt: skip
    assert found == [("b.mrcs", 2), ("a.mrcs", 1), ("b.mrcs", 0), ("a.mrcs", 0)]


def test_shifts_count_pixels_of_the_images_that_were_aligned(tmp_path, stack, caplog):
    fields = {"alignments3D/psize_A": np.full(4, 3.0, "f4")}
    with caplog.at_level(logging.WARNING):
        table = table_from(tmp_path, fields=fields)
    np.testing.assert_allclose(table.column("shift_angstrom"), [[9, -3]] * 4)
    assert "shifts are in pixels 2 times those of the images" in caplog.text


def test_half_size_shifts_are_taken_where_the_user_says_so(tmp_path, stack):
    table = table_from(tmp_path, imaging=Imaging(half_size_shifts=True))
    np.testing.assert_allclose(table.column("shift_angstrom"), [[9, -3]] * 4)


def test_other_fields_than_poses_may_be_missing(tmp_path, stack):
    absent = {
        "alignments3D/pose": None, "alignments3D/shift": None, "ctf/df1_A": None,
        "ctf/df2_A": None, "blob/shape": None, "uid": None,
    }  # fmt: skip
    table = table_from(tmp_path, fields=absent)
    assert not table.has_poses
    assert not table.has_ctf
    assert table.single_box() == 8


# What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blob/path": None}, "no blob/path and blob/idx.*--passthrough.*Export"),
        ({"blob/psize_A": None}, "no blob/psize_A; give it with `raydrgn parse .* --pixel-size"),
        ({"ctf/amp_contrast": None}, "no ctf/amp_contrast; give it .* --amplitude-contrast"),
        ({"ctf/df2_A": None}, "has ctf/df1_A, but no ctf/df2_A"),
        ({"ctf/cs_mm": np.full(4, np.nan, "f4")}, "row 0 .*ctf/cs_mm is not a number .*--cs"),
        ({"blob/idx": np.array([0, 4, 1, 2], "u4")}, "row 1 .*: slice 5 .* has 4 slices"),
        (
            {"blob/shape": np.full((4, 2), 16, "u4")},
            "row 0 .*: blob/shape is 16, but the image has 8",
        ),
        ({"alignments3D/pose": np.full((4, 3), np.nan, "f4")}, "row 0 .*rotation is not finite"),
        (
            {"alignments3D/shift": np.full((4, 2), 9, "f4")},
            "larger than the box .*4 such particles",
        ),
    ],
)
def test_a_file_that_lacks_or_contradicts_something_is_refused(tmp_path, stack, fields, message):
    with pytest.raises(InputError, match=message):
        table_from(tmp_path, fields=fields)


def test_a_missing_stack_is_named(tmp_path):
    with pytest.raises(InputError, match=r"particles\.cs names the stack stack\.mrcs.*--datadir"):
        table_from(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"no array", np.zeros(3), np.zeros((2, 2), dtype=[("uid", "u8")])]
)
def test_what_is_no_table_of_fields_is_refused(tmp_path, content):
    path = tmp_path / "a.cs"
    if not isinstance(content, bytes):
        stream = io.BytesIO()
        np.save(stream, content)
        content = stream.getvalue()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.cs (is not a|is empty|is damaged)"):
        read_rows(str(path))


def test_nothing_of_a_malicious_file_runs(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "a.cs"
    rows = np.array([Hostile(mark)], dtype=object)
    with path.open("wb") as stream:
        np.save(stream, rows, allow_pickle=True)
    with pytest.raises(InputError, match="holds Python objects, which are not read"):
        read_rows(str(path))
    path.write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(InputError, match=r"is a pickle; expected a \.cs file"):
        read_rows(str(path))
    assert not mark.exists()


# What is written -----------------------------------------------------------------------------


def test_rows_are_written_as_they_are_with_a_group_file_of_their_kinds(tmp_path):
    rows = cs_rows(3)
    write_rows(str(tmp_path / "out.cs"), rows)
    again = np.load(tmp_path / "out.cs")
    assert again.dtype == rows.dtype
    np.testing.assert_array_equal(again, rows)
    text = (tmp_path / "out.csg").read_text()
    for kind in ("blob", "ctf", "alignments3D"):
        assert f"  {kind}:\n    metafile: '>out.cs'\n    num_items: 3\n" in text


def test_numbered_fields_have_the_types_of_cryosparc_in_the_group_file(tmp_path):
    """cryosparc-tools has a prefix components_mode_0 of type components; classes are 3D poses."""
    value = np.zeros(3, "f4")
    names = ("components_mode_0", "alignments_class_1", "alignments_class3D_2", "alignments2D")
    rows = cs_rows(3, fields={f"{name}/value": value for name in names})
    write_rows(str(tmp_path / "out.cs"), rows)
    results = yaml.safe_load((tmp_path / "out.csg").read_text())["results"]
    assert {name: results[name]["type"] for name in (*names, "blob")} == {
        "components_mode_0": "particle.components",
        "alignments_class_1": "particle.alignments3D",
        "alignments_class3D_2": "particle.alignments3D",
        "alignments2D": "particle.alignments2D",
        "blob": "particle.blob",
    }


def test_poses_go_back_in_the_pixels_in_which_they_came(tmp_path, stack):
    vectors = np.random.default_rng(1).normal(size=(4, 3)).astype("f4")
    rows = cs_rows(
        fields={"alignments3D/pose": vectors, "alignments3D/psize_A": np.full(4, 3.0, "f4")}
    )
    table = read_cryosparc(write_cs(tmp_path, rows))
    again = with_pose_rows(rows, table, before=table, source="x.cs")
    # vectors longer than half a turn come back as their shorter equals
    np.testing.assert_allclose(
        Rotation.from_rotvec(again["alignments3D/pose"].astype("f8")).as_matrix(),
        Rotation.from_rotvec(vectors.astype("f8")).as_matrix(),
        atol=1e-6,
    )
    np.testing.assert_allclose(again["alignments3D/shift"], rows["alignments3D/shift"], rtol=1e-6)


def test_poses_of_an_ab_initio_reconstruction_go_back_into_its_fields(tmp_path, stack):
    rows = cs_rows()
    rows = np.lib.recfunctions.rename_fields(
        rows,
        {f"alignments3D/{name}": f"alignments_class_0/{name}" for name in ("pose", "shift")},
    )
    table = read_cryosparc(write_cs(tmp_path, rows))
    again = with_pose_rows(rows, table, before=table, source="x.cs")
    for name in ("alignments_class_0/pose", "alignments_class_0/shift"):
        np.testing.assert_allclose(again[name], rows[name], rtol=1e-6, atol=1e-6)


def test_the_field_s_own_files_agree(empiar):
    ours = read_cryosparc(str(empiar / "empiar_10076_7.cs"))
    theirs = read_relion(str(empiar / "empiar_10076_7.star"))
    assert ours.stacks == theirs.stacks
    for name in ("slice", "box", "defocus_u_angstrom", "voltage_kv", "amplitude_contrast"):
        np.testing.assert_array_equal(ours.column(name), theirs.column(name))
    for name in ("pixel_size_angstrom", "defocus_angle_deg"):
        np.testing.assert_allclose(ours.column(name), theirs.column(name), rtol=1e-5)


@pytest.mark.parametrize(
    ("field", "shape"), [("alignments3D_multi/pose", (2, 3)), ("alignments_class_0/pose", (3,))]
)
def test_poses_in_several_classes_are_named_as_such(tmp_path, field, shape):
    write_mrc(tmp_path / "stack.mrcs", images_of(4))
    fields = {
        "alignments3D/pose": None,
        "alignments3D/shift": None,
        field: np.zeros((4, *shape), "f4"),
        "alignments_class_0/shift": np.zeros((4, 2), "f4"),
        "alignments_class_1/pose": np.zeros((4, 3), "f4"),
        "alignments_class_1/shift": np.zeros((4, 2), "f4"),
    }
    table = read_cryosparc(write_cs(tmp_path, cs_rows(fields=fields)))
    with pytest.raises(InputError, match=rf"classes \({field}\): take the particles file of one"):
        require_poses(table)


@pytest.mark.parametrize(
    ("field", "what"), [("map/path", "volumes"), ("micrograph_blob/path", "micrographs")]
)
def test_a_file_of_something_else_than_particles_is_named(tmp_path, field, what):
    rows = np.zeros(2, dtype=[("uid", "u8"), (field, "S9")])
    with pytest.raises(
        InputError, match=rf"lists {what}, and no particles \(it has {field[:-5]}\)"
    ):
        read_cryosparc(write_cs(tmp_path, rows))


def test_a_group_file_of_other_particles_is_not_replaced(tmp_path):
    out, group = tmp_path / "it's.cs", tmp_path / "it's.csg"
    group.write_text("results: of a job\n")
    with pytest.raises(ConfigError, match="there already and of other particles"):
        write_rows(str(out), cs_rows())
    assert not out.exists()
    assert group.read_text() == "results: of a job\n"
    group.unlink()
    for _ in range(2):  # its own is
        write_rows(str(out), cs_rows())
    assert yaml.safe_load(group.read_text())["results"]["blob"]["metafile"] == ">it's.cs"
