"""STAR syntax: values as the text they are, errors with their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.star import line_of, read_star, write_star


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
        "1 a\nb.mrcs\n2\nc d.mrcs\n",
        '1 \'a\' "b.mrcs"\r\n2 "c" d.mrcs\r\n',
    ],
    ids=["spaces", "tabs", "mixed", "comments", "broken lines", "quotes and CRLF"],
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
    with pytest.raises(InputError, match=r"a\.star, block data_p, row 1: _rlnX is 'none'"):
        block.numbers("rlnX")


@pytest.mark.parametrize(
    "text",
    [
        "data_p\nloop_\n_rlnX #1\n_rlnY #2\n1 2\n3\n",
        "data_p\nloop_\n_rlnX #1\n_rlnX #2\n1 2\n",
        "loop_\n_rlnX\n1\n",
        "\x89PNG\r\n\x1a\n",
    ],
    ids=["row short of a value", "column twice", "no block", "an image"],
)
def test_broken_syntax_is_refused_with_the_file(tmp_path, text):
    with pytest.raises(InputError, match=r"a\.star is not a STAR file: line \d"):
        read_star(star_of(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.star").write_bytes(b"data_p\nloop_\n_rlnX\n\xff\xfe\x00\n")
    with pytest.raises(InputError, match=r"a\.star is not a STAR file"):
        read_star(str(tmp_path / "a.star"))


def test_lines_count_from_1():
    storage.write_bytes("memory://star/lines", b"first\nsecond x.mrcs\nthird x.mrcs\n")
    assert line_of("memory://star/lines", "x.mrcs") == 2
    assert line_of("memory://star/lines", "y.mrcs") is None
