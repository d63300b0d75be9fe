"""Values that the command line refuses: in sentences of the program, here and before a job."""

import re

import pytest
import typer
from typer.testing import CliRunner

from raydrgn.cli.main import app
from raydrgn.cli.submission import check_command
from raydrgn.errors import ConfigError

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


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--keep-clusters", "1", "2"], "--keep-clusters 1,2 for all of these"),
        (["--drop-clusters=3-5", "7", "9"], "--drop-clusters 3-5,7,9 for all of these"),
        (["--gmm", "4", "--drop", "0", "3", "--zscore"], "before the options: 3 --drop 0."),
        (["--by", "z0", "--pcs", "1", "3"], "--pcs 1,3 for all of these"),
    ],
)
def test_a_second_number_after_a_list_is_not_taken_for_the_epoch(words, advice):
    command = "plot" if "--pcs" in words else "filter"
    ended = CliRunner().invoke(app, [command, "run", *words])
    assert isinstance(ended.exception, ConfigError)
    assert advice in str(ended.exception)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "2", "--keep-clusters", "1"],
        ["--keep-clusters", "1,2", "run", "2"],
        ["run", "--keep-clusters", "1 2"],
        ["--keep-clusters", "1", "--ksample", "20", "run"],
    ],
)
def test_the_epoch_before_the_options_is_the_epoch(words):
    ended = CliRunner().invoke(app, ["filter", *words])
    assert "does not exist; check the path of the run" in str(ended.exception)
