"""What columns are called in figures."""

import numpy as np
import pytest

from raydrgn.latent.column_words import column_in_words
from raydrgn.reporting.latent_plane import line_as_plane


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("defocus_u_angstrom", "defocus U (Å)"),
        ("defocus_angle_deg", "defocus angle (°)"),
        ("shift_x_angstrom", "shift x (Å)"),
        ("voltage_kv", "voltage (kV)"),
        ("rlnDefocusU", "defocus U (Å)"),
        ("rlnOriginXAngst", "origin x (Å)"),
        ("rlnCtfFigureOfMerit", "ctf figure of merit"),
        ("rlnMaxValueProbDistribution", "max value prob distribution"),
        ("ctf/df1_A", "defocus 1 (Å)"),
        ("umap1", "UMAP 1"),
        ("pc12", "PC 12"),
        ("z0", "z0"),
        ("kmeans20", "k-means of 20"),
        ("z_norm", "|z|"),
        ("landscape.component1", "landscape component 1"),
        ("landscape.volume_was_made", "landscape volume was made"),
        ("occupancy.uL1_b", "occupancy of uL1_b"),
        ("occupancy.class", "occupancy class"),
        ("my_label", "my_label"),
        ("_mm", "_mm"),
    ],
)
def test_a_column_is_named_in_words_with_its_unit(name, words):
    assert column_in_words(name) == words


@pytest.mark.parametrize("count", [1, 3, 5000])
def test_latents_of_one_dimension_fill_their_histogram(count):
    z = np.random.default_rng(1).normal(size=(count, 1)).astype(np.float32)
    (across, _), xy = line_as_plane(z)
    assert across == "z0"
    np.testing.assert_array_equal(xy[:, 0], z[:, 0])
    assert (xy[:, 1] >= 0).all()
    assert (xy[:, 1] <= count).all()
    np.testing.assert_array_equal(line_as_plane(z)[1], xy)


@pytest.mark.parametrize("outliers", [0, 20])
def test_heights_are_even_below_the_histogram_whatever_lies_outside(outliers):
    z = np.random.default_rng(1).uniform(size=20_000)
    z[:outliers] = 2 + np.arange(outliers) / 2
    _, xy = line_as_plane(z[:, None])
    top = 0.98 * len(z) / 80  # 80 bins hold 98 % of the particles
    heights = xy[outliers:, 1]
    assert heights.max() == pytest.approx(top, rel=0.25)
    assert heights.mean() == pytest.approx(top / 2, rel=0.1)


def test_equal_latents_of_one_dimension_are_a_column():
    _, xy = line_as_plane(np.ones((50, 1), dtype=np.float32))
    assert 0 <= xy[:, 1].min() < xy[:, 1].max() <= 50
