"""STAR syntax: values as the text they are, errors with their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.star import line_of, read_star, write_star
from raydrgn.io.starrows import read_text_star


def star_of(tmp_path, text):
    (tmp_path / "a.star").write_text(text)
    return str(tmp_path / "a.star")


def test_blocks_of_loops_and_of_single_values(tmp_path):
    uri = star_of(
        tmp_path,
        "# version 50001\n\ndata_general\n\n_rlnA   1.5\n_rlnB  'two words'\n\n"
        "data_particles\n\nloop_\n_rlnX #1\n_rlnY #2\n1 a\n2 b\n3 c\n\n",
    )
    general, particles = read_star(uri)
    assert (general.name, particles.name) == ("general", "particles")
    assert len(general) == 1
    assert general.columns == ["rlnA", "rlnB"]
    assert general.text("rlnB") == ["two words"]
    assert len(particles) == 3
    assert particles.columns == ["rlnX", "rlnY"]
    assert particles.numbers("rlnX").tolist() == [1, 2, 3]
    assert "rlnX" in particles
    assert "rlnA" not in particles


@pytest.mark.parametrize(
    "rows",
    [
        "1 a b.mrcs\n2 c d.mrcs\n",
        "1\ta\tb.mrcs\n2\tc\td.mrcs\n",
        " 1 \t a   b.mrcs  \n\t2\tc  d.mrcs\t\n",
        "\n\n1 a b.mrcs # comment\n\n2 c d.mrcs\n# the end\n\n\n",
        '1 \'a\' "b.mrcs"\r\n2 "c" d.mrcs\r\n',
    ],
    ids=["spaces", "tabs", "mixed", "comments", "quotes and CRLF"],
)
def test_any_white_space_and_quotes_mean_the_same(tmp_path, rows):
    uri = star_of(tmp_path, f"data_\nloop_\n_rlnN #1\n_rlnA #2\n_rlnB #3\n{rows}")
    [block] = read_star(uri)
    assert block.name == ""
    assert block.numbers("rlnN").tolist() == [1, 2]
    assert block.text("rlnA") == ["a", "c"]
    assert block.text("rlnB") == ["b.mrcs", "d.mrcs"]


@given(
    rows=st.lists(
        st.tuples(
            st.text("abXY01@/._ -#$;?[]", max_size=12)
            | st.sampled_from(["data_x", "loop_", "LOOP_", "it's", "a 'b'", '"', "'"]),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_is_read_as_the_same_text(rows):
    names, values = (list(column) for column in zip(*rows, strict=True))
    blocks = {
        "optics": {"rlnOpticsGroup": ["1"]},
        "particles": {"rlnName": names, "rlnValue": list(map(repr, values))},
    }
    write_star("memory://star/a.star", blocks)
    optics, particles = read_star("memory://star/a.star")
    assert optics.text("rlnOpticsGroup") == ["1"]
    assert particles.text("rlnName") == names
    assert particles.numbers("rlnValue").tolist() == values


def test_a_word_that_is_no_number_is_named_with_its_row(tmp_path):
    uri = star_of(tmp_path, "data_p\nloop_\n_rlnX #1\n1.0\nnone\n2\n")
    [block] = read_star(uri)
    with pytest.raises(InputError, match=r"a\.star, line 5: _rlnX is 'none'"):
        block.numbers("rlnX")


@pytest.mark.parametrize(
    "text",
    [
        "data_p\nloop_\n_rlnX #1\n_rlnX #2\n1 2\n",
        "loop_\n_rlnX\n1\n",
    ],
    ids=["column twice", "no block"],
)
def test_broken_syntax_is_refused_with_the_file(tmp_path, text):
    with pytest.raises(InputError, match=r"a\.star(?: is not a STAR file:|,) line \d"):
        read_star(star_of(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.star").write_bytes(b"data_p\nloop_\n_rlnX\n\xff\xfe\x00\n")
    with pytest.raises(InputError, match=r"a\.star is not text; expected a STAR file"):
        read_star(str(tmp_path / "a.star"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_of_other_systems(tmp_path, encoding, end):
    text = "data_p\nloop_\n_rlnX #1\n_rlnName #2\n1 grille_é.mrc\n2 b.mrc\n".replace("\n", end)
    (tmp_path / "a.star").write_bytes(text.encode(encoding))
    [block] = read_star(str(tmp_path / "a.star"))
    assert block.text("rlnName") == ["grille_é.mrc", "b.mrc"]
    assert read_text_star(str(tmp_path / "a.star")).blocks[0].cells("rlnX") == ["1", "2"]


def test_an_older_encoding_is_named_with_its_line_and_how_to_convert_it(tmp_path):
    (tmp_path / "a.star").write_bytes("data_p\nloop_\n_rlnName #1\nb\ngrille_é\n".encode("latin1"))
    with pytest.raises(InputError, match=r"a\.star, line 5: .*'grille_' is not UTF-8.*iconv"):
        read_star(str(tmp_path / "a.star"))


# A row is a line --------------------------------------------------------------------------------

ROWS = [f"{i} name_{i} {i}.5" for i in range(1, 11)]
HEAD = "# made by hand\n\ndata_p\n\nloop_\n_rlnN #1\n_rlnName #2\n_rlnX #3\n"
"""Eight lines, so that row 1 is line 9."""


@pytest.mark.parametrize(
    ("changes", "line", "values"),
    [
        ({4: "4 name_4 4.5\n9"}, 13, "1 value,"),
        ({4: "4 name_4"}, 12, "2 values"),
        ({4: "9\n4 name_4 4.5", 7: "7 name_7"}, 12, "1 value,"),
        ({10: "10"}, 18, "1 value,"),
        ({1: "1 'two words' 1.5 2"}, 9, "4 values"),
        ({1: '1 "name" 1.5 # a comment', 2: "2 name_2 2.5 2"}, 10, "4 values"),
    ],
    ids=["stray", "lost", "shifted", "cut short", "quotes", "comment"],
)
@pytest.mark.parametrize("reader", [read_star, read_text_star])
def test_a_value_too_many_or_too_few_is_named_with_its_line(
    tmp_path, reader, changes, line, values
):
    rows = [changes.get(i, row) for i, row in enumerate(ROWS, start=1)]
    uri = star_of(tmp_path, HEAD + "\n".join(rows) + "\n\ndata_q\n_rlnA 1\n")
    with pytest.raises(
        InputError, match=rf"a\.star, line {line}: {values}.* a row of block data_p has 3"
    ):
        reader(uri)


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize(
    "value", ["data_0001.mrc", "DATA_1/a.mrc", "save_1.mrc", "_a.mrc", "$a.mrc", "loop_/a.mrc"]
)
def test_values_may_begin_like_names_of_blocks_and_columns(tmp_path, value, column):
    """RELION takes every word of a row for a value; CIF keeps these beginnings for itself."""
    cells = ["x"] * 3
    cells[column] = value
    rows = [" ".join(cells), "1 2  3", " ".join(cells)]
    head = "data_a\n\nloop_\n_rlnImageName #1\n_b #2\n_c #3\n"
    (tmp_path / "a.star").write_text(head + "\n".join(rows) + "\n\ndata_b\n\n_d 5\n")
    uri = str(tmp_path / "a.star")
    first, second = read_star(uri)
    name = first.columns[column]
    assert first.text(name) == [value, "123"[column], value]
    assert first.place(2) == "line 9"
    assert second.text("d") == ["5"]
    as_text = read_text_star(uri)
    assert as_text.block("a").rows == rows
    assert as_text.block("a").cells(name) == first.text(name)
    as_text.write(str(tmp_path / "b.star"))
    assert (tmp_path / "b.star").read_text() == (tmp_path / "a.star").read_text()


def test_what_follows_a_loop_in_its_block_is_no_row(tmp_path):
    uri = star_of(tmp_path, HEAD + "\n".join(ROWS) + "\n_rlnA 1\nloop_\n_rlnB\n5\n6\n")
    [block], text = read_star(uri), read_text_star(uri)
    assert block.numbers("rlnN").tolist() == list(range(1, 11))
    assert block.numbers("rlnA").tolist() == [1]
    assert block.numbers("rlnB").tolist() == [5, 6]
    assert text.blocks[0].rows == ROWS
    text.write(str(tmp_path / "b.star"))
    assert (tmp_path / "b.star").read_text() == (tmp_path / "a.star").read_text()


@pytest.mark.parametrize("text", ["\n", "# nothing\n", "   "])
def test_text_without_a_block_has_no_particles(tmp_path, text):
    uri = star_of(tmp_path, text)
    with pytest.raises(InputError, match="no column rlnImageName; it is not a particle file"):
        read_text_star(uri).particles()


def test_lines_count_from_1():
    storage.write_bytes("memory://star/lines", b"first\nsecond x.mrcs\nthird x.mrcs\n")
    assert line_of("memory://star/lines", "x.mrcs") == 2
    assert line_of("memory://star/lines", "y.mrcs") is None


@pytest.mark.parametrize("read", [read_star, read_text_star])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data_a\n\nloop_\n_x\n1\n\ndata_b\n\nloop_\n_x\n1\n\ndata_a\n",
            r"line 13: block data_a is",
        ),
        ("data_a\n\nloop_\n_x #1\n_y #2\n_X #3\n1 2 3\n", r"line 6: column _X is there a second"),
        ("data_a\n\n_x 1\n_x 2\n", r"line 4: column _x is"),
    ],
)
def test_names_that_are_there_twice_are_refused_by_every_reader(tmp_path, read, text, message):
    with pytest.raises(InputError, match=message):
        read(star_of(tmp_path, text))


def test_a_single_particle_without_a_loop_is_a_table_of_one_row(tmp_path):
    uri = star_of(tmp_path, "data_\n\n_rlnImageName 1@a.mrcs\n_rlnDefocusU 9000\n")
    particles = read_text_star(uri).particles()
    assert particles.cells("rlnImageName") == ["1@a.mrcs"]


@pytest.mark.parametrize("cell", ["1_11", "a", "0x10", ""])
def test_a_name_is_no_number(tmp_path, cell):
    """Python reads 1_11 as 111."""
    uri = star_of(tmp_path, f"data_\nloop_\n_rlnX #1\n_rlnY #2\n1 2\n'{cell}' 3\n")
    [block] = read_star(uri)
    with pytest.raises(InputError, match=rf"line 6: _rlnX is '{cell}', not a number"):
        block.numbers("rlnX")
