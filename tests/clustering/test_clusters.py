"""Clusters of latents whose true clusters are known."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from latents import blobs
from raydrgn.clustering.clusters import (
    k_means,
    leaf_order,
    mixture,
    nearest_rows,
    nearest_to_median,
)
from raydrgn.errors import ConfigError

LINE = [[0.0, 0.0], [8.0, 0.0], [1.0, 0.0], [9.0, 0.0]]  # two pairs


@pytest.mark.parametrize("method", [k_means, mixture])
def test_separate_blobs_are_the_clusters(method):
    z, labels = blobs(LINE)
    found = method(z, 4)
    assert adjusted_rand_score(labels, found.labels) == 1
    np.testing.assert_array_equal(found.sizes(), [100] * 4)
    # a centre is a particle of its own cluster, near to the true centre
    np.testing.assert_array_equal(found.labels[found.rows], np.arange(4))
    truth = np.asarray(LINE)[labels[found.rows]]
    assert np.linalg.norm(z[found.rows] - truth, axis=1).max() < 0.05


def test_many_clusters_have_the_numbers_of_their_centres():
    z, _ = blobs(10 * np.random.default_rng(1).normal(size=(12, 3)))
    found = k_means(z, 12)
    np.testing.assert_array_equal(found.labels[found.rows], np.arange(12))
    np.testing.assert_array_equal(leaf_order(z[found.rows]), np.arange(12))


def test_a_mixture_is_fitted_to_latents_of_any_size():
    # in single precision, or in units where the tight blob is nothing, there is no covariance
    z, labels = blobs([*LINE, [4.0, 4.0]])
    z[labels == 4] = z[labels == 4].mean(axis=0)
    for scale in (1e-6, 1, 1e4):
        found = mixture(scale * z, 5, starts=3)
        assert adjusted_rand_score(labels, found.labels) == 1


def test_neighbours_in_number_are_neighbours_in_space():
    z, _ = blobs(LINE)
    x = z[k_means(z, 4).rows][:, 0].round()
    assert {frozenset(x[:2]), frozenset(x[2:])} == {frozenset((0, 1)), frozenset((8, 9))}


def test_the_same_seed_gives_the_same_clusters():
    z = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    first, second = k_means(z, 7), k_means(z, 7)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.rows, second.rows)


def test_order_of_one_point_and_nearest_of_itself():
    np.testing.assert_array_equal(leaf_order(np.zeros((1, 2))), [0])
    z = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_array_equal(nearest_rows(z, z[[7, 3]]), [7, 3])


def test_one_cluster_is_all_particles_and_the_one_nearest_to_their_mean():
    z = np.array([[0.0, 0], [1, 0], [8, 1], [3, 0]], np.float32)  # mean (3, 0.25)
    found = k_means(z, 1)
    assert found.labels.tolist() == [0] * 4
    assert found.rows.tolist() == [3]


def test_the_member_nearest_to_the_median_is_not_moved_by_one_far_away():
    z = np.array([[50.0], [0.0], [0.0], [1.0], [2.0], [900.0], [20.0]])
    assert nearest_to_median(z, np.array([1, 3, 4, 5, 6])) == 4  # median 2, mean 185
    assert nearest_to_median(z, np.array([5])) == 5


@pytest.mark.parametrize("seed", range(4))
def test_clusters_that_are_left_empty_among_equal_latents_are_filled(seed):
    """A fifth of the latents are the same, as those of junk in a mixture."""
    z = np.random.default_rng(seed).normal(size=(60, 1)).astype(np.float32)
    z[:12] = 0
    found = k_means(z, 49, seed=seed)
    assert (found.sizes() > 0).all()
    assert len(np.unique(found.labels[:12])) == 1


def test_too_many_clusters_are_refused_in_words():
    z, _ = blobs(LINE, size=2)
    with pytest.raises(ConfigError, match=r"--ksample 9 .* particles \(8\)"):
        k_means(z, 9)
    with pytest.raises(ConfigError, match="1 to 8 components, not 0"):
        mixture(z, 0)
    with pytest.raises(ConfigError, match=r"only 2 distinct latents.*--ksample 2"):
        k_means(np.repeat(np.float32([[0, 0], [1, 1]]), 10, axis=0), 5)
