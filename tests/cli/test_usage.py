"""Values that the command line refuses: in sentences of the program, here and before a job."""

import re

import pytest
import typer
from typer.testing import CliRunner

from raydrgn.cli.main import app
from raydrgn.cli.submission import check_command

REFUSED = [
    (["clean", "run", "--every", "0"], "'--every': must be at least 1, got 0."),
    (["select", "random", "p.star", "0"], "'N': must be at least 1, got 0."),
    (["analyze", "run", "--ksample", "x"], "'--ksample': must be a whole number, got 'x'."),
    (
        ["landscape", "run", "--linkage", "foo"],
        "'--linkage': 'foo' is not one of 'average', 'ward', 'complete'.",
    ),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_a_value_is_refused_in_words_of_the_program(words, message):
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 2
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", ended.output).split())
    assert f"Invalid value for {message}" in text


@pytest.mark.parametrize(("words", "message"), [REFUSED[2], REFUSED[3]])
def test_so_it_is_before_a_job_is_sent(words, message):
    with pytest.raises(typer.BadParameter) as caught:
        check_command(words)
    assert caught.value.format_message() == f"Invalid value for {message}"
