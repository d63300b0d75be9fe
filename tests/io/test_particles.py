"""ParticleTable: checked once, written and read back unchanged."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phantoms import fill_disk, table_of
from raydrgn.errors import InputError, RaydrgnError, StorageError
from raydrgn.io import storage
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_table_is_read_as_it_was_written(tmp_path, place):
    table = table_of(
        5,
        stacks=("/data/b.mrcs", "s3://bucket/a.mrcs"),
        optics_group=list("11223"),
        uid=np.array([2**64 - 1, 2**63, 0, 1, 2], dtype=np.uint64),
    )
    root = str(tmp_path) if place == "local" else "memory://tables"
    uri = storage.join(root, "particles.parquet")
    table.write(uri)
    again = ParticleTable.read(uri)
    assert again.table.equals(table.table)
    assert again.stacks == table.stacks
    assert again.column("uid").tolist() == [2**64 - 1, 2**63, 0, 1, 2]


def test_metadata_survive_selections_and_files(tmp_path):
    table = ParticleTable.from_columns(
        {"index": [0, 1], "stack": ["a", "b"], "slice": [0, 0], "box": [8, 8]},
        metadata={"source": "/x/run.star"},
    )
    part = table.select(np.array([1])).with_columns({"pixel_size_angstrom": [2.0]})
    part.write(str(tmp_path / "p.parquet"))
    assert ParticleTable.read(str(tmp_path / "p.parquet")).metadata == {"source": "/x/run.star"}


def test_columns_keep_their_shapes_and_types():
    table = table_of(3)
    assert table.rotations.shape == (3, 3, 3)
    assert table.column("shift_angstrom").shape == (3, 2)
    assert table.column("box").dtype == np.int32
    assert table.column("defocus_u_angstrom").dtype == np.float32
    assert table.has_poses
    assert table.has_ctf
    assert not table_of(3, shift_angstrom=None).has_poses
    assert not table_of(3, voltage_kv=None).has_ctf
    assert not table_of(3, pixel_size_angstrom=None).has_ctf


def test_a_table_is_printed_in_two_lines_with_its_columns():
    table = ParticleTable.from_columns(
        {"index": range(1200), "stack": ["a"] * 1200, "slice": range(1200), "box": [64] * 1200}
    )
    assert table.column_names == ["index", "stack", "slice", "box"]
    columns = "\n  columns: index, stack, slice, box)"
    assert repr(table) == f"ParticleTable(1,200 particles, box 64 px;{columns}"
    assert repr(table.select([])) == f"ParticleTable(0 particles;{columns}"
    mixed = table.with_columns({"box": [64] * 1199 + [96]}).select([0, 1199])
    assert repr(mixed) == f"ParticleTable(2 particles, boxes 64, 96 px;{columns}"


def test_selections_keep_order_repetitions_and_the_original_numbers():
    table = table_of(6, stacks=("a", "b", "c"))
    rows = np.array([5, 0, 0, 3])
    part = table.select(rows)
    assert part.column("index").tolist() == rows.tolist()
    np.testing.assert_array_equal(part.rotations, table.rotations[rows])
    assert [part.stacks[c] for c in part.stack_codes] == ["c", "a", "a", "b"]
    assert table.select(np.arange(6) % 2 == 1).column("index").tolist() == [1, 3, 5]
    assert table.slice_rows(2, 4).column("index").tolist() == [2, 3]
    assert part.slice_rows(1, 2).rotations.shape == (1, 3, 3)


def test_the_stacks_of_a_selection_are_those_of_its_particles(tmp_path):
    table = table_of(6, stacks=("a", "b", "c", "d"))
    assert table.stacks == ["a", "b", "c", "d"]
    part = table.select(np.array([5, 1, 0]))
    for one in (part, part.with_columns({"box": [16] * 3}), written(part, tmp_path)):
        assert one.stacks == ["a", "d"]
        assert [one.stacks[code] for code in one.stack_codes] == ["d", "a", "a"]
    assert table.slice_rows(2, 4).stacks == ["b", "c"]
    assert table.select(np.array([], dtype=np.int64)).stacks == []


def written(table, folder):
    table.write(str(folder / "t.parquet"))
    return ParticleTable.read(str(folder / "t.parquet"))


def test_columns_are_added_and_replaced():
    table = table_of(3, pixel_size_angstrom=None)
    more = table.with_columns({"pixel_size_angstrom": np.full(3, 2.0), "box": [16] * 3})
    assert more.single_box() == 16
    np.testing.assert_array_equal(more.rotations, table.rotations)
    assert more.column("pixel_size_angstrom").tolist() == [2.0] * 3


def test_an_empty_selection_is_a_table():
    part = table_of(3).select(np.array([], dtype=np.int64))
    assert len(part) == 0
    assert part.rotations.shape == (0, 3, 3)


# What is refused -----------------------------------------------------------------------------

MIRROR = np.diag([1.0, 1.0, -1.0]).reshape(1, 9)
STRETCHED = 1.01 * np.eye(3).reshape(1, 9)


def test_stacks_of_tables_put_together_are_each_there_once():
    """Parts of a Parquet file may number their stacks each in its own way."""
    parts = [table_of(4, stacks=names).table for names in (("b", "a"), ("c", "b"))]
    table = ParticleTable(pa.concat_tables(parts))
    assert [table.stacks[code] for code in table.stack_codes] == list("bbaaccbb")
    assert sorted(table.stacks) == ["a", "b", "c"]


def test_a_matrix_far_down_the_table_is_named_by_its_row():
    count, row = 300_000, 290_123
    with pytest.raises(InputError, match=rf"row {row} .*the rotation is not a rotation"):
        ParticleTable.from_columns(
            {
                "index": np.arange(count),
                "stack": ["a"] * count,
                "slice": np.arange(count),
                "box": np.full(count, 8),
                "rotation": in_row(0, row, count),
            }
        )


def in_row(bad, row, count=3):
    values = np.tile(np.eye(3).reshape(1, 9), (count, 1))
    values[row] = bad
    return values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stack": None}, "needs the column 'stack'"),
        ({"slice": None}, "needs the column 'slice'"),
        ({"colour": [1, 2, 3]}, "Unknown particle column 'colour'; known: index, stack"),
        ({"slice": [0, 1]}, "Column slice has 2 rows, but there are 3 particles"),
        ({"optics_group": ["1", None, None]}, "row 1 .*optics_group is empty .2 such rows"),
        ({"voltage_kv": [300, np.nan, 300]}, "row 1 .*voltage_kv is not finite .1 such rows of 3"),
        ({"voltage_kv": [300, 0, -1]}, "row 1 .*voltage_kv is 0 .2 such rows of 3"),
        ({"voltage_kv": [3e5] * 3}, "row 0 .*voltage_kv is 300000 .* between 10 and 10000"),
        ({"amplitude_contrast": [0.1, 0.1, 10]}, "row 2 .*amplitude_contrast is 10"),
        ({"pixel_size_angstrom": [0.0, 1, 1]}, "row 0 .*pixel_size_angstrom is 0"),
        ({"rotation": in_row(np.nan, 2)}, "row 2 .*rotation is not finite"),
        ({"rotation": in_row(MIRROR, 1)}, "row 1 .*the rotation is not a rotation.*mirrors"),
        ({"rotation": in_row(STRETCHED, 2)}, "row 2 .*the rotation is not a rotation"),
        ({"rotation": in_row(0, 0)}, "row 0 .*the rotation is not a rotation"),
        ({"shift_angstrom": [[0, 0], [0, 0], [0, -12.1]]}, r"row 2 .*larger than the box"),
        ({"shift_angstrom": [[0, np.inf], [0, 0], [0, 0]]}, "row 0 .*not finite .1 such rows of 3"),
    ],
    ids=[
        "no stack", "no slice", "unknown", "rows", "empty", "nan", "no voltage", "volts",
        "per cent", "no pixel size", "nan rotation", "mirror", "stretched", "zero",
        "shift", "infinite shift",
    ],
)  # fmt: skip
def test_a_bad_table_is_refused(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        table_of(3, **changes)
    assert isinstance(caught.value, RaydrgnError)


def test_six_decimals_of_a_rotation_are_enough():
    rotations = table_of(50).rotations.round(6).reshape(-1, 9)
    assert len(table_of(50, rotation=rotations)) == 50


def test_a_shift_of_the_whole_box_is_the_limit():
    table_of(3, shift_angstrom=np.full((3, 2), 12.0))  # 8 px of 1.5 Å


def test_boxes_must_be_one():
    groups = {"optics_group": ["1", "1", "2"]}
    table = table_of(3, box=8, **groups).with_columns({"box": [8, 8, 6]})
    with pytest.raises(InputError, match="group 1: 2 of 8 px, optics group 2: 1 of 6 px"):
        table.single_box()


def test_boxes_must_be_even():
    table = table_of(2, shift_angstrom=None).with_columns({"box": [7, 7]})
    with pytest.raises(InputError, match="odd box of 7 px; `raydrgn downsample` makes"):
        table.single_box()


def test_an_absent_column_is_named():
    with pytest.raises(InputError, match="no column 'uid'"):
        table_of(2).column("uid")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all, " * 100])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "p.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"p\.parquet is (empty|not a whole Parquet file)"):
        ParticleTable.read(str(tmp_path / "p.parquet"))


@pytest.mark.parametrize("cut", [10, -20, -1])
def test_a_truncated_table_is_refused(tmp_path, cut):
    content = table_of(3).to_bytes()
    (tmp_path / "p.parquet").write_bytes(content[:cut])
    with pytest.raises(InputError, match=r"p\.parquet is (empty|not a whole Parquet file)"):
        ParticleTable.read(str(tmp_path / "p.parquet"))


def test_other_tables_and_later_layouts_are_refused_with_the_command(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"index": [1]}), path)
    with pytest.raises(InputError, match=r"layout None, expected 1.*raydrgn parse --table"):
        ParticleTable.read(str(path))
    later = table_of(2).table.replace_schema_metadata({"raydrgn.particles": "2"})
    pq.write_table(later, path)
    with pytest.raises(InputError, match="layout 2, expected 1"):
        ParticleTable.read(str(path))


def test_a_table_changed_by_hand_is_checked_again(tmp_path):
    path = tmp_path / "p.parquet"
    table = table_of(3).table
    at = table.column_names.index("voltage_kv")
    broken = table.set_column(at, "voltage_kv", pa.array([1.0, np.nan, 1.0], pa.float32()))
    pq.write_table(broken.replace_schema_metadata({"raydrgn.particles": "1"}), path)
    with pytest.raises(InputError, match=r"row 1 .*voltage_kv is not finite"):
        ParticleTable.read(str(path))


def test_a_full_disk_leaves_the_table_of_before(tmp_path, monkeypatch):
    uri = str(tmp_path / "p.parquet")
    table_of(3).write(uri)
    fill_disk(monkeypatch)
    with pytest.raises(StorageError, match="No room is left"):
        table_of(5).write(uri)
    assert len(ParticleTable.read(uri)) == 3


def test_every_ctf_column_is_kept():
    given = dict(zip(CTF_COLUMNS, (9000.5, 8000.5, 45.5, 200.5, 2.5, 0.5, 90.5), strict=True))
    table = table_of(2, **{name: np.full(2, value) for name, value in given.items()})
    assert {name: table.column(name)[0] for name in CTF_COLUMNS} == given


@pytest.mark.parametrize("where", ["stack", "source"])
def test_a_name_that_is_not_utf_8_is_refused_in_words(where):
    name = "caf\udce9.mrcs"
    columns = {"index": [0], "stack": [name if where == "stack" else "a"], "slice": [0], "box": [8]}
    metadata = {"source": name} if where == "source" else None
    with pytest.raises(InputError, match=r"The name caf.*\.mrcs is not UTF-8"):
        ParticleTable.from_columns(columns, metadata=metadata)
