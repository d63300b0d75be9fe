"""The command that trains on a saved selection takes the particles that were selected."""

import dataclasses
import itertools
import shlex

import numpy as np
import pytest

from explorer_server import running_server
from latents import finished_run
from raydrgn.cli.forms import CommandForms
from raydrgn.io import cryodrgn
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.run.config import RunConfig
from raydrgn.workflows.explore import ExploreSettings, open_explorer

CHOSEN = [{"join": "and", "range": {"column": "original", "low": 60, "high": 99}}]


@pytest.fixture
def of_part(tmp_path):
    """Return a run that was trained from a table of a part of the particles."""
    np.save(tmp_path / "ind.npy", np.arange(50, 203, 3))
    root = finished_run(tmp_path, epochs=1, ind=str(tmp_path / "ind.npy"))
    config = RunConfig.read(str(root / "config.yaml"))
    table = tmp_path / "part.parquet"
    table.write_bytes((root / "particles.parquet").read_bytes())
    source = ParticleSource(particles=str(table))
    (root / "config.yaml").write_text(dataclasses.replace(config, source=source).to_yaml())
    return root


def trained_on(words):
    """Return the original numbers of the particles that a command of `train` takes."""
    options = dict(itertools.pairwise(words))
    source = ParticleSource(particles=words[2], ind=options["--ind"])
    return open_particles(source, need_images=False).column("index")


def test_of_a_table_of_a_part_its_rows_are_taken(of_part):
    settings = ExploreSettings(run=str(of_part), commands=CommandForms())
    with running_server(open_explorer(settings)) as server:
        body = {"epoch": 1, "conditions": CHOSEN, "name": "some"}
        saved = server.json("/api/save-selection", body)
        assert saved["notes"] == []
        kept = cryodrgn.read_indices(str(of_part / "explore/selections/some/kept.ind.pkl"))
        np.testing.assert_array_equal(kept, np.arange(62, 100, 3))
        np.testing.assert_array_equal(trained_on(shlex.split(saved["train"])), kept)
        # The form is filled with the same.
        body = {"name": "train", "filled": saved["train_settings"]}
        typed = shlex.split(server.json("/api/command", body)["command"])
        np.testing.assert_array_equal(trained_on(typed), kept)
        assert typed[-2:] == shlex.split(saved["train"])[-2:] == ["--project", "none"]


def test_without_its_table_there_is_no_command(of_part):
    (of_part.parent / "part.parquet").unlink()
    with running_server(open_explorer(ExploreSettings(run=str(of_part)))) as server:
        body = {"epoch": 1, "conditions": CHOSEN, "name": "some"}
        saved = server.json("/api/save-selection", body)
        assert "There is no command to train on the selection" in saved["notes"][0]
        assert (saved["train"], saved["train_settings"]) == ("", {})
