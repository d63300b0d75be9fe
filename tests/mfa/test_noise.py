"""Noise of optics groups: small ones, and images that show nothing at high frequency."""

import mrcfile
import numpy as np
import pytest
import torch

import plain_em
from raydrgn.evaluation.evaluation import evaluate
from raydrgn.mfa.concerns import unobserved_note
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.model import FactorModel
from raydrgn.mfa.noise import UNOBSERVED, first_noise, observed, with_noise
from raydrgn.mfa.particles import ParticlePriors
from raydrgn.mfa.sums import Sums
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

BOX = 24
POINTS = torch.tensor([4, 12, 20, 30, 40, 50])
SHELLS = torch.repeat_interleave(torch.arange(len(POINTS)), POINTS)


def added(powers, counts, noise):
    """Return the sums over images of groups, of some power by shell, in units of a noise."""
    grid = torch.zeros(1, 1, 1, 2)
    sums = Sums.zero(grid, num_components=1, num_shells=len(POINTS), num_groups=len(counts))
    for group, (power, count) in enumerate(zip(powers, counts, strict=True)):
        square = (torch.tensor(power) / noise[group])[SHELLS].expand(count, -1)
        sums.add_residuals(square, SHELLS, torch.full((count,), group), torch.ones(count))
    return sums


def model_of(noise):
    volumes = torch.zeros(2, 10, 10, 10)
    mixture = Mixture.standard_normal(1, device=torch.device("cpu"))
    row = torch.ones(len(POINTS))
    return FactorModel(volumes, volumes[0], noise, noise, row, row[None], mixture, ParticlePriors())


def test_a_small_group_has_the_shape_of_all_at_its_own_scale_however_often_it_is_estimated():
    large, small = [1.0, 1.0, 2.0, 2.0, 1.0, 1.0], [12.0, 12.0, 12.0, 12.0, 12.0, 12.0]
    model, known = model_of(torch.ones(2, len(POINTS))), torch.arange(len(POINTS)) > 0
    for _ in range(30):
        sums = added([large, small], [990, 1], model.noise)
        model = with_noise(model, sums, POINTS, known)
    assert model.noise[0].numpy() == pytest.approx(np.array(large), rel=0.01)
    ratio = float(model.noise[1, 3] / model.noise[1, 5])
    assert 1.6 < ratio < 2  # of its own it would be 1
    mean = float(model.noise[1] @ POINTS.float() / POINTS.sum())
    assert mean == pytest.approx(12, rel=0.1)


def test_shells_without_power_are_not_observed_and_stay_so():
    power = [1.0, 1.0, 1.0, 1.0, 0.02, 0.001]
    ones = torch.ones(2, len(POINTS))
    sums = added([[1.0] * 6, power], [50, 5], ones)
    noise = first_noise(sums, POINTS)
    assert observed(noise).tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert noise[observed(noise)].numpy() == pytest.approx(1, rel=0.01)
    model = model_of(noise)
    sums = added([[1.0] * 6, power], [50, 5], noise)
    sums.contaminants[:] = torch.tensor([10.0, 10.0])
    sums.null_power += 20 * 2.0 * POINTS * torch.tensor([1, 1, 1, 1, 0.5, 0.5])
    changed = with_noise(model, sums, POINTS, torch.arange(6) > 0)
    assert (changed.noise[1, 4:] == UNOBSERVED).all()
    assert changed.noise[0].numpy() == pytest.approx(1, rel=0.01)
    # Of junk, what only one group shows is a mean over that group alone.
    assert changed.null_noise[0].numpy() == pytest.approx(2, rel=0.01)
    assert torch.equal(changed.null_noise[1, 4:], changed.noise[1, 4:])


@pytest.fixture(scope="module")
def fsc_of(tmp_path_factory):
    """Fit images as simulated, and with some of them low-passed; give the FSC to the truth."""
    folder = tmp_path_factory.mktemp("low_pass")
    simulation = Simulation(num_particles=900, box=BOX, snr=0.4, seed=3)
    table = simulate(str(folder), simulation)
    with mrcfile.open(folder / "particles.mrcs", permissive=True) as stack:
        images = stack.data.copy()
    freqs = np.hypot(np.fft.fftfreq(BOX)[:, None], np.fft.rfftfreq(BOX))
    low_passed = np.fft.irfft2(np.fft.rfft2(images) * (freqs < 0.34), s=(BOX, BOX))

    def fsc(name, is_low_passed):
        with mrcfile.open(folder / "particles.mrcs", mode="r+") as stack:
            stack.data[:] = np.where(is_low_passed[:, None, None], low_passed, images)
        groups = np.where(is_low_passed, "low", "all").astype(object)
        table.with_columns({"optics_group": groups}).write(str(folder / f"{name}.parquet"))
        values = {**plain_em.SMALL, "train__epochs": 4}
        run = plain_em.prepare(folder / f"{name}.parquet", folder / name, **values)
        assert plain_em.fit(run)
        return evaluate(open_run(str(folder / name)), str(folder / "truth")).fsc

    return fsc


def test_images_without_high_frequency_say_nothing_of_it(fsc_of):
    number = np.arange(900)
    whole = fsc_of("whole", number < 0)
    some = fsc_of("some", number % 3 == 0)
    everything = fsc_of("everything", number >= 0)
    assert some > whole - 0.015
    assert everything > 0.75 * whole  # of shells without anything are four in thirteen


def test_what_images_do_not_show_is_named():
    noise = torch.ones(2, 13)
    assert unobserved_note(noise, ["near", "far"]) is None
    noise[1, 9:] = UNOBSERVED
    assert "Images of optics group far show nothing above 0.67 of the Nyquist" in str(
        unobserved_note(noise, ["near", "far"])
    )
