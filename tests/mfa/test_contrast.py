"""Contrasts of particles: of any signal, and not those of what the particles are made of."""

import glob
import math

import numpy as np
import pytest
import torch

import plain_em
from raydrgn.io.mrc import read_volume
from raydrgn.mfa.contrast import SHARE, contrast_mean, contrast_sd, contrast_slope
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.particles import ParticlePriors
from raydrgn.mfa.posterior import ImageProducts, image_posterior
from raydrgn.mfa.sums import Sums
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation


@pytest.mark.parametrize("power", [3.0, 30.0, 300.0, 10_000.0])
def test_contrasts_are_found_at_any_signal(power):
    count, sd = 4000, 0.3
    generator = torch.Generator().manual_seed(0)
    contrast = 1 + sd * torch.randn(count, generator=generator)
    image = torch.zeros(count, 2)
    image[:, 0] = contrast * power + math.sqrt(power) * torch.randn(count, generator=generator)
    gram = torch.zeros(count, 2, 2)
    gram[:, 0, 0] = power
    none = torch.zeros(count)
    products = ImageProducts(gram, image, none, none[:, None], none)
    priors = ParticlePriors(contrast_sd=sd)
    mixture = Mixture.standard_normal(1, device=torch.device("cpu"))
    found = image_posterior(products, mixture, priors, has_contrast=True, has_null_class=False)
    determined = power + 1 / sd**2
    exact = (image[:, 0] + 1 / sd**2) / determined
    off = (found.contrast - exact)[exact > 0.5]  # contrasts are no less than 0
    assert float(off.square().mean().sqrt()) < 0.1 / math.sqrt(determined)
    spread = (found.square_contrast - found.contrast.square()).double().mean().sqrt()
    assert float(spread) == pytest.approx(determined**-0.5, rel=0.05)
    # so that the width, when it is estimated of these, stays
    width = found.square_contrast.mean() / found.contrast.mean() ** 2 - 1
    assert math.sqrt(float(width)) == pytest.approx(sd, rel=0.05)


def test_junk_is_empty_or_a_contaminant_by_their_shares():
    evidence = torch.tensor([-2.0, 0.0, 3.0])  # as ice or carbon, over noise alone
    none = torch.zeros(3)
    products = ImageProducts(torch.zeros(3, 2, 2), torch.zeros(3, 2), none, none[:, None], evidence)
    priors = ParticlePriors(null_share=0.2, empty_share=0.3)
    mixture = Mixture.standard_normal(1, device=torch.device("cpu"))
    found = image_posterior(products, mixture, priors, has_contrast=False, has_null_class=True)
    contaminated, empty, particle = 0.2 * 0.7 * evidence.exp(), 0.2 * 0.3, 0.8  # Bayes
    total = contaminated + empty + particle
    torch.testing.assert_close(found.null_probability, (contaminated + empty) / total)
    torch.testing.assert_close(found.contaminant_probability, contaminated / total)
    torch.testing.assert_close(found.log_evidence, total.log())


def test_what_goes_with_the_latent_is_told_from_what_is_of_the_contrast_alone():
    count, slope, own = 200_000, torch.tensor([0.2, -0.1]).double(), 0.15
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    spread = torch.tensor([[1.2, 0.0], [0.5, 0.7]]).double()
    away = normal(count, 2) @ spread.T
    z = torch.tensor([0.4, -0.8]).double() + away
    contrast = 0.9 * (1 + away @ slope + own * normal(count))
    sums = Sums.zero(torch.zeros(1, 1, 1, 6), num_components=2, num_shells=1, num_groups=1)
    sums.latent += z.sum(0)
    sums.square += z.T @ z
    sums.contrast_latent += contrast @ z
    sums.add(likely=torch.ones(count), contrast=contrast, square_contrast=contrast.square())
    assert contrast_mean(sums) == pytest.approx(0.9, abs=0.005)
    torch.testing.assert_close(contrast_slope(sums), SHARE * slope, atol=0.005, rtol=0)
    # What the components are not given of the slope is still seen as contrast.
    left = float((1 - SHARE) * (slope @ spread).norm())
    assert contrast_sd(sums) == pytest.approx(math.hypot(own, left), abs=0.003)


def test_less_density_is_not_taken_for_less_contrast(tmp_path):
    """Seven states with 33 to 100 % of the density, all of one contrast."""
    simulate(str(tmp_path), Simulation(num_particles=1000, box=32, snr=0.3, seed=1))
    run = plain_em.prepare(tmp_path / "particles.star", tmp_path / "run", resources__cpus=1)
    assert plain_em.fit(run)
    opened = open_run(str(tmp_path / "run"))
    epoch = opened.epoch(None)
    labels = np.load(tmp_path / "truth" / "labels.npy")
    contrast, z = opened.estimates(epoch)["contrast"], opened.latents(epoch)
    files = sorted(glob.glob(f"{tmp_path}/truth/vol_*.mrc"))
    truth = [read_volume(file)[0] for file in files]
    decoder = opened.decoder(epoch).build(torch.device("cpu"))
    scales = []
    for state in range(7):
        rows = labels == state
        if rows.sum() < 50:  # the rare state
            continue
        assert contrast[rows].mean() == pytest.approx(1, abs=0.05)
        [decoded] = opened.decoder(epoch).volumes(decoder, z[rows].mean(0)[None]).numpy()
        true = truth[state] - truth[state].mean()
        scales.append(float((decoded * true).sum() / np.square(true).sum()))
    assert max(scales) / min(scales) < 1.25  # 1.6 where contrasts took the composition


@pytest.mark.parametrize("components", [1, 6])
def test_a_fit_to_few_images_stays_finite(tmp_path, components):
    simulate(str(tmp_path), Simulation(num_particles=60, box=32, snr=0.3, seed=1))
    given = {**plain_em.SMALL, "mfa__components": components}
    run = plain_em.prepare(tmp_path / "particles.star", tmp_path / "run", **given)
    assert plain_em.fit(run)
    opened = open_run(str(tmp_path / "run"))
    assert opened.losses()[-1]["reconstruction"] == pytest.approx(1, abs=0.1)
    assert np.linalg.norm(opened.latents(opened.epoch(None))) < 1e3
