"""The landscape of volumes against plain linear algebra, and against what was planted."""

from contextlib import ExitStack

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from raydrgn.errors import InputError
from raydrgn.fourier.masks import soft_mask
from raydrgn.landscape import components as landscape_components
from raydrgn.landscape import regression as regressions
from raydrgn.landscape import states as landscape
from raydrgn.landscape import volume_store
from raydrgn.landscape.components import MaskedVoxels, gram_matrix, in_memory, volume_components
from raydrgn.landscape.free_energy import free_energy
from raydrgn.landscape.volume_store import masked_slabs

BOX = 8


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def small_slabs(monkeypatch):
    monkeypatch.setattr(volume_store, "SLAB_BYTES", 4000)


@pytest.fixture
def stored():
    """Return what puts volumes into a store."""
    with ExitStack() as stack:

        def put(volumes):
            store = stack.enter_context(volume_store.volume_store(len(volumes), BOX))
            for start in range(0, len(volumes), 7):
                store.put(start, volumes[start : start + 7])
            return store

        yield put


@pytest.fixture
def groups(rng):
    """Three kinds of volumes with a continuous change within each, and the kind of each."""
    labels = rng.permutation(np.repeat([0, 1, 2], [30, 15, 5]))
    kinds = rng.random((3, BOX, BOX, BOX)).astype(np.float32)
    motion = rng.normal(size=(BOX, BOX, BOX)).astype(np.float32)
    amount = rng.normal(size=(50, 1, 1, 1)).astype(np.float32)
    return kinds[labels] + 0.05 * amount * motion, labels


def components(store, mask, count):
    """Return the products of the stored volumes within a mask, and their components."""
    slabs = masked_slabs(store, mask)
    gram = gram_matrix(slabs, num_volumes=store.num_volumes, num_voxels=int(mask.sum()))
    return gram, volume_components(gram, slabs, mask, count)


def test_a_store_gives_back_what_was_put_in(stored, rng, small_slabs):
    volumes = rng.normal(size=(50, BOX, BOX, BOX)).astype(np.float32)
    parts = list(stored(volumes).slabs())
    assert len(parts) > 20
    np.testing.assert_array_equal(np.hstack([values for _, values in parts]).ravel(),
                                  volumes.reshape(50, -1).ravel())  # fmt: skip


def test_components_are_those_of_all_voxels_at_once(stored, groups, small_slabs):
    volumes, _ = groups
    mask = np.zeros((BOX, BOX, BOX), dtype=bool)
    mask[1:7, 2:6, 1:] = True
    gram, found = components(stored(volumes), mask, 6)
    rows = np.maximum(volumes[:, mask], 0)
    pca = PCA(6, svd_solver="full").fit(rows)
    np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(abs((found.axes * pca.components_).sum(axis=1)), 1, atol=1e-4)
    assert (found.axes.sum(axis=1) > 0).all()  # density grows along a component
    np.testing.assert_allclose(gram.distances(), cdist(rows, rows), atol=2e-3)
    # other volumes are treated as those of the sketch were; enough components give them back
    voxels = MaskedVoxels.of(mask, is_clipped=True)
    np.testing.assert_allclose(found.project(voxels(volumes)), found.coordinates, atol=2e-3)
    back = found.volume(found.coordinates[4])
    assert not back[~mask].any()
    assert np.abs(back[mask] - rows[4]).mean() < 0.1 * rows[4].std()


@pytest.mark.parametrize("mean", [0.0, 1.0, 1000.0])
def test_components_end_where_rounding_begins(mean, stored, rng, caplog):
    """Of volumes that differ along three, of which the last has a share of 1e-8 of the variance."""
    kinds = np.linalg.qr(rng.normal(size=(BOX**3, 3)))[0].T.reshape(3, BOX, BOX, BOX)
    volumes = np.einsum("nk,kzyx->nzyx", rng.normal(size=(40, 3)) * [1, 0.1, 1e-4], kinds)
    volumes = (mean * rng.random((BOX,) * 3) + 0.2 + volumes).astype(np.float32)
    mask = (volumes > 0).all(axis=0)
    gram, found = components(stored(volumes), mask, 10)
    expected = 3 if mean < 1000 else 2  # beside 1000, single precision has steps of 6e-5
    assert found.axes.shape == (expected, mask.sum())
    assert found.coordinates.shape == (40, expected)
    assert len(found.explained) == expected
    assert f"differ along {expected} components, not 10" in caplog.text
    products = found.axes.astype(np.float64) @ found.axes.T
    np.testing.assert_allclose(products, np.eye(expected), atol=1e-2 if mean == 1000 else 1e-5)
    again = found.project(MaskedVoxels.of(mask, is_clipped=True)(volumes))
    for k in range(expected):
        assert np.corrcoef(again[:, k], found.coordinates[:, k])[0, 1] > 0.999
    np.testing.assert_allclose(gram.distances(), cdist(*2 * [volumes[:, mask]]), atol=1e-6)


