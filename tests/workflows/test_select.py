"""Particles drawn at random, by the numbers that --ind of the same file or run takes."""

import numpy as np
import pytest

from finished_run import make_run
from phantoms import table_of
from raydrgn import open_particles
from raydrgn.errors import ConfigError, InputError
from raydrgn.io import cryodrgn
from raydrgn.workflows import select as workflow
from raydrgn.workflows.select import SelectRandomSettings


def draw(particles, number, out, **more):
    settings = SelectRandomSettings(particles=str(particles), number=number, out=str(out), **more)
    found = workflow.run_random(settings)
    np.testing.assert_array_equal(cryodrgn.read_indices(found.out), found.numbers)
    return found.numbers


def test_numbers_are_of_the_original_set_and_the_same_for_the_same_seed(tmp_path):
    chosen = np.arange(10, 70, 3)
    table = table_of(80, box=8, pixel_size=2.0).select(chosen)
    root = make_run(tmp_path / "run", np.zeros((20, 2)), table=table).files.root
    first = draw(root, 7, tmp_path / "a.pkl")
    assert len(set(first)) == 7
    assert set(first) <= set(chosen)
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(draw(root, 7, tmp_path / "b.npy"), first)
    assert set(draw(root, 7, tmp_path / "c.txt", seed=1)) != set(first)
    np.testing.assert_array_equal(draw(root, 20, tmp_path / "all.pkl"), chosen)

    cryodrgn.write_indices(str(tmp_path / "some.pkl"), chosen[:4])
    again = draw(root, 3, tmp_path / "d.pkl", ind=str(tmp_path / "some.pkl"))
    assert set(again) < set(chosen[:4])
    with pytest.raises(ConfigError, match="N is 5, but there are 4 particles"):
        draw(root, 5, tmp_path / "e.pkl", ind=str(tmp_path / "some.pkl"))


def test_of_a_table_of_a_selection_they_are_rows_as_ind_takes_them(tmp_path):
    numbers = np.arange(10, 50)
    table = table_of(80, box=8, pixel_size=2.0).select(numbers)
    path = str(tmp_path / "sub.parquet")
    table.write(path)
    cryodrgn.write_indices(str(tmp_path / "rows.pkl"), np.arange(20, 30))
    drawn = draw(path, 6, tmp_path / "ind.pkl", ind=str(tmp_path / "rows.pkl"))
    assert set(drawn) < set(range(20, 30))
    chosen = open_particles(path, ind=str(tmp_path / "ind.pkl"), need_images=False)
    assert set(chosen.column("index")) < set(range(30, 40))
    cryodrgn.write_indices(str(tmp_path / "rows.pkl"), np.array([3, 40]))
    with pytest.raises(InputError, match=r"contains particle 40, but .*sub\.parquet has 40"):
        draw(path, 1, tmp_path / "none.pkl", ind=str(tmp_path / "rows.pkl"))


def test_every_particle_is_as_likely_as_any_other(tmp_path):
    table = table_of(40, box=8, pixel_size=2.0)
    table.write(str(tmp_path / "p.parquet"))
    counts = np.zeros(40)
    for seed in range(200):
        counts[draw(tmp_path / "p.parquet", 10, tmp_path / "i.pkl", seed=seed)] += 1
    assert np.abs(counts - 50).max() < 25  # four SD of a binomial


def test_mistakes_are_one_message(tmp_path):
    with pytest.raises(ConfigError, match="would replace"):
        draw(tmp_path / "p.txt", 3, tmp_path / "p.txt")
    with pytest.raises(ConfigError, match="N must be at least 1, got 0"):
        draw(tmp_path / "p.txt", 0, tmp_path / "i.pkl")
    table_of(4, box=8, pixel_size=2.0).write(str(tmp_path / "p.parquet"))
    with pytest.raises(ConfigError, match=r"should end in \.pkl, \.npy or \.txt"):
        draw(tmp_path / "p.parquet", 3, tmp_path / "i.csv")
