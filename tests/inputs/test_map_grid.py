"""Maps on the grid of volumes with another box and pixel size."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from raydrgn.fourier.resample import resample
from raydrgn.inputs.comparison import on_lattice
from raydrgn.inputs.map_grid import has_field, write_on_grid
from raydrgn.io.mrc import read_volume, write_volume

BOX, SIZE, ORIGIN = 40, 3.0, (5.0, -7.0, 2.0)  # px, Å, Å
POINT = np.array([78.0, 47.0, 70.0])  # Å, x y z
WIDTH = 9.0  # Å


def positions(volume, header):
    """Return x, y, z of the voxels in Å, along each axis."""
    ticks = np.arange(len(volume)) * header.pixel_size_angstrom
    return [ticks + start for start in header.origin_angstrom]


@pytest.fixture
def blob(tmp_path):
    ticks = [np.arange(BOX) * SIZE + start - at for start, at in zip(ORIGIN, POINT, strict=True)]
    x, y, z = (np.exp(-(t**2) / (2 * WIDTH**2)) for t in ticks)
    uri = str(tmp_path / "map.mrc")
    density = np.einsum("z,y,x->zyx", z, y, x).astype(np.float32)
    write_volume(uri, density, pixel_size_angstrom=SIZE, origin_angstrom=ORIGIN)
    return uri


@pytest.mark.parametrize(
    ("box", "size"), [(40, 3.3), (48, 3.0), (32, 3.4), (64, 2.0), (20, 6.0), (36, 3.01)]
)
def test_density_stays_where_it_is(blob, tmp_path, box, size):
    out = str(tmp_path / "out.mrc")
    write_on_grid(blob, out, box=box, field_angstrom=box * size)
    volume, header = read_volume(out)
    assert volume.shape == (box,) * 3
    assert header.pixel_size_angstrom == pytest.approx(size, rel=1e-5)
    x, y, z = positions(volume, header)
    ticks = [t - at for t, at in zip((x, y, z), POINT, strict=True)]
    expected = np.einsum("z,y,x->zyx", *(np.exp(-(t**2) / (2 * WIDTH**2)) for t in reversed(ticks)))
    np.testing.assert_allclose(volume, expected, atol=0.01)


def test_the_field_is_box_times_pixel_size(blob):
    assert has_field(blob, 120.0)
    assert has_field(blob, 120.05)
    assert not has_field(blob, 121.0)


@pytest.mark.parametrize("box", [40, 24])
def test_what_lies_outside_of_a_smaller_field_is_left_out(box):
    """A neighbour of the particle, at the edge of the refinement's box."""
    generator = np.random.default_rng(3)
    volume = np.zeros((64,) * 3, dtype=np.float32)
    for centre, spread in ((32, 3.0), (58, 1.5)):
        for place in generator.normal(centre, spread, size=(60, 3)).round().astype(int):
            volume[tuple(np.clip(place, 0, 63))] += 1
    volume = ndimage.gaussian_filter(volume, 1.5)
    found = on_lattice(torch.from_numpy(volume), scale=40 / 64, box=box).numpy()
    own = resample(torch.from_numpy(volume[12:52, 12:52, 12:52].copy()), box=box, ndim=3).numpy()
    inside = np.s_[2:-2, 2:-2, 2:-2]  # what is cut off has an edge, which is smoothed
    np.testing.assert_allclose(found[inside], own[inside], atol=0.02 * own.max())
