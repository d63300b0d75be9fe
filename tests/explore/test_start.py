"""What the explorer loads before its page is answered: nothing that decodes or computes images."""

import json
import subprocess
import sys

import pytest

from explorer_server import analysed_run
from raydrgn.io import cryodrgn

BEGIN = """
import json, sys
from raydrgn.cli import main
from raydrgn.protocol.explored import find_project
from raydrgn.workflows.explore import ExploreSettings, open_explorer
import raydrgn.explore.server

run = sys.argv[1]
explored = open_explorer(ExploreSettings(run=run, project=find_project(run)))
study = explored.run("").study(None)
explored.run("").facts(None)
study.column("z0")
explored.status("")
print(json.dumps(sorted(sys.modules)))
"""
"""What the command does until it listens, and what the page asks first."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return analysed_run(tmp_path_factory.mktemp("started"))


@pytest.mark.parametrize("kind", ["run", "latents"])
def test_the_page_begins_without_torch_or_ray(root, kind, tmp_path):
    opened = root
    if kind == "latents":
        opened = tmp_path / "z.pkl"
        cryodrgn.write_pickles(str(opened), cryodrgn.read_latents(str(root / "z.2.pkl"))[0])
    words = [sys.executable, "-c", BEGIN, str(opened)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not {"torch", "ray", "umap", "numba"} & loaded
