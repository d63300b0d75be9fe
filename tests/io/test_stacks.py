"""Where stacks are looked for, and what is refused about them."""

from itertools import pairwise

import numpy as np
import pytest

from phantoms import images_of, write_mrc
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.stacks import check_slices, find_stacks, read_headers


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


def test_places_are_tried_in_the_order_that_is_said(project, monkeypatch):
    root, source = project
    monkeypatch.chdir(root)
    tried = [NAME, f"data/{NAME}", "data/a.mrcs"]
    made = [place_of(root, where) for where in tried]
    for expected, _ in pairwise([*made, None]):
        assert find_stacks([NAME], source=str(source), datadir=str(root / "data")) == [expected]
        (root / expected).unlink()


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
    message = rf"run\.star, particle 1: slice {slice_number + 1} of .*a\.mrcs.* 3 slices \(1 such"
    with pytest.raises(InputError, match=message):
        check_slices(headers, codes, slices, source="run.star")


def test_images_that_are_not_square_are_refused(tmp_path):
    uri = write_mrc(tmp_path / "c.mrcs", np.zeros((2, 6, 8), dtype=np.float32))
    with pytest.raises(InputError, match=r"c\.mrcs has images of 6×8 px"):
        check_slices(read_headers([uri]), np.array([0]), np.array([0]), source="s")
