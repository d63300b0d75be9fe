"""The command line as a whole: quick help, and one message for what a user can mend."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from raydrgn.cli.main import app
from raydrgn.errors import RaydrgnError


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
