"""Text is printed as text, and in any encoding."""

import ast
import io
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from rich.table import Table

import raydrgn.cli
from raydrgn.cli import console as shown
from raydrgn.cli import main
from raydrgn.cli.console import ProgressDisplay, columns

AWKWARD = ["data[old]/p.star", "run[7]", "tag[/b]/p.star", "[/x]", "[red]", ":smile:", "[link=x]y"]
MODULES = sorted(Path(raydrgn.cli.__file__).parent.glob("*.py"))


def run(*words, folder, encoding="utf-8", **environment):
    return subprocess.run(
        [sys.executable, "-m", "raydrgn", *words],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "300", **environment},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def printed(monkeypatch):
    """What both consoles print."""
    stream = io.StringIO()
    for console in (shown.console, shown.messages):
        monkeypatch.setattr(console, "_file", stream)  # undone, it prints to sys.stdout again
    return stream


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize(
    "show", [shown.result, shown.message, shown.warning, shown.error, shown.messages.print]
)
def test_messages_are_text(printed, show, text):
    show(f"{text} does not exist")
    assert f"{text} does not exist\n" in printed.getvalue()


@pytest.mark.parametrize("text", AWKWARD)
def test_tables_are_text(printed, text):
    table = Table(text, title=text)
    table.add_row(text)
    shown.console.print(table)
    assert printed.getvalue().count(text) == 3


@pytest.mark.parametrize("text", AWKWARD)
def test_the_log_is_text(printed, text):
    root, own = logging.getLogger(), logging.getLogger("raydrgn")
    handlers, levels = root.handlers[:], (root.level, own.level)
    shown.set_up_logging()
    try:
        logging.getLogger("raydrgn.test").warning("%s is empty, %s", text, "or not, " * 40)
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        own.setLevel(levels[1])
    assert printed.getvalue().startswith(f"WARNING  {text} is empty, or not")
    assert len(printed.getvalue().splitlines()) == 1  # as long as it is


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_is_text(printed, monkeypatch, text, is_terminal):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(shown.messages, "_force_terminal", is_terminal)
    monkeypatch.setattr(shown.messages, "is_interactive", is_terminal)
    monkeypatch.setattr(shown.messages, "_width", 200)
    with ProgressDisplay() as progress:
        progress(text, 5, 10, unit=text, extra=text)
        progress._progress.refresh()
    assert printed.getvalue().count(text) >= 3


def test_work_that_is_begun_again_is_shown_again(printed):
    """After a failure particles are read again, and training is shown to the end."""
    with ProgressDisplay() as progress:
        for what, done in [
            *(("reading", 10), ("training", 4)),  # and a worker is killed
            *(("reading", 10), ("training", 2), ("training", 10)),
        ]:
            progress(what, done, 10)
    lines = [line.split(",")[0] for line in printed.getvalue().splitlines()]
    assert lines == [
        *("reading: 10/10", "training: 4/10"),
        *("reading: 10/10", "training: 2/10", "training: 10/10"),
    ]


@pytest.mark.parametrize("text", AWKWARD)
def test_a_question_is_text(printed, monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(shown.messages, "_force_terminal", True)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    assert shown.ask(f"{text} holds this run. Go on with it?")
    assert f"{text} holds this run. Go on with it? [Y/n] " in printed.getvalue()


def test_columns_are_aligned():
    assert columns([("job", "exit", "command"), ("a-long-id", "", "raydrgn x")]) == [
        "job        exit  command",
        "a-long-id        raydrgn x",
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_turns_markup_on_or_opens_a_console_of_its_own(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        markup = [word.value for word in node.keywords if word.arg == "markup"]
        assert all(isinstance(value, ast.Constant) and not value.value for value in markup), (
            f"{path.name}:{node.lineno}: text of users must not be read as markup"
        )
        if name in ("Console", "TextColumn", "RichHandler", "input"):
            assert markup, f"{path.name}:{node.lineno}: {name} needs markup=False"
        assert name not in ("from_markup", "rprint"), f"{path.name}:{node.lineno}: {name}"


@pytest.mark.parametrize(
    "words",
    [
        ["info", "data[old]/missing.star"],
        ["submit", "tag[/b]/missing.yaml"],
        ["submit", "[/x].yaml"],
    ],
)
def test_an_error_names_the_file_as_it_is(tmp_path, words):
    done = run(*words, folder=tmp_path)
    assert done.returncode == 2
    assert words[-1] in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("word", ["[/x]", "--[/x]"])
def test_a_mistyped_command_is_shown_as_it_is(tmp_path, word):
    done = run(word, folder=tmp_path)
    assert done.returncode == 2
    assert word in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    "words", [["--help"], ["volumes", "--help"], ["submit", "Zürich → 2 Å.yaml"]]
)
def test_any_encoding_of_the_terminal_will_do(tmp_path, words, encoding):
    done = run(*words, folder=tmp_path, encoding=encoding)
    assert done.returncode == (0 if "--help" in words else 2), done.stderr
    text = (done.stdout + done.stderr).decode(encoding.split(":")[0])
    assert "Traceback" not in text
    if "submit" in words and "ascii" in encoding:
        assert r"Z\xfcrich -> 2 A.yaml" in text
    if "submit" in words and encoding == "utf-8":
        assert "Zürich → 2 Å.yaml" in text


def test_a_locale_without_unicode_will_do(tmp_path):
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = run("submit", "Å.yaml", folder=tmp_path, encoding="", **environment)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_file_name_that_is_no_unicode(tmp_path):
    done = run("submit", os.fsdecode(b"caf\xe9.yaml"), folder=tmp_path)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert rb"caf\udce9.yaml" in done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    command = f"{sys.executable} -m raydrgn --help | head -c 10; echo; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_an_output_that_is_full_is_one_message(tmp_path):
    command = [sys.executable, "-m", "raydrgn", "--help"]
    with FULL.open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(
            "error: The output of the command cannot be written: No space"
        )
        assert "Traceback" not in done.stderr
        done = subprocess.run([*command[:3], "info", "absent.star"], stderr=full, check=False)
    assert done.returncode == 2


def test_a_folder_that_is_gone_is_one_message(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && {sys.executable} -m raydrgn info absent.star"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: The current folder does not exist any more; change to another one (cd)."
    )


def test_a_machine_without_a_temporary_folder_is_one_message(monkeypatch, capsys):
    """As a container whose files are read-only: matplotlib and Ray then end with an OSError."""

    def none_is_found():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none_is_found)
    monkeypatch.setattr(main, "app", none_is_found)
    monkeypatch.setattr(main, "set_up_logging", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "error: No folder for temporary files can be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            MemoryError("Unable to allocate 80.0 GiB"),
            "not enough memory (Unable to allocate 80.0 GiB)",
        ),
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. GPU 0 has a total capacity of 14.75 GiB of which 0.2 GiB is "
                "free. Process 2044 has 14.5 GiB memory in use. If reserved but unallocated …"
            ),
            "The memory of the GPU is full. GPU 0 has a total capacity of 14.75 GiB of which 0.2 "
            "GiB is free. Process 2044 has 14.5 GiB memory in use. End what else uses it",
        ),
        (
            torch.AcceleratorError(
                "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nSearch for …"
            ),
            "error: The GPU takes no further process: its compute mode lets one at a time use it",
        ),
    ],
)
def test_a_machine_with_too_little_room_is_one_message(error, text, monkeypatch, capsys):
    def fill():
        raise error

    monkeypatch.setattr(main, "app", fill)
    monkeypatch.setattr(main, "set_up_logging", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert text in " ".join(capsys.readouterr().err.split())
