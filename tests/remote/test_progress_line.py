"""A line of progress is found again in a log, with what it says."""

import pytest

from raydrgn.remote.progress_line import ProgressLine, clock, last_progress

LINES = [
    ProgressLine(what="training", done=12_345, total=20_000, unit="particles", rate=312.0,
                 extra="epoch 3/20 loss 0.6121 KL 5.75"),
    ProgressLine(what="decoding", done=8, total=80, unit="volumes", rate=0.25),
    ProgressLine(what="reading particles", done=0, total=1_000_000, unit="particles"),
    ProgressLine(what="evaluating", done=0, total=1),
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.what)
def test_a_line_is_read_as_it_was_written(line):
    log = f"Running entrypoint for job a: 3/4\n{line.text()}\nwarning: something else\n"
    assert last_progress(log) == line


def test_a_line_says_how_much_is_done_how_fast_and_how_long_it_takes():
    assert LINES[0].text() == (
        "training: 12,345/20,000 particles, 312 particles/s, 0:25 left  epoch 3/20 loss 0.6121 "
        "KL 5.75"
    )
    assert LINES[1].text() == "decoding: 8/80 volumes, 0.25 volumes/s, 4:48 left"
    assert LINES[2].text() == "reading particles: 0/1,000,000 particles"


def test_the_last_line_counts_and_so_does_what_is_waited_for():
    first, second = LINES[1].text(), LINES[0].text()
    assert last_progress(f"{first}\n{second}\n") == LINES[0]
    waiting = "WARNING  waiting for 4 CPUs of 8 CPUs: before this one is a (ada, 6 CPUs)"
    assert last_progress(f"{first}\n{waiting}\n") == waiting.removeprefix("WARNING  ")
    assert last_progress(f"{waiting}\n{second}\n") == LINES[0]
    assert last_progress("") is None
    assert last_progress("error: no such file") is None


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65, "1:05"), (3671, "1:01:11")])
def test_lengths_of_time(seconds, text):
    assert clock(seconds) == text
