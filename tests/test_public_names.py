"""``import raydrgn``: quick, complete, and as its types say."""

import ast
import dataclasses
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import raydrgn
import raydrgn.workflows

HEAVY = {"numpy", "torch", "ray", "pyarrow", "scipy", "matplotlib", "fsspec", "typer"}
SHARED = {
    "EpochSettings",
    "DecodingSettings",
    "LatentSettings",
    "PixelSizeSettings",
    "RunOrMapsSettings",
}


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, raydrgn\n"
        "raydrgn.LandscapeSettings, raydrgn.VolumeOptions, raydrgn.ParticleSource\n"
        "raydrgn.workflows.volumes.VolumesSettings\n"
        f"print({HEAVY!r} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(("given", "found"), [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5")])
def test_importing_sets_how_threads_wait_where_nothing_else_does(given, found):
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"} | given
    code = "import os, raydrgn; print(os.environ['GOMP_SPINCOUNT'])"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found


@pytest.mark.parametrize("name", sorted(raydrgn.__all__))
def test_every_public_name_is_there(name):
    assert getattr(raydrgn, name) is not None
    assert name in dir(raydrgn)


def test_the_types_have_the_same_names():
    stub = Path(raydrgn.__file__).with_suffix(".pyi")
    found = set()
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname for alias in node.names}
            for alias in node.names:
                if alias.name != "workflows":
                    assert raydrgn._MODULES[alias.name] == node.module
        else:
            found.add(node.target.id)
    assert found == {*raydrgn.__all__, "__all__"}


def test_all_settings_of_workflows_are_public():
    for module in pkgutil.iter_modules(raydrgn.workflows.__path__):
        home = importlib.import_module(f"raydrgn.workflows.{module.name}")
        for name, item in inspect.getmembers(home, dataclasses.is_dataclass):
            is_own = inspect.isclass(item) and item.__module__ == home.__name__
            if is_own and name.endswith("Settings") and name not in SHARED:
                assert raydrgn._MODULES.get(name) == home.__name__, (
                    f'add "{name}": "{home.__name__}" to raydrgn/__init__.py and its .pyi'
                )


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="nothing_such"):
        raydrgn.nothing_such  # noqa: B018
    with pytest.raises(AttributeError, match="no workflow 'nothing_such'"):
        raydrgn.workflows.nothing_such  # noqa: B018
