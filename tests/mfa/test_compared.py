"""A mixture of factor analysers compared with another run on the same particles."""

import shutil

import numpy as np
import pytest

from finished_run import make_run
from raydrgn.run.reader import open_run
from raydrgn.workflows import analyze, compare


@pytest.mark.clusters  # fits a mixture
def test_a_mixture_and_a_run_of_another_zdim_agree_on_the_states(clean, tmp_path):
    """The other run is of a selection, and its latents are of the true states."""
    shutil.copytree(clean / "run", tmp_path / "mfa")
    mixture = open_run(str(tmp_path / "mfa"))
    chosen = np.arange(1, 1500, 2)
    states = np.load(clean / "truth" / "labels.npy")[chosen]
    angles = 2 * np.pi * states / (states.max() + 1)
    noise = np.random.default_rng(0).normal(size=(len(chosen), 2))
    latents = 8 * np.stack([np.cos(angles), np.sin(angles)], axis=1) + noise
    other = make_run(tmp_path / "vae", latents, box=24, table=mixture.particles().select(chosen))
    assert (mixture.zdim, other.zdim) == (4, 2)
    for run in (mixture, other):
        settings = analyze.AnalyzeSettings(
            run=run.root, ksample=15, skip_umap=True, skip_volumes=True
        )
        analyze.run(settings)
    found = compare.run(compare.CompareSettings(labels=(mixture.root, other.root)))
    [pair] = found.pairs
    np.testing.assert_array_equal(pair.numbers, chosen)
    share, by_chance = pair.groups.agreement(pair.counts)
    assert pair.adjusted_rand < 0.6  # of 15 clusters each, for seven states
    assert share > 0.85
    assert share > 2 * by_chance
