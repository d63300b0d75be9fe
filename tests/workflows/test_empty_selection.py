"""A file that selects none of a run's particles is named, whatever the command."""

import numpy as np
import pytest

from finished_run import make_run
from phantoms import star_31
from raydrgn.errors import InputError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.relionrows import select_rows
from raydrgn.io.sources import open_particles
from raydrgn.io.starrows import read_text_star
from raydrgn.workflows import export, montage
from raydrgn.workflows.export import ExportIndicesSettings, ExportStarSettings
from raydrgn.workflows.montage import MontageSettings


@pytest.fixture
def star(tmp_path):
    return star_31(tmp_path)[0]


def test_a_selection_of_no_particle_of_a_run_is_refused(star, tmp_path):
    table = open_particles(ParticleSource(particles=star))
    run = make_run(tmp_path / "run", np.zeros((4, 2)), pixel_size=1.5, table=table).root
    np.save(tmp_path / "none.npy", np.zeros(4, dtype=bool))
    ind = str(tmp_path / "none.npy")
    source = ParticleSource(particles=run, ind=ind)
    with pytest.raises(InputError, match=r"selects no particle of .*/run"):
        export.run_star(ExportStarSettings(source=source, out=str(tmp_path / "out.star")))
    with pytest.raises(InputError, match=r"selects no particle of .*/run"):
        export.run_indices(
            ExportIndicesSettings(particles=run, ind=ind, out=str(tmp_path / "out.txt"))
        )
    with pytest.raises(InputError, match=r"selects no particle of .*/run"):
        montage.run(MontageSettings(particles=run, ind=ind, out=str(tmp_path / "out.png")))
    assert not list(tmp_path.glob("out.*"))


def test_no_rows_of_a_star_file_are_no_rows(star):
    chosen = select_rows(read_text_star(star), np.empty(0, dtype=np.int64))
    assert not chosen.particles().rows
