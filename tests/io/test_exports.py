"""Where exports lead, and whether they hold what was selected."""

import numpy as np
import numpy.lib.recfunctions
import pytest

from phantoms import images_of, table_of, write_mrc
from raydrgn.errors import ConfigError, InputError
from raydrgn.io import selection, starrows
from raydrgn.io.particles import NoParticlesError, ParticleTable
from raydrgn.io.relionwriter import write_relion
from raydrgn.io.sources import open_particles
from raydrgn.io.star import read_star
from raydrgn.io.starrows import read_text_star
from star_and_cs import COUNT, source, star_text


@pytest.fixture
def project(folder):
    """A project with a STAR file that names its stack from the project on, and a folder outside."""
    root = folder / "project"
    for name in ("Extract", "Refine", "Select"):
        (root / name).mkdir(parents=True)
    (folder / "stack.mrcs").rename(root / "Extract" / "stack.mrcs")
    (root / "Refine" / "run.star").write_text(star_text().replace("@stack", "@Extract/stack"))
    (folder / "outside").mkdir()
    return root


@pytest.mark.parametrize("stand", [".", "Refine", "/"])
def test_an_export_leads_to_the_same_images_from_any_folder(project, monkeypatch, stand):
    monkeypatch.chdir(project / stand)
    inside, outside = project / "Select" / "out.star", project.parent / "outside" / "out.star"
    expected = open_particles(source(project / "Refine", "run.star"))
    for out in (inside, outside):
        selection.export_star(source(project / "Refine", "run.star"), str(out))
        monkeypatch.chdir(out.parent)
        assert open_particles(source(out.parent, "out.star")).stacks == expected.stacks
        monkeypatch.chdir(project / stand)
    names = [read_text_star(str(f)).particles().cells("rlnImageName")[0] for f in (inside, outside)]
    # names of a RELION project stay as they are inside of it
    assert names == ["000001@Extract/stack.mrcs", f"000001@{project}/Extract/stack.mrcs"]


@pytest.mark.parametrize("datadir", [True, False])
def test_a_star_file_of_a_cs_file_leads_to_its_images(
    folder, cs_rows, monkeypatch, datadir, caplog
):
    (folder / "J1" / "extract").mkdir(parents=True)
    (folder / "stack.mrcs").rename(folder / "J1" / "extract" / "a.mrc")
    cs_rows["blob/path"] = b">J1/extract/a.mrc"
    place = folder / "J2" if not datadir else folder.parent / "elsewhere"
    place.mkdir()
    with (place / "p.cs").open("wb") as stream:
        np.save(stream, cs_rows)
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    given = source(place, "p.cs", datadir=str(folder) if datadir else None)
    selection.export_star(given, "out.star")
    [first, *_] = read_text_star("out.star").particles().cells("rlnImageName")
    assert first == "000001@../J1/extract/a.mrc"
    assert "only if its name ends in .mrcs" in caplog.text
    monkeypatch.chdir("/")
    again = open_particles(source(folder / "work", "out.star"))
    assert again.stacks == [str(folder / "J1" / "extract" / "a.mrc")]
    np.testing.assert_array_equal(again.column("slice"), np.arange(COUNT))


def test_an_export_whose_stacks_are_elsewhere_says_what_its_names_are(folder, cs_rows, caplog):
    (folder / "stack.mrcs").unlink()
    for name in ("in.star", "in.cs"):
        caplog.clear()
        selection.export_star(source(folder, name), str(folder / "out.star"))
        assert "1 stacks are not found, the first is stack.mrcs" in caplog.text
        assert f"project folder of {folder / name}" in caplog.text.replace(" that file", "") or (
            f"those of {folder / name}" in caplog.text
        )
        names = read_text_star(str(folder / "out.star")).particles().cells("rlnImageName")
        assert names[0] == "000001@stack.mrcs"


def test_stacks_that_relion_reads_as_stacks_by_their_ending_are_read(folder, caplog):
    (folder / "stack.mrcs").rename(folder / "stack.mrc")
    (folder / "in.star").write_text(star_text().replace("@stack.mrcs", "@stack.mrc:mrcs"))
    selection.export_star(source(folder), str(folder / "out.star"))
    assert open_particles(source(folder, "out.star")).stacks == [str(folder / "stack.mrc")]
    assert "only if its name ends" not in caplog.text


@pytest.mark.parametrize(("optics", "particles"), [("1", "1.000000"), ("1", "01"), ("1.0", "1")])
def test_one_group_in_other_words_keeps_its_row(folder, optics, particles):
    text = star_text().replace("\n1 og1", f"\n{optics} og1")
    lines = [
        f"{line[:-1]}{particles}" if "@" in line and line.endswith("1") else line
        for line in text.split("\n")
    ]
    (folder / "in.star").write_text("\n".join(lines))
    table = open_particles(source(folder))
    assert set(table.table.column("optics_group").to_pylist()) == {"1", "2"}
    selection.export_star(source(folder), str(folder / "out.star"))
    out = read_text_star(str(folder / "out.star"))
    assert len(out.block("optics").rows) == 2
    assert len(open_particles(source(folder, "out.star"))) == COUNT


