"""Paths through latent spaces of known shape."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from latents import blobs
from raydrgn.clustering.embedding import principal_components
from raydrgn.errors import ConfigError
from raydrgn.latent import paths
from raydrgn.latent.paths import (
    NeighbourGraph,
    NoPathError,
    along_component,
    nearest_neighbours,
    straight,
    support,
)


@pytest.fixture(scope="module")
def ring():
    """Three quarters of a ring: the way round is not the way across."""
    angle = np.linspace(0, 1.5 * np.pi, 1500)
    noise = 0.004 * np.random.default_rng(1).normal(size=(1500, 2))
    return angle, (np.stack([np.cos(angle), np.sin(angle)], axis=1) + noise).astype(np.float32)


def test_a_graph_path_follows_the_particles_in_order(ring):
    angle, z = ring
    path = NeighbourGraph(z, max_neighbors=20, avg_neighbors=12).through([0, len(z) - 1])
    along = angle[path.rows]
    assert (np.diff(np.maximum.accumulate(along)) >= 0).all()
    assert (along - np.maximum.accumulate(along)).min() > -0.1  # noise may step back a little
    assert path.length == pytest.approx(1.5 * np.pi, rel=0.05)
    assert path.distance == pytest.approx(np.sqrt(2), abs=0.1)
    steps = np.linalg.norm(np.diff(z[path.rows], axis=0), axis=1)
    assert path.length == pytest.approx(steps.sum(), rel=1e-5)


def test_a_path_through_anchors_joins_the_paths_between_them(ring):
    _, z = ring
    graph = NeighbourGraph(z, max_neighbors=20, avg_neighbors=12)
    whole = graph.through([0, 700, 1499])
    parts = graph.through([0, 700]), graph.through([700, 1499])
    np.testing.assert_array_equal(whole.rows, [*parts[0].rows, *parts[1].rows[1:]])
    assert whole.length == pytest.approx(sum(part.length for part in parts))


def test_neighbours_are_the_nearest_and_the_particle_itself_is_first():
    z = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    distance, rows = nearest_neighbours(z, 10)
    every = np.linalg.norm(z[:, None] - z[None], axis=2)
    np.testing.assert_array_equal(rows[:, 0], np.arange(300))
    np.testing.assert_allclose(distance, np.sort(every, axis=1)[:, :10], atol=1e-3)


def test_neighbours_of_many_particles_do_not_depend_on_the_number_of_cores(monkeypatch):
    """A tree finds them in few dimensions; pynndescent in more, on one thread."""
    asked = {}

    class StandIn:
        def __init__(self, z, **settings):
            asked.update(settings)
            count = settings["n_neighbors"]
            self.neighbor_graph = (
                np.zeros((len(z), count), np.int32),
                np.zeros((len(z), count), np.float32),
            )

    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=StandIn))
    z = np.random.default_rng(0).normal(size=(300, 9)).astype(np.float32)
    exact = nearest_neighbours(z[:, :8], 5)
    monkeypatch.setattr(paths, "EXACT_LIMIT", 100)
    np.testing.assert_array_equal(nearest_neighbours(z[:, :8], 5), exact)
    assert not asked
    nearest_neighbours(z, 5)
    assert (asked["n_jobs"], asked["random_state"]) == (1, 0)


def test_an_island_out_of_reach_says_what_would_reach_it():
    z, _ = blobs([[0, 0], [1.5, 0], [3.5, 0]], size=200, spread=0.3)
    z = z[(np.abs(z[:, 0] - 0.75) > 0.25) & (np.abs(z[:, 0] - 2.5) > 0.35)]
    anchors = [int(z[:, 0].argmin()), int(np.abs(z[:, 0] - 1.5).argmin()), int(z[:, 0].argmax())]
    with pytest.raises(ConfigError, match="would reach every anchor") as said:
        NeighbourGraph(z, max_neighbors=4, avg_neighbors=2).through(anchors)
    words = str(said.value).split("). ")[1].split()
    reaching = NeighbourGraph(z, max_neighbors=int(words[1]), avg_neighbors=float(words[3]))
    assert set(anchors) <= set(reaching.through(anchors).rows.tolist())


def test_islands_far_apart_are_said_to_be_islands():
    z, _ = blobs([[0, 0], [1e3, 0]], size=400)
    with pytest.raises(ConfigError, match="separate islands"):
        NeighbourGraph(z).through([0, 799])


@pytest.fixture(scope="module", params=[0.2, 0.45, 0.6])
def with_junk(request):
    """Particles along a line, and among them junk of one latent, far from all others."""
    share, rng = request.param, np.random.default_rng(5)
    line = np.stack([np.linspace(0, 4, 2000), 0.02 * rng.normal(size=2000)], axis=1)
    z = np.full((round(2000 / (1 - share)), 2), [1.0, 9.0], dtype=np.float32)
    real = np.sort(rng.choice(len(z), 2000, replace=False))
    z[real] = line
    return z, real


def test_particles_of_equal_latents_leave_the_paths_of_others_as_they_are(with_junk):
    z, real = with_junk
    path = NeighbourGraph(z, avg_neighbors=8).through([int(real[0]), int(real[-1])])
    alone = NeighbourGraph(z[real], avg_neighbors=8).through([0, 1999])
    assert np.isin(path.rows, real).all()
    assert path.length == pytest.approx(alone.length, rel=1e-3)  # one more latent, a few more edges


def test_particles_of_equal_latents_leave_typical_support_as_it_is_and_are_counted(with_junk):
    z, real = with_junk
    points = np.float32([[0.5, 0], [2, 0], [3.5, 0]])
    np.testing.assert_allclose(support(z, points), support(z[real], points), rtol=0.05)
    assert support(z, z[~np.isin(np.arange(len(z)), real)][:1]).tolist() == [len(z) - 2000]


def test_latents_that_rounding_alone_sets_apart_are_one():
    rng = np.random.default_rng(6)
    line = np.stack([np.linspace(1, 5, 2000), 1 + 0.02 * rng.normal(size=2000)], axis=1)
    junk = 1e-9 * rng.normal(size=(3000, 2))
    z = np.concatenate([line, junk]).astype(np.float32)
    path = NeighbourGraph(z, avg_neighbors=8).through([0, 1999])
    alone = NeighbourGraph(z[:2000], avg_neighbors=8).through([0, 1999])
    assert path.length == pytest.approx(alone.length, rel=1e-3)
    np.testing.assert_allclose(support(z, z[[500, 1500]]), support(z[:2000], z[[500, 1500]]))


def test_anchors_of_equal_latents_are_visited_as_they_were_named():
    z = np.float32([[0, 0], [1, 0], [1, 0], [2, 0], [2, 0], [3, 0]])
    graph = NeighbourGraph(z, max_neighbors=3, avg_neighbors=3)
    assert graph.through([0, 5]).rows.tolist() == [0, 1, 3, 5]
    path = graph.through([2, 4, 3, 3])
    assert path.rows.tolist() == [2, 4, 3]
    assert (path.length, path.distance) == (1, 1)


def test_less_than_one_edge_in_all_is_no_edge_and_not_all_of_them():
    z = np.arange(6, dtype=np.float32)[:, None]
    with pytest.raises(NoPathError, match=r"--max-neighbors 3 --avg-neighbors 3 would reach"):
        NeighbourGraph(z, max_neighbors=3, avg_neighbors=0.1).through([0, 4])


def test_more_neighbours_on_average_than_at_most_are_refused():
    with pytest.raises(ConfigError, match="--avg-neighbors"):
        NeighbourGraph(np.zeros((5, 2), dtype=np.float32), max_neighbors=3, avg_neighbors=4)


def test_points_along_a_component_are_those_of_the_line():
    z = (np.random.default_rng(0).normal(size=(4000, 3)) * [5, 1, 0.2] + [1, 2, 3]).astype("f4")
    pca = principal_components(z)
    line = along_component(pca, 0, points=5, percentiles=(1, 99))
    scores = pca.project(line)
    np.testing.assert_allclose(scores[:, 1:], 0, atol=1e-5)
    np.testing.assert_allclose(np.diff(scores[:, 0], 2), 0, atol=1e-4)
    low, high = np.percentile(pca.coordinates[:, 0], [1, 99])
    np.testing.assert_allclose(scores[[0, -1], 0], [low, high], rtol=1e-5)
    by_count = along_component(pca, 0, points=5, percentiles=(0, 100), spaced="percentile")
    ends = pca.project(by_count)[:, 0]
    between = np.histogram(pca.coordinates[:, 0], np.sort(ends))[0]
    np.testing.assert_allclose(between, 1000, atol=2)
    with pytest.raises(ConfigError, match="--pc 4 is more than the number of components, 3"):
        along_component(pca, 3, points=5, percentiles=(1, 99))
    with pytest.raises(ConfigError, match="percentiles"):
        along_component(pca, 0, points=5, percentiles=(99, 1))
    with pytest.raises(ConfigError, match="at least 2 points"):
        along_component(pca, 0, points=1, percentiles=(1, 99))


def test_straight_lines_share_their_anchors():
    anchors = np.float32([[0, 0], [1, 0], [1, 2]])
    line = straight(anchors, points=3)
    np.testing.assert_allclose(line, [[0, 0], [0.5, 0], [1, 0], [1, 1], [1, 2]])
    with pytest.raises(ConfigError, match="at least two anchors"):
        straight(anchors[:1], points=3)


def test_support_is_fifty_where_particles_are_even_and_none_in_the_gap():
    z = np.random.default_rng(0).uniform(size=(20_000, 2)).astype(np.float32)
    z = z[np.abs(z[:, 0] - 0.5) > 0.1]
    near = support(z, np.float32([[0.2, 0.5], [0.5, 0.5], [0.8, 0.3]]))
    np.testing.assert_allclose(near[[0, 2]], 50, atol=22)  # Poisson, three deviations
    assert near[1] == 0
