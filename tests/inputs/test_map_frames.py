"""Where the map lies and what does not reach it: pixel sizes, shifts, outliers."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from known_map import BOX, particle_table, write_images
from raydrgn.ctf import CTFParameters, contrast_transfer
from raydrgn.fourier.shells import shell_correlation
from raydrgn.fourier.transforms import fft_centred, ifft_centred, images_from_disc
from raydrgn.geometry.lattice import half_disc, plane_coordinates
from raydrgn.geometry.rotations import random_rotations, to_euler
from raydrgn.inputs.backprojection import back_project
from raydrgn.inputs.downsampling import downsample
from raydrgn.inputs.options import BackprojectionOptions, DownsamplingOptions
from raydrgn.io.mrc import read_header, read_slices
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.pixel_sizes import with_frame
from raydrgn.io.sources import open_particles

POINT_ANGSTROM = np.array([15.0, -9.0, 6.0])


def _blob_images(rotations, shifts_px, pixel_sizes, box):
    """Return images of one Gaussian blob that lies at a point given in Å, as the formulas say."""
    centres = (rotations @ POINT_ANGSTROM)[:, :2] / pixel_sizes[:, None] - shifts_px
    ticks = np.arange(-(box // 2), box // 2)
    x, y = np.meshgrid(ticks, ticks)
    distance = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    width = 9.0 / pixel_sizes[:, None, None]  # Å
    return np.exp(-distance / (2 * width**2)).astype(np.float32)


def _write_star(path, stack, rotations, shifts_px, groups, group_sizes, box, *, in_angstrom):
    euler = to_euler(rotations)
    unit = "Angst" if in_angstrom else ""
    lines = ["data_optics", "", "loop_", "_rlnOpticsGroup", "_rlnImagePixelSize", "_rlnImageSize"]
    lines += [f"{i + 1} {size:.6f} {box}" for i, size in enumerate(group_sizes)]
    lines += ["", "data_particles", "", "loop_", "_rlnImageName", "_rlnAngleRot", "_rlnAngleTilt"]
    lines += ["_rlnAnglePsi", f"_rlnOriginX{unit}", f"_rlnOriginY{unit}", "_rlnOpticsGroup"]
    for i, (angles, shift, group) in enumerate(zip(euler, shifts_px, groups, strict=True)):
        moved = shift * (group_sizes[group] if in_angstrom else 1.0)
        numbers = " ".join(f"{v:.6f}" for v in [*angles, *moved])
        lines.append(f"{i + 1}@{stack.name} {numbers} {group + 1}")
    path.write_text("\n".join(lines) + "\n")


def _place_angstrom(star):
    result = back_project(
        open_particles(ParticleSource(particles=str(star))), BackprojectionOptions()
    )
    box, size = result.full.shape[-1], result.resolution.pixel_size_angstrom
    # A blob at r has the phase −2πk·r / field: what is left of it at low frequencies, after that of
    # the point it should be at, is fitted by the offset.
    field, reach = box * size, 4
    spectrum = fft_centred(torch.from_numpy(result.full), ndim=3).numpy()
    window = (slice(box // 2 - reach, box // 2 + reach + 1),) * 3
    z, y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1]
    k = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    values = spectrum[window].ravel() * np.exp(2j * np.pi * (k @ POINT_ANGSTROM) / field)
    weights = np.abs(values) * (np.linalg.norm(k, axis=1) <= reach)
    offset, *_ = np.linalg.lstsq(
        k * weights[:, None], -np.angle(values) / (2 * np.pi) * weights, rcond=None
    )
    return POINT_ANGSTROM + offset * field, size


@pytest.mark.parametrize("offset", [0, 1000])
def test_hot_pixels_and_offsets_do_not_reach_the_map(known, consensus, tmp_path, offset, caplog):
    images = read_slices(read_header(known[1].stacks[0]), 0, len(known[1]))
    spread = images.std()
    images[[7, 900], 3, 4] = 1e6 * spread
    images = images + np.float32(offset * spread)
    stack = write_images(tmp_path / "hot.mrcs", images)
    table = known[1].with_columns({"stack": [stack] * len(images)})
    made = back_project(table, BackprojectionOptions())
    assert "7 (a pixel of" in caplog.text
    assert ("not normalised" in caplog.text) == (offset > 0)
    assert np.corrcoef(made.full.ravel(), consensus.full.ravel())[0, 1] > 0.99


FINE, COARSE = 3.0, 3.4  # Å
CENTRES_ANGSTROM = np.random.default_rng(8).normal(scale=12.0, size=(30, 3))


def _structure(freqs):
    """Return the transform of 30 Gaussian blobs of SD 2 Å, from its formula; at 1/Å."""
    phase = -2 * np.pi * freqs @ CENTRES_ANGSTROM.T
    return np.exp(1j * phase).sum(-1) * np.exp(-2 * (np.pi * 2.0) ** 2 * (freqs**2).sum(-1))


def _two_scales(path, sizes):
    """Return particles of the structure, each at its pixel size, with CTF and noise."""
    generator = np.random.default_rng(2)
    count = len(sizes)
    rotations = random_rotations(count, generator=generator)
    optics = np.tile([0, 0, 20.0, 300.0, 2.7, 0.1, 0.0], (count, 1))
    optics[:, :2] = generator.uniform(8000, 20000, (count, 1))
    points = half_disc(BOX)
    plane = plane_coordinates(points, BOX).numpy().astype(np.float64)
    freqs = plane / sizes[:, None, None]
    params = CTFParameters.from_columns(torch.from_numpy(optics.astype(np.float32)))
    ctf = contrast_transfer(torch.from_numpy(freqs[..., :2].astype(np.float32)), params).numpy()
    spectrum = -ctf * _structure(freqs @ rotations)
    values = torch.view_as_real(torch.from_numpy(spectrum.astype(np.complex64)))
    images = images_from_disc(values, points, box=BOX).numpy()
    noise = generator.standard_normal(images.shape) * images.std() * 2
    images = (images + noise).astype(np.float32)
    table = particle_table(path, images, rotations, np.zeros((count, 2)), ctf=optics)
    return table.with_columns({"pixel_size_angstrom": sizes})


def test_two_pixel_sizes_make_one_map_as_good_as_one_does(tmp_path, monkeypatch, caplog):
    ticks = np.arange(-(BOX // 2), BOX // 2) / (BOX * FINE)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    freqs = np.stack([x, y, z], axis=-1)
    transform = torch.from_numpy(_structure(freqs).astype(np.complex64))
    truth = ifft_centred(transform, ndim=3).real
    count = 2000
    sizes = np.where(np.arange(count) % 4 < 2, FINE, COARSE)  # in both halves

    def fsc(table):
        made = back_project(table, BackprojectionOptions())
        assert made.resolution.pixel_size_angstrom == FINE
        curve = shell_correlation(truth, torch.from_numpy(made.full))
        return curve[3 : int(BOX / 2 * FINE / COARSE)].numpy()  # where both groups have points

    one = fsc(_two_scales(tmp_path / "one.mrcs", np.full(count, FINE)))
    mixed = _two_scales(tmp_path / "mixed.mrcs", sizes)
    with caplog.at_level("INFO"):
        two = fsc(mixed)
    assert "3 Å (1,000 particles); 3.4 Å (1,000 particles)" in caplog.text
    monkeypatch.setattr(
        "raydrgn.inputs.insertion.pixel_size_factors",
        lambda table, _: np.ones(len(table), np.float32),
    )
    unmodelled = fsc(mixed)
    assert one.min() > 0.9
    assert (two > one - 0.01).all()
    # measured: 0.94 at the last of these shells, and 0.69 where the groups are taken as one
    assert (1 - unmodelled > 3 * (1 - two)).all()


def test_a_class_of_another_optics_group_has_the_map_of_all(tmp_path):
    count = 1200
    sizes = np.where(np.arange(count) % 3 < 2, FINE, COARSE)
    every = with_frame(_two_scales(tmp_path / "images.mrcs", sizes))
    maps = [
        torch.from_numpy(back_project(every.select(rows), BackprojectionOptions()).full)
        for rows in (np.arange(count), np.flatnonzero(sizes == COARSE))
    ]
    # measured: 0.966, and 0.600 where each map has the scale of its own particles
    assert shell_correlation(*maps)[1:11].min() > 0.95


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking takes minutes and finds the smallest box
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**31),
    box=st.sampled_from([24, 28, 32]),
    small=st.sampled_from([12, 14, 16, 20]),
    pixel_size=st.floats(4.0, 7.0),
    other=st.floats(0.97, 1.03),
    in_angstrom=st.booleans(),
)
def test_a_map_stays_where_it_is_through_parsing_and_downsampling(
    seed, box, small, pixel_size, other, in_angstrom, tmp_path
):
    generator = np.random.default_rng(seed)
    count = 200
    rotations = random_rotations(count, generator=generator)
    shifts = generator.uniform(-2.5, 2.5, (count, 2))
    groups = generator.integers(0, 2, count)
    group_sizes = np.array([pixel_size, pixel_size * other])
    folder = tmp_path / str(seed)
    folder.mkdir(exist_ok=True)
    stack = folder / "particles.mrcs"
    write_images(
        stack, _blob_images(rotations, shifts, group_sizes[groups], box), pixel_size=pixel_size
    )
    star = folder / "particles.star"
    _write_star(star, stack, rotations, shifts, groups, group_sizes, box, in_angstrom=in_angstrom)
    place, size = _place_angstrom(star)
    assert np.abs(place - POINT_ANGSTROM).max() < 0.1 * size
    table = open_particles(ParticleSource(particles=str(star)))
    options = DownsamplingOptions(out=str(folder / "small.star"), box=small, overwrite=True)
    downsample(table, options)
    moved, new_size = _place_angstrom(folder / "small.star")
    assert new_size == pytest.approx(size * box / small, rel=1e-5)
    assert np.abs(moved - place).max() < 0.1 * size
