"""Phase-flipped and premultiplied stacks: used as the raw stack is, and kept by `downsample`.

The changed stacks are made with NumPy from a simulated one, by the formula of the CTF.
"""

import numpy as np
import pytest
import torch

from phantoms import write_mrc
from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import prepared_blocks
from raydrgn.data.restoration import SMALLEST_CTF
from raydrgn.fourier.shells import shell_correlation
from raydrgn.geometry.lattice import half_disc
from raydrgn.inputs.backprojection import back_project
from raydrgn.inputs.downsampling import downsample
from raydrgn.inputs.options import BackprojectionOptions, DownsamplingOptions
from raydrgn.io.mrc import read_header, read_slices
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.relionwriter import write_relion
from raydrgn.io.sources import open_particles
from raydrgn.simulation.dataset import Simulation, simulate

BOX, COUNT = 32, 600
CHANGES = {
    "phase_flipped": lambda ctf: np.where(ctf < 0, -1.0, 1.0),
    "ctf_premultiplied": lambda ctf: ctf,
}


def spectra(images):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes)), axes)


def images_with(spectrum):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectrum, axes)), axes).real


def frequencies(pixel_size):
    ticks = np.fft.fftshift(np.fft.fftfreq(BOX)) / pixel_size
    return np.meshgrid(ticks, ticks)


def ctf_of(table):
    """The formula of the CTF in double precision, written with angles."""
    x, y = frequencies(table.column("pixel_size_angstrom")[0])
    s2, angle = x**2 + y**2, np.arctan2(y, x)

    def column(name):
        return table.column(name).astype(np.float64)[:, None, None]

    u, v = column("defocus_u_angstrom"), column("defocus_v_angstrom")
    axis, volts = np.deg2rad(column("defocus_angle_deg")), column("voltage_kv") * 1e3
    wavelength = 12.2639 / np.sqrt(volts + 0.97845e-6 * volts**2)
    cs, w = column("spherical_aberration_mm") * 1e7, column("amplitude_contrast")
    defocus = 0.5 * (u + v + (u - v) * np.cos(2 * (angle - axis)))
    gamma = 2 * np.pi * (-0.5 * defocus * wavelength * s2 + 0.25 * cs * wavelength**3 * s2**2)
    return np.sqrt(1 - w**2) * np.sin(gamma) - w * np.cos(gamma)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """The particle files of a raw stack and of both changed ones, by the column that says so."""
    folder = tmp_path_factory.mktemp("stacks")
    simulate(str(folder), Simulation(num_particles=COUNT, box=BOX, snr=0.5, seed=2))
    table = open_particles(ParticleSource(particles=str(folder / "particles.star")))
    header = read_header(table.stacks[0])
    # At Nyquist an astigmatic CTF has two values: such frequencies are left out of the comparison.
    x, y = frequencies(1.0)
    inside = np.maximum(abs(x), abs(y)) < 0.499
    raw = spectra(read_slices(header, 0, COUNT).astype(np.float64)) * inside
    ctf = ctf_of(table)
    found = {}
    for name, change in {"raw": np.ones_like, **CHANGES}.items():
        uri = folder / f"{name}.mrcs"
        write_mrc(
            uri,
            images_with(raw * change(ctf)).astype(np.float32),
            pixel_size=header.pixel_size_angstrom,
        )
        columns = {"stack": [str(uri)] * COUNT}
        if name in CHANGES:
            columns[name] = np.ones(COUNT, dtype=bool)
        write_relion(str(folder / f"{name}.star"), table.with_columns(columns))
        found[name] = str(folder / f"{name}.star")
    return found


def open_star(uri):
    return open_particles(ParticleSource(particles=uri))


@pytest.mark.parametrize("name", CHANGES)
def test_changed_images_are_trained_on_as_raw_ones_are(stacks, name):
    # A window would mix frequencies with those of small CTF, which are lost by multiplication.
    config = ImageConfig(box=BOX, window=False, scale=BOX)
    raw, changed = (
        np.concatenate([block.values for block in prepared_blocks(open_star(stacks[key]), config)])
        for key in ("raw", name)
    )
    points = half_disc(BOX).numpy()
    x, y = points.T
    ctf = ctf_of(open_star(stacks["raw"]))[:, y + BOX // 2, np.minimum(x, BOX // 2 - 1) + BOX // 2]
    compared = np.broadcast_to(np.abs(points).max(1) < BOX // 2, ctf.shape)
    lost = compared & (np.abs(ctf) < 0.98 * SMALLEST_CTF)
    if name == "ctf_premultiplied":
        assert np.abs(changed[lost]).max() < 1e-5
        compared = compared & (np.abs(ctf) > 1.02 * SMALLEST_CTF)
    assert compared.mean() > 0.8
    assert raw[compared].std() > 0.3
    np.testing.assert_allclose(changed[compared], raw[compared], atol=1e-3)


@pytest.mark.parametrize("name", CHANGES)
def test_changed_images_are_back_projected_as_raw_ones_are(stacks, name, caplog):
    with caplog.at_level("INFO"):
        raw, changed = (
            back_project(open_star(stacks[key]), BackprojectionOptions()).full
            for key in ("raw", name)
        )
    assert np.corrcoef(raw.ravel(), changed.ravel())[0, 1] > 0.999
    curve = shell_correlation(torch.from_numpy(raw), torch.from_numpy(changed))
    assert curve[1 : BOX // 2].min() > 0.99
    (line,) = (r.getMessage() for r in caplog.records if "undone" in r.getMessage())
    assert line.startswith(f"{COUNT} images ")


@pytest.mark.parametrize("name", CHANGES)
def test_a_smaller_stack_is_changed_as_the_large_one_was(stacks, name, tmp_path):
    """Cropping a spectrum leaves its values, and so what they were multiplied with."""
    small = {}
    for key in ("raw", name):
        out = str(tmp_path / f"{key}.star")
        downsample(open_star(stacks[key]), DownsamplingOptions(out=out, box=16))
        small[key] = open_star(out)
    assert small[name].column(name).all()
    assert name not in small["raw"].table.column_names
    stored = read_slices(read_header(small[name].stacks[0]), 0, COUNT)
    whole = read_slices(read_header(open_star(stacks[name]).stacks[0]), 0, COUNT)
    kept = slice(BOX // 2 - 7, BOX // 2 + 8)  # below the Nyquist frequency of the smaller box
    np.testing.assert_allclose(
        spectra(stored)[:, 1:, 1:], spectra(whole)[:, kept, kept], atol=2e-3 * BOX
    )
    config = ImageConfig(box=16, window=False, scale=16)
    raw, changed = (
        np.concatenate([block.values for block in prepared_blocks(small[key], config)])
        for key in ("raw", name)
    )
    agreement = np.corrcoef(raw.ravel(), changed.ravel())[0, 1]
    assert agreement > 0.99
