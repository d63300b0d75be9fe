"""Whether the particles of a class support its decoded volume, and sizes of an estimate."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from raydrgn.inputs.backprojection import Backprojection
from raydrgn.inputs.resolution import Resolution
from raydrgn.inputs.verdict import Verdict
from raydrgn.protocol import estimate
from raydrgn.protocol.class_differences import EnsembleMean, in_box
from raydrgn.protocol.estimate import MAPS, needed_disk
from raydrgn.protocol.settings import TrainingPlan
from raydrgn.protocol.support import class_figure, class_support
from raydrgn.wording import in_bytes, in_time

BOX, PIXEL = 32, 3.0


def blobs(seed=0):
    """Return a volume with detail, dense in the middle."""
    noise = np.random.default_rng(seed).standard_normal((BOX, BOX, BOX))
    z, y, x = np.mgrid[:BOX, :BOX, :BOX] - BOX // 2
    inside = np.sqrt(x**2 + y**2 + z**2) < BOX / 4
    return (inside * (2 + ndimage.gaussian_filter(noise, 1.0) * 4)).astype(np.float32)


def maps(volume, half_angstrom):
    """Return maps whose half maps agree to a resolution."""
    shells = torch.arange(BOX // 2)
    curve = (shells < BOX * PIXEL / half_angstrom).float()
    resolution = Resolution(
        pixel_size_angstrom=PIXEL,
        unmasked=curve,
        spherical=curve,
        masked=curve,
        randomised=torch.zeros(BOX // 2),
        corrected=curve,
        mask=np.ones_like(volume),
    )
    verdict = Verdict(findings=[], problems=[], skewness=1.0, comparison=None, misfits=[])
    return Backprojection(
        full=volume,
        halves=(volume, volume),
        reference=None,
        resolution=resolution,
        verdict=verdict,
    )


def one_class(volume):
    """Return the mean of a single class, which has nothing to be compared with."""
    return EnsembleMean.of(maps(volume, 8.0), volume[None], [50])


def support(found, decoded, particles=50):
    mean = one_class(decoded)
    return class_support("C1", found, decoded, particles=particles, share=0.1, mean=mean)


def test_a_class_whose_map_is_its_volume_is_supported():
    volume = blobs()
    found = support(maps(volume, 9.0), volume)
    assert found.is_supported
    assert found.to_dict()["is_supported"]
    assert found.difference_half_maps is None
    assert found.agreement_angstrom == pytest.approx(2 * PIXEL, rel=0.1)


@pytest.mark.parametrize(
    ("half", "particles"), [(17.0, 50), (9.0, 19)], ids=["coarse half maps", "few particles"]
)
def test_a_class_of_too_few_particles_is_marked(half, particles):
    volume = blobs()
    assert not support(maps(volume, half), volume, particles=particles).is_supported
    assert not support(None, volume, particles=particles).is_supported


def test_a_decoded_volume_that_its_particles_do_not_show_is_marked():
    found = support(maps(blobs(0), 8.0), np.roll(blobs(1), 9, axis=0))
    assert found.why_not == "the map of its particles does not agree with its decoded volume"


def test_a_map_in_a_smaller_box_keeps_its_density():
    smooth = ndimage.gaussian_filter(blobs(), 3.0)
    assert in_box(smooth, 16).max() == pytest.approx(smooth.max(), rel=0.05)


def test_disk_is_that_of_stacks_weights_and_latents():
    plan = TrainingPlan(box=64, width=32, epochs=10)
    one = needed_disk([plan], num_particles=1000, image_box=64)
    two = needed_disk([plan, plan], num_particles=1000, image_box=64)
    small = needed_disk([plan], num_particles=1000, image_box=128)
    assert two > 1.5 * one - MAPS * 4 * 64**3
    assert small - one > 4 * 1000 * 64**2  # a stack, and larger maps


def test_sizes_and_times_are_for_people():
    assert [in_bytes(n) for n in (0, 950, 2.5e6, 3e12)] == ["–", "950 B", "2.5 MB", "3 TB"]
    assert [in_time(t) for t in (None, 12, 120, 7200, 200000)] == [
        "–", "12 s", "2.0 min", "2.0 h", "2.3 days",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "maker", "first", "batch"),
    [("cuda", "make_fixed_step", 4, 16), ("cpu", "make_step", 1, 16)],
)
def test_the_steps_that_are_timed_are_those_of_training(monkeypatch, device, maker, first, batch):
    """On a GPU captured ones, after those that are taken before the capture, and with it."""
    taken = []

    def make(*arguments, is_compiled=False, **options):
        assert is_compiled == (device == "cuda")
        return lambda: taken.append(options["device"])

    monkeypatch.setattr(estimate, maker, make)
    monkeypatch.setattr(estimate, "calls_per_second", lambda step, device: 2.0)
    plan = TrainingPlan(box=16, width=8, epochs=3)
    seconds, _ = estimate._seconds(plan, 1000, torch.device(device))
    assert len(taken) == first
    assert seconds == pytest.approx(3 * 1000 / (2 * batch))


def test_a_class_without_a_map_is_named_and_white():
    found = class_support("C7", None, blobs(), particles=19, share=0.01, mean=one_class(blobs()))
    assert found.why_not == "fewer than 20 particles"
    slices = blobs()[BOX // 2]
    [axis] = class_figure([found], {"C7": (slices, None)}).axes
    assert "19: too few" in [text.get_text() for text in axis.texts]
    decoded, white = (np.asarray(image.get_array()) for image in axis.get_images())
    np.testing.assert_array_equal(decoded, slices)
    assert (white == 255).all()
