"""Commands for some particles of a run: they do what they name when they are run."""

import shlex
from dataclasses import replace

import numpy as np
from typer.testing import CliRunner

from finished_run import make_run
from raydrgn.cli.main import app
from raydrgn.io import cryodrgn
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.run.next_commands import selection_commands
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

CHOSEN = np.arange(3, 60, 2)
"""Particles that the run was trained on, by their numbers in the file."""

WANTED = np.array([5, 21, 7])


def trained_on(tmp_path, source, table):
    run = make_run(tmp_path / "run", np.zeros((len(table), 2)), box=16, table=table)
    return replace(run, source=source, inverts=False)


def test_the_commands_export_the_particles_and_train_on_them(tmp_path):
    simulate(str(tmp_path / "a b"), Simulation(num_particles=60, box=16))
    star = str(tmp_path / "a b" / "particles.star")
    everything = open_particles(ParticleSource(particles=star))
    run = trained_on(tmp_path, ParticleSource(particles=star), everything.select(CHOSEN))
    ind = str(tmp_path / "ind.pkl")
    cryodrgn.write_indices(ind, WANTED)
    export, train = selection_commands(run, ind, name=str(tmp_path / "C1"))
    result = CliRunner().invoke(app, shlex.split(export)[1:])
    assert result.exit_code == 0, result.output
    exported = open_particles(ParticleSource(particles=str(tmp_path / "C1.star")))
    expected = everything.column("slice")[WANTED]
    np.testing.assert_array_equal(exported.column("slice"), expected)
    words = shlex.split(train)
    assert words[:5] == ["raydrgn", "train", star, "--ind", ind]
    assert "--uninvert-data" in words
    taken = open_particles(ParticleSource(particles=words[2], ind=words[4]))
    np.testing.assert_array_equal(taken.column("slice"), expected)


def test_rows_of_a_table_of_a_selection_have_other_numbers(tmp_path):
    """So that training on them by numbers would take other particles."""
    simulate(str(tmp_path / "data"), Simulation(num_particles=60, box=16))
    star = str(tmp_path / "data" / "particles.star")
    everything = open_particles(ParticleSource(particles=star))
    ind = str(tmp_path / "ind.pkl")
    cryodrgn.write_indices(ind, WANTED)
    for table, count in ((everything.select(CHOSEN), 1), (everything, 2)):
        uri = str(tmp_path / f"{len(table)}.parquet")
        table.write(uri)
        run = trained_on(tmp_path / f"of{len(table)}", ParticleSource(particles=uri), table)
        assert len(selection_commands(run, ind, name="C1")) == count
