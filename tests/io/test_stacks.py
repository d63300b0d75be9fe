"""Where stacks are looked for, and what is refused about them."""

from contextlib import nullcontext

import fsspec
import numpy as np
import pytest

from phantoms import images_of, patch, table_of, write_mrc
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.stacks import (
    check_slices,
    find_stacks,
    first_out_of_order,
    leads_there,
    order_warning,
    read_headers,
)


@pytest.fixture
def project(tmp_path):
    """A project folder with a job that names stacks from the project on."""
    job = tmp_path / "Refine3D" / "job012"
    job.mkdir(parents=True)
    source = job / "run_data.star"
    source.write_text("data_\n\nloop_\n_rlnImageName\n1@Extract/job005/mics/a.mrcs\n")
    return tmp_path, source


NAME = "Extract/job005/mics/a.mrcs"


def place_of(project, where):
    path = project / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return str(path)


@pytest.mark.parametrize(
    "where",
    [NAME, f"Refine3D/{NAME}", f"Refine3D/job012/{NAME}", "Refine3D/job012/a.mrcs"],
    ids=["project", "folder above", "own folder", "own folder, base name"],
)
def test_stacks_are_found_from_the_file_upwards(project, where):
    expected = place_of(project[0], where)
    assert find_stacks([NAME], source=str(project[1]), datadir=None) == [expected]


@pytest.mark.parametrize("where", [f"data/{NAME}", "data/a.mrcs"], ids=["full", "base name"])
def test_stacks_are_found_below_datadir(project, where):
    expected = place_of(project[0], where)
    datadir = str(project[0] / "data")
    assert find_stacks([NAME], source=str(project[1]), datadir=datadir) == [expected]


def test_datadir_may_begin_with_the_home_folder(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project[0]))
    expected = place_of(project[0], f"data/{NAME}")
    assert find_stacks([NAME], source=str(project[1]), datadir="~/data") == [expected]


def test_places_are_tried_in_the_order_that_is_said(project, monkeypatch):
    root, source = project
    monkeypatch.chdir(root)
    tried = [
        f"data/{NAME}",
        f"Refine3D/job012/{NAME}",
        f"Refine3D/{NAME}",
        f"data/{NAME.removeprefix('Extract/')}",
        "data/mics/a.mrcs",
        "data/a.mrcs",
    ]
    made = [place_of(root, where) for where in tried]
    for expected in made:
        assert find_stacks([NAME], source=str(source), datadir=str(root / "data")) == [expected]
        (root / expected).unlink()
    place_of(root, "Refine3D/job012/a.mrcs")  # its base name counts where there is no --datadir
    with pytest.raises(InputError, match="is at none of"):
        find_stacks([NAME], source=str(source), datadir=str(root / "data"))


# Which of several is meant -------------------------------------------------------------------


@pytest.fixture
def grids(tmp_path):
    """Stacks of one base name in two folders, and a STAR file that lists both in full."""
    for name in ("gridA", "gridB"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "p.mrcs").write_bytes(name.encode())
    (tmp_path / "p.star").write_text(
        "data_\nloop_\n_rlnImageName\n1@gridA/p.mrcs\n1@gridB/p.mrcs\n"
    )
    return tmp_path


GRIDS = ["gridA/p.mrcs", "gridB/p.mrcs"]


def test_full_names_below_datadir_are_kept_apart(grids):
    data = str(grids / "data")
    found = find_stacks(GRIDS, source=str(grids / "p.star"), datadir=data)
    assert found == [f"{data}/gridA/p.mrcs", f"{data}/gridB/p.mrcs"]


@pytest.mark.parametrize("names", [GRIDS, GRIDS[::-1]])
def test_two_names_for_one_stack_by_base_name_are_refused_with_the_folder_that_helps(grids, names):
    message = rf"two stacks, {names[0]} and {names[1]}, but .*/p\.mrcs .*--datadir {grids}/data,"
    with pytest.raises(InputError, match=message):
        find_stacks(names, source=str(grids / "p.star"), datadir=str(grids / "data" / "gridA"))


def test_one_name_in_full_and_another_by_base_name_are_not_one_stack(grids):
    (grids / "data" / "gridA" / "gridA").mkdir()
    (grids / "data" / "gridA" / "gridA" / "p.mrcs").hardlink_to(grids / "data" / "gridA" / "p.mrcs")
    with pytest.raises(InputError, match="names two stacks"):
        find_stacks(GRIDS, source=str(grids / "p.star"), datadir=str(grids / "data" / "gridA"))


def test_a_full_name_above_is_better_than_a_base_name_beside_the_file(grids):
    source = grids / "data" / "gridA" / "p.star"
    source.write_text("data_\n")
    found = find_stacks(GRIDS, source=str(source), datadir=None)
    assert found == [str(grids / "data" / name) for name in GRIDS]


