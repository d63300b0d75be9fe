"""Messages name options that exist, by the command that has them."""

import ast
import re
from pathlib import Path

import pytest
import typer.main

import raydrgn.io
from raydrgn.cli.main import app
from raydrgn.io.imaging import OPTIONS, how_to_give
from raydrgn.io.particle_source import ParticleSource
from raydrgn.settings import setting_fields

FOLDER = Path(raydrgn.io.__file__).parent
INDICES = ("export", "indices")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def options_of(*words):
    """Return the options of a command, by walking the program itself."""
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return {flag for parameter in command.params for flag in parameter.opts}


def texts(path):
    """Yield each message of a module: strings, the literal parts of f-strings joined."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    }
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in joined for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value for part in node.values if isinstance(part, ast.Constant))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in documentation | parts
        ):
            yield node.value


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_every_option_in_a_message_exists(path):
    everywhere = {f.setting.option(f.name) for f in setting_fields(ParticleSource)}
    commands = {
        "raydrgn parse": options_of("parse"),
        "raydrgn submit": options_of("submit"),
        "raydrgn relocate": options_of("relocate"),
        "raydrgn train": options_of("train"),
        "occupancy masks": options_of("occupancy", "masks"),
        "export indices": options_of(*INDICES),
    }
    for text in texts(path):
        known = everywhere.union(*(opts for name, opts in commands.items() if name in text))
        for option in OPTION.findall(text):
            assert option in known or text in OPTIONS.values(), f"{option} in {text!r}"


@pytest.mark.parametrize("name", OPTIONS)
def test_what_a_file_lacks_is_given_to_a_command_that_takes_it(name):
    message = how_to_give(name, "p.star")
    assert OPTIONS[name] in options_of("parse")
    assert "--table" in options_of("parse")
    assert f"`raydrgn parse p.star {OPTIONS[name]} VALUE --table particles.parquet`" in message
