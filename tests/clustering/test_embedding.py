"""Embeddings of latents with known structure."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from sklearn.neighbors import KNeighborsClassifier

from latents import blobs
from raydrgn.clustering import embedding
from raydrgn.clustering.embedding import interpolate_embedding, principal_components

CENTRES = np.random.default_rng(3).normal(size=(4, 6)) * 3


def test_components_are_the_axes_of_the_variance():
    z = (np.random.default_rng(0).normal(size=(5000, 3)) * [1, 4, 2] + 7).astype(np.float32)
    found = principal_components(z)
    np.testing.assert_allclose(found.explained, np.array([16, 4, 1]) / 21, atol=0.02)
    np.testing.assert_allclose(np.abs(found.axes), np.eye(3)[[1, 2, 0]], atol=0.05)
    np.testing.assert_allclose(found.project(z), found.coordinates, atol=1e-4)


def test_beyond_the_limit_particles_are_embedded_beside_those_of_their_cluster(monkeypatch):
    # any map of the sample will do
    fitted = []

    def halves(z, seed):
        fitted.append(len(z))
        return z[:, :2].astype(np.float32)

    monkeypatch.setattr(embedding, "_fit_umap", halves)
    z, labels = blobs(CENTRES, size=250, spread=0.3)
    places = embedding.umap_embedding(z, limit=400)
    assert fitted == [400]
    assert places.shape == (1000, 2)
    said = KNeighborsClassifier(5).fit(places, labels).predict(places)
    assert (said == labels).mean() > 0.95
    assert np.abs(places - z[:, :2]).max() < 1.5  # five neighbours of blobs of spread 0.3
    np.testing.assert_array_equal(places, embedding.umap_embedding(z, limit=400))
    assert embedding.umap_embedding(z, limit=1000).shape == (1000, 2)
    assert fitted[-1] == 1000


@pytest.mark.parametrize("dimensions", [3, pytest.param(14, marks=pytest.mark.long)])
def test_a_umap_keeps_clusters_apart_and_is_the_same_again(dimensions):
    """Beyond twelve dimensions UMAP searches the neighbours by itself."""
    centres = np.random.default_rng(5).normal(size=(4, dimensions)) * 5
    z, labels = blobs(centres, size=60, spread=1.0)
    places = embedding.umap_embedding(z, seed=1)
    assert places.shape == (240, 2)
    assert KNeighborsClassifier(5).fit(places, labels).score(places, labels) == 1
    np.testing.assert_array_equal(places, embedding.umap_embedding(z, seed=1))
    assert np.abs(places - embedding.umap_embedding(z, seed=2)).max() > 0.1


def test_a_umap_of_the_fewest_particles():
    z = np.random.default_rng(0).normal(size=(embedding.FEWEST, 2)).astype(np.float32)
    assert np.isfinite(embedding.umap_embedding(z)).all()


def test_neighbours_are_the_nearest_with_the_latent_itself():
    z = np.random.default_rng(2).normal(size=(300, 5))
    rows, distances = embedding.nearest_neighbours(cKDTree(z), z, 15)
    every = np.linalg.norm(z[:, None] - z[None], axis=-1)
    np.testing.assert_array_equal(rows, np.argsort(every, axis=1)[:, :15])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :15], atol=1e-12)


def test_an_embedded_latent_keeps_its_coordinates():
    z, _ = blobs(CENTRES, size=30)
    places = np.random.default_rng(0).normal(size=(len(z), 2)).astype(np.float32)
    np.testing.assert_allclose(interpolate_embedding(z[5:9], z, places), places[5:9], atol=1e-4)
    between = interpolate_embedding((z[:1] + z[:1]) / 2, z, places)
    assert between.shape == (1, 2)
    assert interpolate_embedding(z[:1], z[:2], places[:2])[0] == pytest.approx(places[0], abs=1e-4)


def test_coordinates_are_the_mean_of_five_neighbours_by_inverse_distance():
    z = np.array([[1.0], [-2.0], [4.0], [-5.0], [10.0], [20.0], [-30.0]])
    places = np.random.default_rng(0).normal(size=(len(z), 2))
    weights = np.array([1, 1 / 2, 1 / 4, 1 / 5, 1 / 10])
    expected = weights @ places[:5] / weights.sum()
    found = interpolate_embedding(np.zeros((1, 1)), z, places)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_coordinates_depend_neither_on_the_order_of_latents_nor_on_the_cores(monkeypatch):
    z, _ = blobs(CENTRES, size=100)
    places = np.random.default_rng(0).normal(size=(len(z), 2)).astype(np.float32)
    points, _ = blobs(CENTRES, size=200, spread=0.5)
    order = np.random.default_rng(1).permutation(len(points))
    together = interpolate_embedding(points, z, places)
    monkeypatch.setattr(embedding, "cores_here", lambda: 1)
    np.testing.assert_array_equal(interpolate_embedding(points[order], z, places), together[order])
    alone = np.concatenate([interpolate_embedding(point[None], z, places) for point in points[:9]])
    np.testing.assert_array_equal(alone, together[:9])