def test_one_stack_may_still_be_found_by_its_base_name(grids):
    source = str(grids / "data" / "gridB" / "p.star")
    [found] = find_stacks(["elsewhere/p.mrcs"], source=source, datadir=None)
    assert found == str(grids / "data" / "gridB" / "p.mrcs")


@pytest.mark.parametrize(
    "names", [["gridA/p.mrcs", "./gridA/p.mrcs"], ["gridA/p.mrcs", "gridC/p.mrcs"]]
)
def test_spellings_and_links_of_one_stack_are_one(grids, names):
    data = grids / "data"
    (data / "gridC").symlink_to("gridA")
    found = find_stacks(names, source=str(grids / "p.star"), datadir=str(data))
    assert found == [str(data / "gridA" / "p.mrcs")] * 2


def test_what_the_user_says_is_better_than_where_he_stands(project, monkeypatch):
    root, source = project
    (root / "here").mkdir()
    monkeypatch.chdir(root / "here")
    place_of(root, f"here/{NAME}")
    expected = place_of(root, f"data/{NAME}")
    assert find_stacks([NAME], source=str(source), datadir=str(root / "data")) == [expected]


def test_a_name_beside_the_file_is_better_than_where_he_stands(project, monkeypatch):
    root, source = project
    (root / "here").mkdir()
    monkeypatch.chdir(root / "here")
    place_of(root, "here/a.mrcs")
    expected = place_of(root, "Refine3D/job012/a.mrcs")
    assert find_stacks(["a.mrcs"], source=str(source), datadir=None) == [expected]


def test_one_name_for_two_stacks_is_refused_with_both(project, monkeypatch):
    root, source = project
    (root / "here").mkdir()
    monkeypatch.chdir(root / "here")
    places = [place_of(root, NAME), place_of(root, f"here/{NAME}")]
    with pytest.raises(InputError) as caught:
        find_stacks([NAME], source=str(source), datadir=None)
    message = str(caught.value)
    assert all(place in message for place in places)
    assert f"--datadir {root} or --datadir {root}/here" in message
    for folder, place in zip((root, root / "here"), places, strict=True):
        assert find_stacks([NAME], source=str(source), datadir=str(folder)) == [place]


def test_a_part_of_the_name_below_datadir_gives_way_to_the_full_name_and_this_is_logged(
    project, caplog
):
    root, source = project
    full, part = place_of(root, NAME), place_of(root, "data/a.mrcs")
    assert find_stacks([NAME], source=str(source), datadir=str(root / "data")) == [full]
    assert f"is read from {full}; {part} has only a part of its name" in caplog.text


def test_moved_data_are_found_by_the_rest_of_an_absolute_name(project):
    root, source = project
    old, new = place_of(root, f"old/{NAME}"), place_of(root, f"new/{NAME}")
    for datadir, expected in ((None, old), (str(root / "new"), new)):
        assert find_stacks([old], source=str(source), datadir=datadir) == [expected]


def test_stacks_of_a_file_that_is_reached_by_a_link_are_where_it_leads(project, tmp_path_factory):
    root, source = project
    link = tmp_path_factory.mktemp("elsewhere") / "particles.star"
    link.symlink_to(source)
    expected = place_of(root, NAME)
    assert find_stacks([NAME], source=str(link), datadir=None) == [expected]
    beside_link = place_of(link.parent, NAME)
    assert find_stacks([NAME], source=str(link), datadir=None) == [beside_link]


def test_two_absolute_names_for_one_stack_below_datadir_are_refused(grids):
    names = ["/x/gridA/p.mrcs", "/y/gridA/p.mrcs"]
    with pytest.raises(InputError, match="names two stacks"):
        find_stacks(names, source=str(grids / "p.star"), datadir=str(grids / "data"))


def test_a_missing_stack_that_need_not_be_there_keeps_its_name(project):
    found = find_stacks([NAME, "x.mrcs"], source=str(project[1]), datadir=None, required=False)
    assert found == [NAME, "x.mrcs"]


def test_a_url_is_not_the_local_file_of_its_name(tmp_path):
    fsspec.filesystem("memory").store.clear()
    storage.write_bytes("memory://there/a.mrcs", b"")
    (tmp_path / "a.mrcs").touch()
    source = str(tmp_path / "p.star")
    assert not leads_there("memory://there/a.mrcs", str(tmp_path / "a.mrcs"), source=source)
    assert leads_there("memory://there/a.mrcs", "memory://there/a.mrcs", source=source)


def test_a_name_leads_nowhere_from_a_new_file_below_two_stacks_of_that_name(tmp_path):
    below = tmp_path / "project" / "job"
    below.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "project"):
        (folder / "a.mrcs").touch()
    assert not leads_there("a.mrcs", str(tmp_path / "a.mrcs"), source=str(below / "new.star"))


def test_urls_are_taken_as_they_are(project):
    names = ["s3://bucket/a.mrcs"]
    assert find_stacks(names, source=str(project[1]), datadir=None) == names


