"""The table of occupancies: nothing is lost on the way to disk and back; MAVEn's file is read."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from raydrgn.errors import InputError
from raydrgn.occupancy.table import OccupancyTable

VALUES = np.random.default_rng(0).normal(size=(3, 2))


def table(**changes):
    columns = {
        "volumes": ("293", "18", "442"),
        "subunits": ("prots1_chaina", "H68"),
        "values": VALUES,
    }
    return OccupancyTable(**(columns | changes))


def test_everything_comes_back_from_parquet(tmp_path):
    latents = np.float32([[1, 2], [3, 4], [5, 6]])
    columns = {"particles": [2, 1, 0], "original": [7, 5, 3], "clusters": [2, 0, 1]}
    made = table(latents=latents, **{name: np.array(values) for name, values in columns.items()})
    made.write(str(tmp_path))
    found = OccupancyTable.read(str(tmp_path))
    assert (found.volumes, found.subunits) == (made.volumes, made.subunits)
    np.testing.assert_array_equal(found.values, VALUES)
    np.testing.assert_array_equal(found.particles, [2, 1, 0])
    np.testing.assert_array_equal(found.original, [7, 5, 3])
    np.testing.assert_array_equal(found.latents, latents)
    np.testing.assert_array_equal(found.clusters, [2, 0, 1])


def test_beside_the_csv_the_parquet_file_of_the_same_table_is_read(tmp_path):
    table(original=np.array([7, 5, 3])).write(str(tmp_path))
    found = OccupancyTable.read(str(tmp_path / "occupancies.csv"))
    np.testing.assert_array_equal(found.original, [7, 5, 3])
    text = (tmp_path / "occupancies.csv").read_text()
    (tmp_path / "occupancies.csv").write_text(text.replace("\n442,", "\n443,"))
    edited = OccupancyTable.read(str(tmp_path / "occupancies.csv"))
    assert edited.volumes[-1] == "443"
    assert edited.original is None


def test_names_and_all_digits_come_back_from_csv(tmp_path):
    table().write(str(tmp_path))
    (tmp_path / "occupancies.csv").rename(tmp_path / "mine.csv")
    found = OccupancyTable.read(str(tmp_path / "mine.csv"))
    assert (found.volumes, found.subunits) == (table().volumes, table().subunits)
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.particles is None


def test_the_csv_of_maven_is_read(real_maps):
    found = OccupancyTable.read(str(real_maps[0].parent / "occupancies_expected.csv"))
    assert found.labels == ("a", "d", "g", "k", "p", "u")
    assert found.volumes[0] == "293"
    assert found.values[0, 0] == 10.285704410725472


def test_of_a_run_the_folder_of_its_occupancies_is_named(tmp_path):
    with pytest.raises(InputError, match="Make it with `raydrgn occupancy score`"):
        OccupancyTable.read(str(tmp_path))
    table().write(str(tmp_path / "occupancy.7"))
    with pytest.raises(InputError, match=r"Give a folder that does: \S+/occupancy\.7\.$"):
        OccupancyTable.read(str(tmp_path))


def test_a_parquet_file_that_is_damaged_or_lacks_a_subunit_is_refused(tmp_path):
    table().write(str(tmp_path))
    path = tmp_path / "occupancies.parquet"
    whole, other = path.read_bytes(), tmp_path / "other.parquet"
    pq.write_table(pq.read_table(path).drop_columns("H68"), other)
    with pytest.raises(InputError, match=r"other.parquet has no column 'H68'"):
        OccupancyTable.read(str(other))
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), other)
    with pytest.raises(InputError, match="is not a table of occupancies that raydrgn wrote"):
        OccupancyTable.read(str(other))
    place = whole.index(VALUES[:, 0].tobytes()) + 5
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(InputError, match="is not a whole Parquet file"):
        OccupancyTable.read(str(tmp_path))


def test_a_ragged_csv_is_refused_by_its_line(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("PDB,m,m\nChain,a,b\n1,0.5,0.25\n2,0.5\n")
    with pytest.raises(InputError, match="line 4"):
        OccupancyTable.read(str(path))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_csv_of_a_spreadsheet_is_read(tmp_path, end, codec):
    path = tmp_path / "saved.csv"
    lines = ["PDB,4ybb,4ybb", "Chain,ä,b", "1,0.5,0.25", "2,0.5,1", ""]
    path.write_bytes(end.join(lines).encode(codec))
    found = OccupancyTable.read(str(path))
    assert found.subunits == ("4ybb_chainä", "4ybb_chainb")
    assert found.values.tolist() == [[0.5, 0.25], [0.5, 1]]


def test_what_is_no_csv_is_refused_in_words(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("PDB," + "x" * 200_000)
    with pytest.raises(InputError, match=r"long\.csv is not a table of occupancies: field larger"):
        OccupancyTable.read(str(path))


def test_names_that_would_hide_each_other_are_refused():
    with pytest.raises(InputError, match="two volumes named '18'"):
        table(volumes=("18", "18", "442"))
    with pytest.raises(InputError, match="'cluster'"):
        table(subunits=("cluster", "H68"))