def test_a_group_without_a_row_is_not_exported(folder):
    (folder / "in.star").write_text(star_text().replace("\n2 'the second'", "\n4 'the second'"))
    with pytest.raises(InputError, match="particles of optics group 2, which block data_optics"):
        selection.export_star(source(folder), str(folder / "out.star"))
    assert not (folder / "out.star").exists()


@pytest.mark.parametrize("suffix", ["star", "cs"])
def test_nothing_is_exported_of_a_file_without_particles(folder, cs_rows, suffix):
    (folder / "in.star").write_text(star_text(0))
    with (folder / "in.cs").open("wb") as stream:
        np.save(stream, cs_rows[:0])
    export = selection.export_star if suffix == "star" else selection.export_cs
    with pytest.raises(NoParticlesError, match="lists no particles"):
        export(source(folder, f"in.{suffix}"), str(folder / f"out.{suffix}"))
    assert not (folder / f"out.{suffix}").exists()


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda text: text.replace("000003@", "000004@"), "block data_particles"),
        (lambda text: text.replace("1 og1", "1 other"), "block data_optics"),
        (lambda text: "\n".join(text.split("\n")[:-3]), "block data_general"),
    ],
    ids=["an image", "a group", "rows"],
)
def test_an_export_that_reads_as_something_else_is_not_put_in_place(
    folder, monkeypatch, damage, what
):
    (folder / "out.star").write_text("old")
    lines = starrows.TextBlock.lines

    def damaged(block):
        yield from damage("\n".join(lines(block))).split("\n")

    monkeypatch.setattr(starrows.TextBlock, "lines", damaged)
    with pytest.raises(
        InputError, match=rf"out\.star does not read as it should: {what} would be others"
    ):
        selection.export_star(source(folder), str(folder / "out.star"))
    assert (folder / "out.star").read_text() == "old"


@pytest.mark.parametrize("name", ["rlnDefocusU", "rlnAngleRot", "rlnOriginXAngst"])
def test_a_new_file_with_other_values_is_not_put_in_place(folder, monkeypatch, name):
    table = open_particles(source(folder))
    wrong = table.with_columns(
        {"defocus_u_angstrom": table.column("defocus_u_angstrom") + 1}
        if name == "rlnDefocusU"
        else {"rotation": table.column("rotation")[::-1]}
        if name == "rlnAngleRot"
        else {"shift_angstrom": table.column("shift_angstrom") * 0.5}
    )
    write = selection.write_relion
    monkeypatch.setattr(
        selection, "write_relion", lambda out, _, **options: write(out, wrong, **options)
    )
    given = source(folder, "stack.mrcs")
    with pytest.raises(InputError, match=r"does not read as it should: the (poses|CTF) would be"):
        selection.export_star(given, str(folder / "out.star"), table=without_source(table))
    assert not (folder / "out.star").exists()


def without_source(table):
    return ParticleTable(table.table.replace_schema_metadata(None))


def test_an_export_does_not_replace_what_it_reads_through_a_link(folder):
    (folder / "link.star").symlink_to("in.star")
    with pytest.raises(ConfigError, match="would replace"):
        selection.export_star(source(folder), str(folder / "link.star"))


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["0", "4294967295"], ["1", "2"]),
        (["2147483648", "3"], ["1", "2"]),
        (["2147483647", "3"], ["2147483647", "3"]),
        (["x", "3"], ["1", "2"]),
    ],
)
def test_optics_groups_have_numbers_that_relion_takes(tmp_path, labels, groups):
    """cryoSPARC's may be 0, or as large as 32 bits hold; RELION counts from 1, with a sign."""
    stack = write_mrc(tmp_path / "a.mrcs", images_of(2))
    write_relion(str(tmp_path / "a.star"), table_of(2, stacks=(stack,), optics_group=labels))
    _, particles = read_star(str(tmp_path / "a.star"))
    assert particles.text("rlnOpticsGroup") == groups


def test_a_comment_after_loop_is_no_other_syntax(folder):
    """`parse` read such a file, and `export` found no column in it."""
    text = star_text().replace("\nloop_\n_rlnDefocusU", "\nloop_  # of the particles\n_rlnDefocusU")
    (folder / "in.star").write_text(text)
    selection.export_star(source(folder), str(folder / "out.star"))
    expected = open_particles(source(folder)).column("slice")
    found = open_particles(source(folder, "out.star")).column("slice")
    np.testing.assert_array_equal(found, expected)