def test_stacks_beside_a_file_elsewhere():
    storage.write_bytes("memory://job/a.star", b"")
    storage.write_bytes("memory://job/stacks/a.mrcs", b"")
    found = find_stacks(["stacks/a.mrcs"], source="memory://job/a.star", datadir=None)
    assert found == ["memory://job/stacks/a.mrcs"]


def test_a_missing_stack_is_named_with_its_line_and_every_place_tried(project):
    root, source = project
    with pytest.raises(InputError) as caught:
        find_stacks([NAME], source=str(source), datadir=None)
    message = str(caught.value)
    assert f"{source}, line 5, names the stack {NAME}" in message
    for place in (root / NAME, source.parent / NAME, source.parent / "a.mrcs"):
        assert str(place) in message
    assert "--datadir" in message


def test_headers_come_in_the_order_asked_for(tmp_path):
    counts = [3, 1, 2, 5, 4]
    uris = [write_mrc(tmp_path / f"{n}.mrcs", images_of(n)) for n in counts]
    assert [header.shape[0] for header in read_headers(uris)] == counts


@pytest.fixture
def headers(tmp_path):
    uris = [write_mrc(tmp_path / "a.mrcs", images_of(3)), str(tmp_path / "b.mrcs")]
    write_mrc(uris[1], images_of(2, box=6))
    return read_headers(uris)


def test_every_particle_gets_the_box_of_its_stack(headers):
    codes, slices = np.array([1, 0, 1, 0]), np.array([1, 2, 0, 0])
    boxes = check_slices(headers, codes, slices, source="s")
    assert boxes.tolist() == [6, 8, 6, 8]


@pytest.mark.parametrize("slice_number", [3, -1])
def test_a_slice_that_is_not_in_its_stack_is_refused(headers, slice_number):
    codes, slices = np.array([0, 0]), np.array([0, slice_number])
    message = rf"run\.star, row 1 .*: slice {slice_number + 1} of .*a\.mrcs.* 3 slices \(1 such"
    with pytest.raises(InputError, match=message):
        check_slices(headers, codes, slices, source="run.star")


def test_images_that_are_not_square_are_refused(tmp_path):
    uri = write_mrc(tmp_path / "c.mrcs", np.zeros((2, 6, 8), dtype=np.float32))
    with pytest.raises(InputError, match=r"c\.mrcs has images of 6×8 px"):
        check_slices(read_headers([uri]), np.array([0]), np.array([0]), source="s")


@pytest.mark.parametrize(("axes", "is_refused"), [((2, 1, 3), True), ((0, 0, 0), False)])
def test_images_with_axes_in_another_order_are_refused(axes, is_refused, tmp_path):
    """They were read transposed; a map was refused already."""
    uri = write_mrc(tmp_path / "t.mrcs", images_of(2))
    patch(tmp_path / "t.mrcs", 64, np.array(axes, dtype="<i4").tobytes())  # words 17 to 19
    with pytest.raises(InputError, match=r"order \(2, 1, 3\)") if is_refused else nullcontext():
        check_slices(read_headers([uri]), np.array([0]), np.array([0]), source="s")


# The order of rows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "slices", "row"),
    [
        ([0, 0, 0], [0, 1, 2], None),
        ([0, 0, 0, 0], [0, 1, 0, 1], 2),
        ([0, 0, 1, 1], [0, 1, 0, 1], None),
        ([1, 1, 0, 0], [0, 1, 0, 1], None),
        ([0, 0, 0], [1, 4, 7], None),  # a part of the images, in order
        ([0, 0, 0], [2, 0, 5], 1),
        ([0, 0, 0], [0, 0, 1], 1),  # symmetry copies
        ([0, 1, 0, 1], [0, 0, 1, 1], 2),
        ([], [], None),
    ],
    ids=["whole", "twice", "two stacks", "stacks in any order", "part", "shuffled", "copies",
         "interleaved", "none"],
)  # fmt: skip
def test_rows_in_the_order_of_the_stacks(codes, slices, row):
    names = np.array(["/a.mrcs", "/b.mrcs"], dtype=object)
    table = table_of(
        len(codes), stack=names[np.array(codes, dtype=int)], slice=np.array(slices, dtype=int)
    )
    assert first_out_of_order(table) == row
    warning = order_warning(table)
    assert (warning is None) == (row is None)
    assert row is None or f"first at row {row} (from 0): poses" in warning


def test_a_stack_by_a_file_url_is_the_local_file(tmp_path):
    place = write_mrc(tmp_path / "a.mrcs", images_of(2))
    source = str(tmp_path / "elsewhere" / "p.star")
    assert find_stacks([f"file://{place}"], source=source, datadir=None) == [place]
    missing = f"file://{tmp_path}/gone.mrcs"
    with pytest.raises(InputError, match=f"is at none of: {tmp_path}/gone.mrcs"):
        find_stacks([missing], source=str(tmp_path / "particles.cs"), datadir=None)
