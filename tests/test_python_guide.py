"""The blocks of docs/python.md run, in their order, on a small run."""

import os
import re
from pathlib import Path
from typing import get_type_hints

import pytest
import typer

import raydrgn
from raydrgn.cli.main import app

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)


COMMANDS = re.findall(r"^\| ((?:`[a-z ]+`(?:, )?)+(?:, …)?) \| .*raydrgn\.", PAGE.read_text(), re.M)


def has_command(words):
    command = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word)
    return command is not None


@pytest.mark.parametrize("row", COMMANDS)
def test_the_commands_of_the_page_exist(row):
    first, *others = (name.split() for name in re.findall(r"`([a-z ]+)`", row))
    assert has_command(first)
    for other in others:  # named without the words before it, as `direct` of `traverse pc`
        assert has_command([*first[:-1], *other])


def test_the_page_has_a_table_of_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize(
    ("field", "record"), [("source", raydrgn.ParticleSource), ("volumes", raydrgn.VolumeOptions)]
)
def test_the_settings_with_shared_options_in_one_field_are_those_of_the_page(field, record):
    line = rf"^\| `{field}=raydrgn\.{record.__name__}.*\| (.*) \|$"
    commands = re.findall("`(.*?)`", re.search(line, PAGE.read_text(), re.M)[1])
    named = ["".join(word.capitalize() for word in command.split()) for command in commands]
    public = [getattr(raydrgn, name) for name in raydrgn.__all__ if name.endswith("Settings")]
    found = [kind for kind in public if get_type_hints(kind).get(field) is record]
    bases = {base for kind in found for base in kind.__mro__[1:]}  # of several commands
    leaves = {kind.__name__ for kind in found if kind not in bases}
    assert {next(name for name in named if leaf.startswith(name)) for leaf in leaves} == {*named}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A folder with a run, its particles, and the same run as one of cryoDRGN; and its names."""
    import matplotlib as mpl

    from latents import finished_run
    from raydrgn.run.cryodrgn_export import export_run

    folder = tmp_path_factory.mktemp("notebook")
    finished_run(folder)
    export_run(str(folder / "run"), str(folder / "cryodrgn_run"))
    before, backend = os.getcwd(), mpl.get_backend()
    os.chdir(folder)
    mpl.use("agg")
    yield {}
    mpl.pyplot.close("all")
    mpl.use(backend)
    os.chdir(before)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_page_runs(notebook, number):
    exec(compile(BLOCKS[number], f"{PAGE.name}, block {number}", "exec"), notebook)


@pytest.mark.ray
def test_what_the_blocks_made_is_right(notebook):
    """Runs after them: values from other ways of getting the same."""
    import numpy as np

    from raydrgn.io.cryodrgn import read_indices, read_latents
    from raydrgn.io.mrc import read_volume

    z = read_latents("run/z.2.pkl")[0]
    np.testing.assert_array_equal(notebook["z"], z)
    np.testing.assert_array_equal(notebook["foreign"].latents(), z)
    assert list(notebook["losses"]["epoch"]) == [1, 2]
    np.testing.assert_array_equal(read_indices("ind.pkl"), np.flatnonzero(notebook["chosen"]))
    assert notebook["small"].shape == (3, 8, 8, 8)
    np.testing.assert_array_equal(notebook["centre"], read_volume("centre.mrc")[0])
    for path, volume in zip(notebook["made"].paths, notebook["volumes"], strict=True):
        np.testing.assert_allclose(read_volume(path)[0], volume, atol=1e-5)
    assert all(Path(name).is_file() for name in ("latents_by_defocus.png", "trajectory.png"))
