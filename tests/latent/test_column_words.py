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
    bins = min(max(int(count**0.5), 10), 80)
    counts, edges = np.histogram(z[:, 0], bins=bins)
    own = np.clip(np.digitize(z[:, 0], edges) - 1, 0, bins - 1)
    assert (xy[:, 1] >= 0).all()
    assert (xy[:, 1] <= counts[own]).all()
    if count > 1000:  # evenly up to the histogram
        assert np.mean(xy[:, 1] / counts[own]) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(line_as_plane(z)[1], xy)
