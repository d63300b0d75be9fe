"""Which particles of labels in different files are the same."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from finished_run import make_run
from phantoms import table_of
from raydrgn.cli.main import app
from raydrgn.comparison.labelings import Labeling, matching_rows
from raydrgn.comparison.sources import open_labeling
from raydrgn.errors import InputError
from raydrgn.io import cryodrgn
from raydrgn.run.refined_poses import rows_by_number
from raydrgn.run.same_particles import numbers_in
from raydrgn.workflows import compare, plot


def compare_files(*labels, **more):
    return compare.run(compare.CompareSettings(labels=tuple(map(str, labels)), **more))


def test_rows_of_relion_s_file_are_matched_by_image(tmp_path, caplog):
    """A selection in another order, as of a classification, with a run of the whole file."""
    states = np.arange(60) % 3
    z = np.random.default_rng(0).normal(size=(60, 2)) + np.array([[0, 0], [9, 0], [0, 9]])[states]
    original, classes = tmp_path / "p.star", tmp_path / "run_it025_data.star"

    def write(path, rows):
        lines = [f"{row + 1:06d}@stack.mrcs {states[row] + 1}" for row in rows]
        head = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnClassNumber #2\n"
        path.write_text(head + "\n".join(lines) + "\n")

    write(original, range(60))
    write(classes, np.random.default_rng(1).permutation(60)[:40])
    table = table_of(60, box=8, pixel_size=2.0).with_metadata("source", str(original))
    root = make_run(tmp_path / "run", z, table=table).files.root
    arguments = ["analyze", root, "--ksample", "3", "--skip-umap", "--skip-volumes"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    [found] = compare_files(root, classes).pairs
    assert found.adjusted_rand == pytest.approx(1)
    assert len(found.numbers) == 40
    classes.write_text(classes.read_text().replace("stack.mrcs", "other.mrcs"))
    with pytest.raises(InputError, match="40 labels without the numbers"):
        compare_files(root, classes)
    assert "the rows of" in caplog.text


def test_rows_of_two_files_are_matched_by_image_without_a_run(tmp_path):
    """Two classifications, of which one has some of the particles in another order."""
    states = np.arange(60) % 3
    chosen = np.random.default_rng(1).permutation(60)[:40]
    for name, rows in (("a", np.arange(60)), ("b", chosen)):
        lines = "".join(f"{row + 1}@stack.mrcs {states[row]}\n" for row in rows)
        head = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnClassNumber #2\n"
        (tmp_path / f"{name}.star").write_text(head + lines)
        kinds = [("uid", "u8"), ("alignments3D/class", "u4"), ("alignments3D/pose", "f4", 3)]
        table = np.zeros(len(rows), kinds)
        table["uid"], table["alignments3D/class"] = 7 + 13 * rows, states[rows]
        with (tmp_path / f"{name}.cs").open("wb") as stream:
            np.save(stream, table)
    for kind in ("star", "cs"):
        for first, second in ("ab", "ba"):
            files = (tmp_path / f"{first}.{kind}", tmp_path / f"{second}.{kind}")
            [found] = compare_files(*files).pairs
            assert found.adjusted_rand == pytest.approx(1)
            np.testing.assert_array_equal(found.numbers, np.sort(chosen))


def test_rows_of_a_star_file_are_matched_to_a_run_of_cryosparc_s_particles(tmp_path):
    """By stack and slice; where no image is the same, by the defocus at least."""
    (tmp_path / "stack.mrcs").write_bytes(b"")
    states = np.arange(40) % 3
    z = np.array([[0, 0], [9, 0], [0, 9]])[states] + np.random.default_rng(0).normal(size=(40, 2))
    stack = np.full(40, str(tmp_path / "stack.mrcs"), dtype=object)
    table = table_of(40, box=8, pixel_size=2.0).with_columns({"stack": stack})
    root = make_run(tmp_path / "run", z, table=table.with_metadata("source", "/d/J5.cs")).files.root
    arguments = ["analyze", root, "--ksample", "3", "--skip-umap", "--skip-volumes"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    columns = (
        *("ImageName", "ImageSize", "ImagePixelSize", "DefocusU", "DefocusV", "DefocusAngle"),
        *("Voltage", "SphericalAberration", "AmplitudeContrast", "ClassNumber"),
    )
    head = "data_particles\n\nloop_\n" + "".join(f"_rln{name}\n" for name in columns)
    for name, moved in (("stack.mrcs", 0.0), ("other.mrcs", 0.0), ("other.mrcs", 5000.0)):
        order = np.random.default_rng(1).permutation(40) if name == "stack.mrcs" else np.arange(40)
        (tmp_path / "classes.star").write_text(
            head
            + "".join(
                f"{row + 1}@{name} 8 2.0 {u + moved} {u + moved} 0 300 2.7 0.1 {states[row]}\n"
                for row, u in zip(order, table.column("defocus_u_angstrom")[order], strict=True)
            )
        )
        if moved:
            with pytest.raises(InputError, match="no image in common, and the defocus"):
                compare_files(root, tmp_path / "classes.star")
        else:
            [found] = compare_files(root, tmp_path / "classes.star").pairs
            assert found.adjusted_rand == pytest.approx(1)


def test_particles_that_have_moved_are_those_of_the_larger_file(tmp_path):
    head = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnClassNumber #2\n"
    classes = {"part": {9: 1, 7: 1, 5: 1, 3: 0}, "all": {row: int(row > 4) for row in range(12)}}
    classes["all"][9] = 0
    for name, rows in classes.items():
        lines = "".join(f"{row + 1}@s.mrcs {number}\n" for row, number in rows.items())
        (tmp_path / f"{name}.star").write_text(head + lines)
    compare_files(tmp_path / "part.star", tmp_path / "all.star", out=str(tmp_path / "out"))
    report = (tmp_path / "out" / "report.html").read_text()
    assert f"export star {tmp_path}/all.star" in report
    [moved] = (tmp_path / "out").rglob("moved.ind.pkl")
    assert cryodrgn.read_indices(str(moved)).tolist() == [9]


def test_fields_of_cryosparc_s_file_are_labels(tmp_path):
    place = tmp_path / "p.cs"
    fields = ("uid", "alignments2D/class", "alignments3D/class", "blob/path")
    table = np.zeros(6, [(name, "S8" if name == "blob/path" else "u8") for name in fields])
    table["alignments2D/class"], table["alignments3D/class"] = np.arange(6) % 3, np.arange(6) % 2
    table["blob/path"] = [b"a", b"b"] * 3
    with place.open("wb") as stream:
        np.save(stream, table)
    with pytest.raises(InputError, match="which of them holds the labels is not known"):
        open_labeling(str(place))
    assert open_labeling(f"{place}:alignments2D/class").names == ("0", "1", "2")
    assert open_labeling(f"{place}:blob/path").codes.tolist() == [0, 1] * 3


def test_runs_on_different_files_are_matched_by_their_images(tmp_path):
    """One is on all particles, the other on some of them in another order."""
    states = np.arange(60) % 3
    chosen = np.random.default_rng(1).permutation(60)[:40]
    every = table_of(60, box=8, pixel_size=2.0)
    part = every.select(chosen).with_columns({"index": np.arange(40)})
    offsets = np.array([[0, 0], [9, 0], [0, 9]])
    roots = []
    for name, table, shown in (("all", every, states), ("part", part, states[chosen])):
        z = np.random.default_rng(2).normal(size=(len(table), 2)) + offsets[shown]
        table = table.with_metadata("source", f"/data/{name}.star")
        root = make_run(tmp_path / name, z, table=table).files.root
        arguments = ["analyze", root, "--ksample", "3", "--skip-umap", "--skip-volumes"]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        roots.append(root)
    for first, second in (roots, [f"{root}/analyze.1" for root in roots]):
        [found] = compare_files(first, second).pairs
        assert found.adjusted_rand == pytest.approx(1)
        np.testing.assert_array_equal(found.numbers, np.sort(chosen))
        assert found.only_first.sum() == 20
    figure = plot.run(plot.PlotSettings(run=roots[1], by=roots[0], out=str(tmp_path / "p.png")))
    assert figure.num_coloured == 40


def test_files_without_an_image_in_common_are_matched_by_number_if_their_defocus_is_alike():
    """As where images were made smaller into a stack of their own."""
    table = table_of(30, box=8, pixel_size=2.0)
    table = table.with_metadata("source", "/data/a.star")
    stack = np.full(30, "/data/smaller.mrcs", dtype=object)
    smaller = table.with_columns({"stack": stack}).with_metadata("source", "/data/b.star")
    names = {"name": "b", "other": "a"}
    np.testing.assert_array_equal(numbers_in(smaller, table, **names), np.arange(30))
    defocus = table.column("defocus_u_angstrom") + 3000.0
    other = smaller.with_columns({"defocus_u_angstrom": defocus})
    with pytest.raises(InputError, match="have no image in common, and the defocus"):
        numbers_in(other, table, **names)
    twice = table.select(np.array([0, 1, 1]))
    with pytest.raises(InputError, match="has an image in several rows"):
        numbers_in(table.with_metadata("source", "/data/b.star"), twice, **names)


@pytest.mark.parametrize("views", ["all", "one"])
def test_where_the_defocus_hardly_varies_orientations_show_which_set_it_is(views):
    """In another frame, of the opposite hand, and refined; not those of other particles."""
    generator = np.random.default_rng(3)
    tilt = Rotation.from_euler("ZY", generator.normal(size=(40, 2)) * [0, 0.1])
    in_plane = Rotation.from_euler("Z", generator.uniform(0, 2 * np.pi, 40)[:, None])
    matrices = (
        in_plane * tilt if views == "one" else Rotation.random(40, rng=generator)
    ).as_matrix()

    def of(name, rotations, **more):
        stack = np.full(len(rotations), f"/data/{name}.mrcs", dtype=object)
        columns = {"rotation": rotations.reshape(-1, 9), "stack": stack, **more}
        table = table_of(len(rotations), **columns)
        return table.with_metadata("source", f"/data/{name}.star")

    errors = Rotation.from_rotvec(generator.normal(size=(40, 3)) * np.deg2rad(3)).as_matrix()
    frame, hand = Rotation.random(rng=generator).as_matrix(), np.diag([1, 1, -1])
    reference, names = of("a", matrices), {"name": "b", "other": "a"}
    for same in (errors @ matrices @ frame, hand @ matrices @ hand):
        np.testing.assert_array_equal(numbers_in(of("b", same), reference, **names), np.arange(40))
    for other in (matrices[::-1].copy(), generator.permutation(matrices)):
        with pytest.raises(InputError, match=r"angle between successive particles .* differs by"):
            numbers_in(of("b", other), reference, **names)
    defocus = {"defocus_u_angstrom": generator.uniform(1e4, 2.5e4, 40)}
    equivalent = (
        matrices @ Rotation.from_euler("Z", [[180]] * 20 + [[0]] * 20, degrees=True).as_matrix()
    )
    varied = of("a", matrices, **defocus), of("b", generator.permutation(equivalent), **defocus)
    np.testing.assert_array_equal(numbers_in(varied[1], varied[0], **names), np.arange(40))


def test_a_table_without_particles_has_none_in_common():
    table = table_of(3, box=8, pixel_size=2.0).with_metadata("source", "/data/a.star")
    nothing = table.select(np.arange(0)).with_metadata("source", "/data/b.star")
    with pytest.raises(InputError, match="b come from different files, which have no image in"):
        numbers_in(table, nothing, name="a", other="b")
    with pytest.raises(InputError, match=r"run has no poses of particle 0 .3 such particles"):
        rows_by_number(table, nothing, "run", what="poses")
    whole, none = (
        Labeling(name="a", kind="labels", names=("x",), codes=np.zeros(count, int), numbers=numbers)
        for count, numbers in ((3, np.arange(3)), (0, np.arange(0)))
    )
    np.testing.assert_array_equal(matching_rows(whole, none), [-1, -1, -1])


@pytest.mark.parametrize("name", ["labels.csv", "labels.txt", "labels.pkl", "labels.parquet"])
def test_a_file_without_labels_is_refused_where_it_is_read(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".pkl":
        cryodrgn.write_pickles(str(path), np.arange(0))
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({"original": np.arange(0), "label": np.arange(0)}), path)
    else:
        path.write_text("original,label\n" if path.suffix == ".csv" else "")
    with pytest.raises(InputError, match=rf"{name}.*(no rows|is empty|shape .0,.)"):
        open_labeling(str(path))


def test_more_labels_than_the_file_of_the_run_has_are_refused(tmp_path):
    star = tmp_path / "p.star"
    rows = "".join(f"{row + 1}@stack.mrcs\n" for row in range(30))
    star.write_text(f"data_particles\n\nloop_\n_rlnImageName #1\n{rows}")
    table = table_of(30, box=8, pixel_size=2.0).with_metadata("source", str(star))
    z = np.random.default_rng(0).normal(size=(30, 2))
    root = make_run(tmp_path / "run", z, table=table).files.root
    arguments = ["analyze", root, "--ksample", "3", "--skip-umap", "--skip-volumes"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    cryodrgn.write_pickles(str(tmp_path / "labels.pkl"), np.arange(45) % 3)
    with pytest.raises(InputError, match=r"45 labels without .*p\.star, .* lists 30"):
        compare_files(root, tmp_path / "labels.pkl")
