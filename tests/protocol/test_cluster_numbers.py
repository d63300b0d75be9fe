"""Numbers of clusters of particles."""

from dataclasses import asdict

import numpy as np

from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.io.mrc import read_volume
from raydrgn.io.sources import read_metadata
from raydrgn.protocol.cluster_numbers import cluster_numbers
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation


def test_they_do_not_depend_on_the_hand_of_the_volumes(tmp_path):
    simulate(str(tmp_path), Simulation(num_particles=200, box=24, snr=5.0, seed=4))
    table = read_metadata(str(tmp_path / "particles.star"))
    density = read_volume(str(tmp_path / "truth" / "vol_000.mrc"))[0]
    z = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)

    def numbers(flip):
        volumes = [density[::-1] if flip else density] * 2
        labels = np.arange(200) % 2
        options = BackprojectionOptions(flip=flip)
        found = cluster_numbers(table, z, labels, volumes, null=None, options=options)
        return [asdict(entry) for entry in found]

    assert numbers(True) == numbers(False)
