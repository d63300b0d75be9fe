"""A known map and its particles, for tests of back-projection."""

import numpy as np
import pytest

from known_map import BOX, blobs, particle_table, project
from raydrgn.geometry.rotations import random_rotations
from raydrgn.inputs.backprojection import back_project
from raydrgn.inputs.options import BackprojectionOptions


@pytest.fixture(scope="session")
def known(tmp_path_factory):
    """A known map, and 1,500 noise-free particles of it with exact poses."""
    generator = np.random.default_rng(3)
    volume = blobs(BOX, generator=generator)
    rotations = random_rotations(1500, generator=generator).astype(np.float32)
    shifts = generator.uniform(-1.5, 1.5, (1500, 2)).astype(np.float32)
    images = project(volume, rotations, shifts)
    path = tmp_path_factory.mktemp("known") / "particles.mrcs"
    return volume, particle_table(path, images, rotations, shifts)


@pytest.fixture(scope="session")
def consensus(known):
    """The map of the known particles."""
    return back_project(known[1], BackprojectionOptions())
