"""Whether particles of a class show what its decoded volume has and the others lack."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from raydrgn.inputs.backprojection import Backprojection, back_project
from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.inputs.resolution import measure_resolution
from raydrgn.inputs.verdict import Verdict
from raydrgn.io.mrc import read_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.protocol.class_differences import EnsembleMean, compare_differences
from raydrgn.protocol.support import NOT_DECODED, NOT_REPRODUCED, class_support
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

PIXEL = 10.0
CORE, HEAD, NO_STALK, MATURE = 0, 1, 4, 5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Particles of an assembling complex at an SNR of 0.1, and their states."""
    folder = tmp_path_factory.mktemp("assembly")
    simulate(str(folder), Simulation(num_particles=1600, box=32, snr=0.1, seed=1))
    table = open_particles(ParticleSource(particles=str(folder / "particles.star")))
    labels = np.load(folder / "truth" / "labels.npy")
    volumes = [read_volume(str(path))[0] for path in sorted(folder.glob("truth/vol_*.mrc"))[:7]]
    return table, labels, np.stack(volumes)


@pytest.fixture(scope="module")
def whole(data):
    return mapped(data[0], np.arange(len(data[1])))


def mapped(table, rows):
    return back_project(table.select(rows), BackprojectionOptions())


def in_words(maps, decoded, mean):
    found = class_support("C1", maps, decoded, particles=200, share=0.2, mean=mean)
    return found.why_not


def of_maps(volume, noise, seed):
    """Return maps of a volume whose half maps have noise of their own."""
    generator = np.random.default_rng(seed)
    halves = [
        (volume + noise * gaussian_filter(generator.standard_normal(volume.shape), 0.5)).astype("f")
        for _ in range(2)
    ]
    full = (halves[0] + halves[1]) / 2
    resolution = measure_resolution(
        *halves, full, pixel_size_angstrom=PIXEL, generator=torch.Generator().manual_seed(0)
    )
    verdict = Verdict(findings=[], problems=[], skewness=1.0, comparison=None, misfits=[])
    return Backprojection(
        full=full,
        halves=(halves[0], halves[1]),
        reference=None,
        resolution=resolution,
        verdict=verdict,
    )


def test_the_volume_of_another_state_is_not_supported(data):
    """Though the particles have most of it, and no noise hides what they lack."""
    _, labels, volumes = data
    sizes = np.bincount(labels, minlength=7).tolist()
    all_of_them = of_maps(np.tensordot(sizes, volumes, axes=1) / sum(sizes), 0.02, 0)
    mature = of_maps(volumes[MATURE], 0.1, 1)
    for claim, volume in enumerate(volumes):
        claimed = volumes.copy()
        claimed[MATURE] = volume  # as if this were what the run has decoded
        mean = EnsembleMean.of(all_of_them, claimed, sizes)
        assert (in_words(mature, volume, mean) is None) == (claim == MATURE)
    mean = EnsembleMean.of(all_of_them, volumes, sizes)
    assert in_words(of_maps(volumes[NO_STALK], 0.1, 2), volumes[MATURE], mean) == NOT_DECODED


def test_noisy_particles_of_a_state_support_it_and_no_other(data, whole):
    table, labels, volumes = data
    mean = EnsembleMean.of(whole, volumes, np.bincount(labels, minlength=7).tolist())
    for state, other in ((MATURE, NO_STALK), (HEAD, CORE), (CORE, MATURE)):
        maps = mapped(table, np.flatnonzero(labels == state))
        assert in_words(maps, volumes[state], mean) is None
        assert in_words(maps, volumes[other], mean) is not None


def test_random_classes_are_not_supported(data, whole, generator):
    table, labels, volumes = data
    mean = EnsembleMean.of(whole, volumes, np.bincount(labels, minlength=7).tolist())
    order = torch.randperm(len(labels), generator=generator).numpy()
    for rows in np.split(order[:600], 3):
        maps = mapped(table, rows)
        assert compare_differences(maps, volumes[MATURE], mean).half_maps < 0.5
        assert in_words(maps, volumes[MATURE], mean) is not None
        own = (maps.full / maps.full.max()).astype(np.float32)  # a volume that shows their noise
        assert in_words(maps, own, mean) == NOT_REPRODUCED


def test_a_map_that_is_only_damped_has_no_difference(data):
    """As those of fewer particles are, which both half maps of a class have in common."""
    _, labels, volumes = data
    sizes = np.bincount(labels, minlength=7).tolist()
    average = np.tensordot(sizes, volumes, axes=1) / sum(sizes)
    all_of_them, damped = of_maps(average, 0.02, 4), of_maps(0.6 * average, 0.1, 5)
    plain = [a - b for a, b in zip(damped.halves, all_of_them.halves, strict=True)]
    inside = average > average.max() / 4
    assert (plain[0] * plain[1])[inside].sum() > 0.9 * np.prod(
        [np.sqrt((difference**2)[inside].sum()) for difference in plain]
    )
    mean = EnsembleMean.of(all_of_them, volumes, sizes)
    assert compare_differences(damped, volumes[CORE], mean).half_maps < 0.5


def test_the_grey_scale_of_decoded_volumes_does_not_matter(data, whole):
    table, labels, volumes = data
    sizes = np.bincount(labels, minlength=7).tolist()
    maps = mapped(table, np.flatnonzero(labels == MATURE))
    found = [
        compare_differences(
            maps, scale * volumes[MATURE], EnsembleMean.of(whole, scale * volumes, sizes)
        )
        for scale in (1.0, 30.0)
    ]
    assert found[0].explained == pytest.approx(found[1].explained, rel=1e-3)
    assert found[0].half_maps == pytest.approx(found[1].half_maps, abs=1e-3)
    average = np.tensordot(sizes, volumes, axes=1) / sum(sizes)
    opposite = (2 * average - volumes[MATURE]).astype(np.float32)
    found = compare_differences(maps, opposite, EnsembleMean.of(whole, volumes, sizes))
    assert found.decoded < 0
    assert found.explained == 0


def test_half_maps_that_agree_in_too_few_shells_show_no_difference(data, whole):
    _, labels, volumes = data
    mean = EnsembleMean.of(whole, volumes, np.bincount(labels, minlength=7).tolist())
    maps = of_maps(volumes[MATURE], 0.1, 3)
    curve = (torch.arange(16) < 3).float()
    coarse = replace(maps, resolution=replace(maps.resolution, corrected=curve))
    found = compare_differences(coarse, volumes[MATURE], mean)
    assert (found.half_maps, found.decoded) == (0, 0)
