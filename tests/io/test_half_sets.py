"""Halves of particles that no refinement has halved."""

import numpy as np

from phantoms import table_of
from raydrgn.io.half_sets import half_of_particles


def test_images_are_in_turn_in_the_order_in_which_they_first_come():
    images = table_of(5).select(np.array([3, 0, 4, 0, 1]))
    assert half_of_particles(images).tolist() == [0, 1, 0, 1, 1]
