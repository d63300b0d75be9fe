"""Which clusters are proposed to be junk, and how what is proposed is told."""

from dataclasses import replace

import numpy as np

from raydrgn.protocol.cluster_numbers import ClusterNumbers
from raydrgn.protocol.proposal import cluster_table, junk_clusters, propose, write_proposal
from raydrgn.protocol.proposal_page import slice_figure, summary
from raydrgn.reporting.result_folder import ResultFolder

GOOD = ClusterNumbers(
    cluster=0,
    particles=100,
    share=0.2,
    magnitude=1.5,
    peak=1.2,
    total=500.0,
    noise=0.03,
    agreement=0.9,
    resolution_angstrom=21.0,
    shows_nothing=None,
)


def clusters(*changes):
    return [replace(GOOD, cluster=k, **change) for k, change in enumerate(changes)]


def latents(numbers):
    """Return latents with about the |z| of each cluster, and the labels."""
    labels = np.repeat([n.cluster for n in numbers], [n.particles for n in numbers])
    size = np.array([numbers[k].magnitude for k in labels])
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, len(labels))
    z = size[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return z.astype(np.float32), labels


def test_weak_density_is_junk_and_weaker_states_are_not():
    numbers = clusters({}, {}, {}, {"peak": 0.7}, {"peak": 0.2})
    z, _ = latents(numbers)
    found = junk_clusters(numbers, np.linalg.norm(z, axis=1))
    assert list(found) == [4]
    assert found[4] == "peak density 0.2, where 1.2 is typical"


def test_far_latents_are_junk_only_where_half_sets_do_not_agree():
    far = {"particles": 5, "magnitude": 9.0}
    numbers = clusters({}, {}, {**far, "agreement": 0.2}, {**far, "agreement": 0.8})
    z, _ = latents(numbers)
    assert list(junk_clusters(numbers, np.linalg.norm(z, axis=1))) == [2]


def test_a_small_cluster_near_the_others_is_kept():
    """Half sets of few particles never agree: that alone says nothing."""
    numbers = clusters({}, {}, {"particles": 4, "agreement": -0.1, "resolution_angstrom": 200.0})
    z, _ = latents(numbers)
    assert not junk_clusters(numbers, np.linalg.norm(z, axis=1))


def test_particles_that_show_nothing_are_proposed_whatever_their_cluster():
    numbers = clusters({"shows_nothing": 0.1}, {"shows_nothing": 0.0, "peak": 0.1})
    z, labels = latents(numbers)
    null = np.zeros(len(z), dtype=np.float32)
    null[:10] = 0.9
    found = propose(numbers, z, labels, null)
    assert np.array_equal(found.kept, (labels == 0) & (null < 0.5))
    names = [method.name for method in found.methods]
    assert names[:3] == ["null probability <= 0.5", "clusters", "all proposed"]
    text = summary(found)
    assert "110 of 200 particles (55.0 %)" in text
    assert "10 that show nothing" in text
    assert "clusters 1" in text


def test_no_junk_is_said_in_words(tmp_path):
    numbers = clusters({}, {})
    z, labels = latents(numbers)
    found = propose(numbers, z, labels, None)
    assert found.kept.all()
    assert summary(found).startswith("No junk was found: all 200 particles")


def test_numbers_are_written_and_shown_on_one_grey_scale(tmp_path):
    numbers = clusters({}, {"peak": 0.1, "resolution_angstrom": None})
    z, labels = latents(numbers)
    found = propose(numbers, z, labels, None)
    folder = ResultFolder(str(tmp_path))
    write_proposal(found, np.arange(1000, 1200), folder)
    head, first, second = (tmp_path / "clusters.csv").read_text().splitlines()
    assert head.startswith("cluster,particles,share,magnitude,peak,total,noise,agreement")
    assert first.endswith("False")
    assert second.endswith("True")
    table = cluster_table(found)
    assert len(table.head) == len(table.rows[0])
    assert table.rows[1][-1].startswith("peak density")
    figure = slice_figure(found, [np.full((4, 4, 4), 1.0), np.full((4, 4, 4), 0.1)])
    scales = {axis.images[0].get_clim() for axis in figure.axes if axis.images}
    assert len(scales) == 1


def test_a_cluster_of_one_particle_has_no_half_sets():
    numbers = clusters({}, {}, {"particles": 1, "magnitude": 9.0, "agreement": 0.0})
    z, _ = latents(numbers)
    assert not junk_clusters(numbers, np.linalg.norm(z, axis=1))


def test_no_cluster_is_proposed_where_the_images_determine_no_latent():
    """|z| is rounding there: what lies far says nothing."""
    numbers = clusters({}, {}, {"particles": 5, "magnitude": 9.0, "agreement": 0.2})
    z, labels = latents(numbers)
    null = np.zeros(len(z))
    assert propose(numbers, z, labels, null).clusters == [2]
    found = propose(numbers, z, labels, null, has_latents=False)
    assert found.clusters == []
    assert found.kept.all()
    assert "No cluster is proposed. The images determine no latent" in summary(found)
