"""The command line as a whole: quick help, and one message for what a user can mend."""

import subprocess
import sys
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

from raydrgn.cli import start
from raydrgn.cli.exit_codes import EXIT_INTERRUPTED
from raydrgn.cli.main import app, main
from raydrgn.cli.usage import Program
from raydrgn.errors import (
    ClusterError,
    LostWorkersError,
    RaydrgnError,
    StorageError,
    StorageFailureError,
)
from raydrgn.protocol.decisions import HEAD


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "raydrgn", *arguments], capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy():
    heavy = ("torch", "ray", "scipy", "numpy", "pyarrow", "fsspec", "matplotlib", "yaml", "pandas")
    code = f"import sys, raydrgn.cli.main; print(set({heavy}) & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "set()"


def test_the_version_is_that_of_the_package():
    printed = CliRunner().invoke(app, ["--version"])
    assert printed.exit_code == 0
    assert printed.output == f"raydrgn {version('raydrgn')}\n"


@pytest.mark.parametrize(
    ("problem", "exit_code"),
    [
        (ClusterError("no such cluster"), 2),
        (LostWorkersError("all workers were lost"), 1),
        (StorageError("no such file"), 2),
        (StorageFailureError("the store does not answer"), 1),
    ],
)
def test_a_mistake_ends_with_2_and_what_may_pass_with_1(monkeypatch, capsys, problem, exit_code):
    def fail():
        raise problem

    monkeypatch.setattr("raydrgn.cli.main.app", fail)
    monkeypatch.setattr("raydrgn.cli.main.set_up_logging", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == exit_code
    assert str(problem) in capsys.readouterr().err


def test_an_interruption_is_named():
    def stop():
        raise KeyboardInterrupt

    program = typer.Typer(cls=Program)
    program.command("one")(stop)
    program.command("two")(stop)
    said = CliRunner().invoke(program, ["one"])
    assert said.exit_code == 130
    assert "interrupted" in said.stderr


INTERRUPTED_CALLBACK = """
import ctypes, signal, time
from raydrgn.cli.console import set_up_interrupts

def interrupted():
    signal.raise_signal(signal.SIGINT)
    time.sleep(0)

set_up_interrupts()
try:
    ctypes.CFUNCTYPE(None)(interrupted)()
    time.sleep(5)
except KeyboardInterrupt:
    print("stopped")
"""


def test_an_interruption_within_a_callback_is_not_lost():
    """Python prints what a callback from C raises, and goes on."""
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_CALLBACK], capture_output=True, text=True, timeout=60
    )
    assert ended.stdout == "stopped\n"
    assert ended.stderr == ""


def test_an_interruption_before_the_commands_are_loaded_is_named(monkeypatch, capsys):
    class Interrupted:
        def find_spec(self, name, path=None, target=None):
            if name == "raydrgn.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "raydrgn.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert ended.value.code == EXIT_INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("has_project", "estimate", "message"),
    [
        (True, (), "To go on: raydrgn protocol -o {}"),
        (True, ("--estimate",), "interrupted"),
        (False, (), "interrupted"),
    ],
)
def test_an_interrupted_protocol_goes_on_only_with_what_was_begun(
    has_project, estimate, message, monkeypatch, tmp_path
):
    def stop(*_, **__):
        if has_project:
            (tmp_path / "project.yaml").write_text(HEAD)
        raise KeyboardInterrupt

    monkeypatch.setattr("raydrgn.protocol.sequence.run", stop)
    said = CliRunner().invoke(app, ["protocol", "p.star", "-o", str(tmp_path), *estimate])
    assert said.exit_code == EXIT_INTERRUPTED
    assert message.format(tmp_path) in said.stderr
    assert ("To go on" in said.stderr) == (message != "interrupted")


def test_every_command_has_help():
    said = CliRunner().invoke(app, ["--help"]).output
    for command in ("demo", "simulate", "parse", "train", "volumes", "evaluate", "submit"):
        assert command in said
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "absent.star", "-o", "run"], "absent.star"),
        (["parse", "absent.cs", "--table", "x.parquet"], "absent.cs"),
        (["volumes", "no_run", "-o", "out", "--particles", "0"], "no_run"),
        (["evaluate", "no_run", "--truth", "no_truth"], "no_run"),
        (["simulate", "out", "--box", "33"], "33"),
        (["simulate", "out", "--snr", "-1"], "--snr"),
        (["simulate", "out", "--maps", "no*.mrc"], "no*.mrc"),
        (["train", "-o", "run"], "no run to go on with"),
    ],
)
def test_a_mistake_is_one_message(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, RaydrgnError)
    assert message in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_a_mistake_ends_with_code_2_and_no_traceback(tmp_path):
    result = run("train", str(tmp_path / "absent.star"), "-o", str(tmp_path / "run"))
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "error:" in result.stderr
