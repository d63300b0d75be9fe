"""The decoder of mean and components: a sum of volumes, whole and in a smaller box."""

import pytest
import torch

from raydrgn.fourier.resample import resample
from raydrgn.model.linear import LinearDecoder

BOX = 8


@pytest.fixture
def tensors(generator):
    """A mean and two components on a third of the voxels."""
    voxels = torch.randperm(BOX**3, generator=generator)[: BOX**3 // 3].sort().values
    volumes = torch.randn(3, len(voxels), generator=generator)
    return {"voxels": voxels, "volumes": volumes, "latent_scale": torch.tensor([0.5, 4.0])}


@pytest.fixture
def z(generator):
    return torch.randn(4, 2, generator=generator)


def test_a_volume_is_the_mean_and_its_components_by_the_latent_over_its_scale(tensors, z):
    mean, first, second = tensors["volumes"]
    found = LinearDecoder(tensors, box=BOX).volumes(z).reshape(len(z), -1)
    expected = mean + z[:, :1] / 0.5 * first + z[:, 1:] / 4.0 * second
    inside = tensors["voxels"]
    torch.testing.assert_close(found[:, inside], expected, rtol=1e-5, atol=1e-5)
    outside = torch.ones(BOX**3, dtype=torch.bool)
    outside[inside] = False
    assert not found[:, outside].any()


def test_volumes_in_a_smaller_box_are_the_whole_ones_resampled(tensors, z):
    decoder = LinearDecoder(tensors, box=BOX)
    whole = decoder.volumes(z)
    for _ in range(2):  # the second time from what was kept
        small = decoder.volumes(z, small_box=6)
        torch.testing.assert_close(small, resample(whole, box=6, ndim=3), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(decoder.volumes(z, small_box=BOX), whole)
