"""Particle images as one picture: which, in what order, and how they are filtered."""

import numpy as np
import pytest
import torch

from finished_run import make_run
from phantoms import write_mrc
from raydrgn.data.particle_images import clear_images, read_images
from raydrgn.errors import ConfigError, InputError, StorageError
from raydrgn.fourier.transforms import fft_centred
from raydrgn.inputs.montage import draw_montage
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.sources import open_particles
from raydrgn.simulation.dataset import Simulation, simulate
from raydrgn.workflows import montage as workflow
from raydrgn.workflows import select
from raydrgn.workflows.montage import MontageSettings
from raydrgn.workflows.select import SelectRandomSettings

COUNT = 30


@pytest.fixture(scope="module")
def star(tmp_path_factory):
    folder = tmp_path_factory.mktemp("montage")
    simulate(str(folder), Simulation(num_particles=COUNT, box=16, snr=5.0, seed=5))
    return str(folder / "particles.star")


@pytest.fixture(scope="module")
def table(star):
    return open_particles(ParticleSource(particles=star))


def drawn(star, tmp_path, **given):
    out = str(tmp_path / "montage.png")
    made = workflow.run(MontageSettings(particles=star, out=out, **given))
    assert (tmp_path / "montage.png").stat().st_size > 1000
    return made


def tiles(figure):
    """Return the images that a figure shows, and their titles."""
    [axis] = figure.axes
    images = np.stack([np.asarray(image.get_array()) for image in axis.images])
    return images, [text.get_text() for text in axis.texts if text.get_ha() == "center"]


def test_the_particles_are_those_that_select_random_draws(star, tmp_path):
    made = drawn(star, tmp_path, number=12)
    assert made.num_particles == COUNT
    drawn_again = select.run_random(
        SelectRandomSettings(particles=star, number=12, out=str(tmp_path / "ind.pkl"))
    )
    np.testing.assert_array_equal(made.numbers, drawn_again.numbers)


def test_a_selection_is_shown_in_its_order(star, tmp_path):
    (tmp_path / "ind.txt").write_text("7\n3\n29\n")
    assert drawn(star, tmp_path, ind=str(tmp_path / "ind.txt")).numbers.tolist() == [7, 3, 29]


def test_all_images_have_one_grey_scale_and_their_numbers(table):
    chosen = table.select(np.array([4, 17, 9]))
    figure = draw_montage(chosen, as_recorded=True, bright=True)
    images, titles = tiles(figure)
    assert titles == ["4", "17", "9"]
    np.testing.assert_array_equal(images, read_images(table, np.array([4, 17, 9])))
    limits = {image.get_clim() for image in figure.axes[0].images}
    assert limits == {tuple(np.percentile(images, [0.5, 99.5]).tolist())}


def test_filtered_images_have_no_frequency_beyond_the_resolution_and_flipped_phases(table):
    resolution = 6.0 * float(table.column("pixel_size_angstrom")[0])
    figure = draw_montage(table, as_recorded=False, bright=True, resolution_angstrom=resolution)
    images, _ = tiles(figure)
    every = np.arange(COUNT)
    expected = clear_images(
        read_images(table, every), table, bright=True, resolution_angstrom=resolution
    )
    np.testing.assert_allclose(images, expected, atol=1e-6)
    power = fft_centred(torch.from_numpy(images), ndim=2).abs().square().mean(dim=0)
    ticks = np.arange(-8, 8) / 16
    radius = np.hypot(*np.meshgrid(ticks, ticks))
    assert power[radius > 1 / 6 + 1e-6].max() < 1e-6 * power.max()
    assert power[radius <= 1 / 6].min() > 1e-6 * power.max()


def test_particles_are_bright_whatever_they_are_on_disk(table):
    for bright in (True, False):
        images, _ = tiles(draw_montage(table, as_recorded=False, bright=bright))
        mean = images.mean(axis=0)
        is_brighter = mean[6:10, 6:10].mean() > np.r_[mean[0], mean[-1]].mean()
        assert is_brighter == bright  # the images are bright on disk


def test_a_run_shows_its_own_particles_under_their_original_numbers(table, tmp_path):
    own = table.select(np.arange(1, COUNT, 2))
    run = make_run(tmp_path / "run", np.zeros((len(own), 2)), box=16, table=own)
    (tmp_path / "ind.txt").write_text("5\n3\n")
    assert drawn(run.root, tmp_path, ind=str(tmp_path / "ind.txt")).numbers.tolist() == [5, 3]
    with pytest.raises(ConfigError, match="has its own CTF"):
        drawn(run.root, tmp_path, ctf="ctf.pkl")


def test_a_stack_without_a_pixel_size_is_filtered_by_pixels_only(tmp_path):
    noise = np.random.default_rng(0).normal(size=(4, 16, 16)).astype(np.float32)
    stack = write_mrc(tmp_path / "stack.mrcs", noise, pixel_size=0.0)
    made = drawn(stack, tmp_path)
    assert not made.flips_phases
    with pytest.raises(ConfigError, match="the pixel size is not known"):
        drawn(stack, tmp_path, low_pass_angstrom=10.0)


def test_images_of_several_sizes_and_outputs_in_the_place_of_inputs_are_refused(
    star, table, tmp_path
):
    sizes = np.where(np.arange(COUNT) < 5, 16, 18)
    mixed: ParticleTable = table.with_columns({"box": sizes})
    with pytest.raises(InputError, match="differ in size"):
        draw_montage(mixed, as_recorded=True, bright=True)
    with pytest.raises(ConfigError, match=r"should end in \.png, \.svg or \.pdf"):
        MontageSettings(particles=star, out=star)
    with pytest.raises(ConfigError, match="leave out --low-pass, or --raw"):
        MontageSettings(particles=star, out="m.png", raw=True, low_pass_angstrom=10.0)
    picture = str(tmp_path / "p.png")
    with pytest.raises((StorageError, ConfigError)):
        workflow.run(MontageSettings(particles=picture, out=picture))