def test_voxels_in_memory_are_taken_part_by_part(rng, monkeypatch):
    rows = rng.random((5, 33)).astype(np.float32)
    monkeypatch.setattr(landscape_components, "BLOCK", 50)
    parts = list(in_memory(rows)())
    assert len(parts) == 4
    np.testing.assert_array_equal(np.hstack([values for _, values in parts]), rows)
    gram = gram_matrix(in_memory(rows), num_volumes=5, num_voxels=33)
    np.testing.assert_allclose(gram.distances(), cdist(rows, rows), atol=1e-6)


def test_states_are_the_planted_ones_and_neighbours_in_number_are_alike(stored, groups):
    volumes, labels = groups
    gram, _ = components(stored(volumes), np.ones((BOX,) * 3, dtype=bool), 5)
    states = landscape.states(gram.distances(), 3)
    assert adjusted_rand_score(labels, states) == 1
    line = np.array([0.0, 0.1, 5.0, 5.1, 9.0, 9.1])[[4, 0, 2, 1, 5, 3]]
    numbers = landscape.states(abs(line[:, None] - line), 3)
    order = [numbers[k] for k in np.argsort(line)[::2]]
    assert order in ([0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0])
    assert abs(order[1] - order[2]) == 1  # 5 is nearer to 9 than to 0


def test_state_maps_weigh_volumes_by_their_particles(stored, groups, rng, small_slabs):
    volumes, labels = groups
    particles = rng.integers(1, 100, 50)
    mean, sd = landscape.state_maps(stored(volumes), labels, particles, box=BOX)
    for state in range(3):
        own, weight = volumes[labels == state], particles[labels == state]
        expected = np.average(own, axis=0, weights=weight)
        np.testing.assert_allclose(mean[state], expected, atol=1e-5)
        spread = np.sqrt(np.average((own - expected) ** 2, axis=0, weights=weight))
        np.testing.assert_allclose(sd[state], spread, atol=1e-5)


def test_the_mask_is_the_union_of_the_masks_of_all_volumes(stored, rng):
    volumes = rng.normal(size=(6, BOX, BOX, BOX)).astype(np.float32)
    each = [
        soft_mask(v, pixel_size_angstrom=4.0, dilate_angstrom=5, edge_angstrom=0, threshold=2.5)
        for v in volumes
    ]
    mask = landscape.union_mask(stored(volumes), 2.5, box=BOX, pixel_size_angstrom=4.0)
    np.testing.assert_array_equal(mask, np.any(each, axis=0))
    with pytest.raises(InputError, match="No volume reaches --threshold 99"):
        landscape.union_mask(stored(volumes), 99, box=BOX, pixel_size_angstrom=4.0)


def test_equal_volumes_have_no_components(stored):
    same = np.ones((5, BOX, BOX, BOX), dtype=np.float32)
    with pytest.raises(InputError, match="equal within the mask"):
        components(stored(same), same[0] > 0, 3)


@pytest.mark.parametrize("count", [1, 3])
def test_the_regression_learns_a_smooth_map_and_reports_how_well(rng, monkeypatch, count):
    monkeypatch.setattr(regressions, "HIDDEN", (64, 64))
    z = rng.normal(size=(1200, 2)).astype(np.float32)
    scores = np.stack([np.sin(z[:, 0]) * 40, z[:, 1] ** 2, rng.normal(size=1200)], axis=1)
    scores = scores[:, :count].astype(np.float32)
    found = regressions.fit_regression(z[:1000], scores[:1000], seed=0)
    assert len(found.held_out) == 250
    assert found.r_squared[0] > 0.95
    predicted = found.predict(z[1000:])
    assert np.corrcoef(predicted[:, 0], scores[1000:, 0])[0, 1] > 0.97
    if count == 3:
        assert found.r_squared[2] < 0.2  # nothing can be learnt of noise, and R² shows it


def test_the_fewest_volumes_are_enough_for_a_regression(rng, monkeypatch):
    monkeypatch.setattr(regressions, "HIDDEN", (16,))
    z = rng.normal(size=(regressions.MIN_VOLUMES, 2)).astype(np.float32)
    found = regressions.fit_regression(z, z, seed=0)
    assert np.isfinite(found.predict(z)).all()


def test_the_energy_of_a_gaussian_is_half_the_squared_distance(rng):
    found = free_energy(rng.normal(size=(400_000, 2)))
    x, y = ((edges[:-1] + edges[1:]) / 2 for edges in found.edges)
    squared = x[:, None] ** 2 + y[None] ** 2
    near = squared < 4
    np.testing.assert_allclose(found.energy[near], squared[near] / 2, atol=0.15)
    assert np.nanmin(found.energy) == 0
    assert found.counts.sum() > 0.999 * 400_000  # the bins reach beyond the outer percentiles


def test_a_chain_is_cut_otherwise_by_each_linkage():
    """Two dense groups with a chain of points from one to the other, and a far point."""
    line = np.concatenate([np.linspace(0, 1, 20), np.linspace(1.5, 6, 10), [14.0]])
    distances = abs(line[:, None] - line)
    by_mean = landscape.states(distances, 2)
    by_variance = landscape.states(distances, 2, method="ward")
    assert np.bincount(by_mean).min() == 1  # the far point alone
    assert np.bincount(by_variance).min() > 1  # states of like size
