"""Masks in files: which voxels they hold, and which grids fit."""

import numpy as np
import pytest

from raydrgn.errors import InputError
from raydrgn.io.masks import read_mask, read_region
from raydrgn.io.mrc import write_volume


@pytest.fixture
def put(tmp_path):
    def write(values, pixel_size=2.0):
        uri = str(tmp_path / "mask.mrc")
        write_volume(uri, values.astype(np.float32), pixel_size_angstrom=pixel_size)
        return uri

    return write


@pytest.fixture
def soft():
    """A mask with a soft edge: 0, 0.25, 0.5, 0.75 and 1 in equal parts of its box."""
    return np.tile(np.linspace(0, 1, 5).repeat(2)[:, None, None], (1, 10, 10))


def test_half_of_a_soft_edge_is_inside_a_mask(put, soft):
    assert read_mask(put(soft)).num_voxels == 600  # 0.5 and more
    assert read_region(put(soft)).num_voxels == 400  # above half of the maximum


@pytest.mark.parametrize("scale", [0.01, 1, 300])
def test_the_scale_of_a_region_does_not_matter(put, soft, scale):
    assert read_region(put(scale * soft)).num_voxels == 400


def test_what_is_no_mask_is_refused(put, soft):
    with pytest.raises(InputError, match="values from 0 to 3, but a mask is between 0 and 1"):
        read_mask(put(3 * soft))
    with pytest.raises(InputError, match="empty"):
        read_mask(put(0.1 * soft))
    for empty in (0 * soft, -soft):
        with pytest.raises(InputError, match="empty: its highest value is"):
            read_region(put(empty))


def test_grids_are_compared_within_the_rounding_of_headers(put, soft):
    mask = read_mask(put(soft))
    mask.check_grid(10, 2.003, what="vol.mrc")
    mask.check_grid(10, 0.0, what="vol.mrc")  # unknown
    with pytest.raises(InputError, match=r"vol\.mrc has a box of 10 px with pixels of 2\.01 Å"):
        mask.check_grid(10, 2.01, what="vol.mrc")
    with pytest.raises(InputError, match=r"12 px .*, but the mask .* 10 px .* Or so\. Make"):
        mask.check_grid(12, 2.0, what="vol.mrc", remedy="Or so. ")
