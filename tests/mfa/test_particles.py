"""What is estimated of each particle: contrast, junk, shift and rotation."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from raydrgn.geometry.lattice import half_disc
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.particles import ParticleEstimates, ParticlePriors, composed, rotation_matrices
from raydrgn.mfa.poses import ShiftGrid, estimate_rotations, shifted_back
from raydrgn.mfa.posterior import ImageProducts, image_posterior
from raydrgn.mfa.update import rotation_sd

CPU = torch.device("cpu")


def products(mean_power: float, image: float, *, null_evidence: float = 0.0) -> ImageProducts:
    """Products of an image with a mean and one component that does not matter."""
    return ImageProducts(
        gram=torch.tensor([[[mean_power, 0.0], [0.0, 1e-9]]]),
        image=torch.tensor([[image, 0.0]]),
        power=torch.tensor([0.0]),
        uncertainty=torch.zeros(1, 1),
        null_evidence=torch.tensor([null_evidence]),
    )


@pytest.mark.parametrize("sd", [0.1, 0.3])
def test_the_contrast_is_its_posterior_mean(sd):
    power, image = 60.0, 72.0
    found = image_posterior(
        products(power, image),
        Mixture.standard_normal(1, device=CPU),
        ParticlePriors(contrast_sd=sd),
        has_contrast=True,
        has_null_class=False,
    )
    precision = power + 1 / sd**2
    assert float(found.contrast) == pytest.approx((image + 1 / sd**2) / precision, abs=1e-3)

    def density(a):
        return math.exp(image * a - 0.5 * power * a * a) * norm.pdf(a, 1, sd)

    assert float(found.log_evidence) == pytest.approx(math.log(quad(density, -1, 3)[0]), abs=5e-3)


@pytest.mark.parametrize("cross", [-25.0, 0.0, 25.0])
def test_contrast_and_latent_are_the_integrals_where_the_component_is_like_the_mean(cross):
    """As of a state with more or less of the same density."""
    sd, gram = 0.3, np.array([[60.0, cross], [cross, 20.0]])
    image = gram @ [1.4, 1.4 * 0.8]  # of contrast 1.4 and latent 0.8
    given = products(0.0, 0.0)._replace(
        gram=torch.tensor(gram[None]).float(), image=torch.tensor(image[None]).float()
    )
    found = image_posterior(
        given,
        Mixture.standard_normal(1, device=CPU),
        ParticlePriors(contrast_sd=sd),
        has_contrast=True,
        has_null_class=False,
    )
    a, z = np.meshgrid(np.linspace(0, 3, 1001), np.linspace(-5, 5, 1001), indexing="ij")
    both = np.stack([a, a * z])
    fit = np.tensordot(image, both, 1) - 0.5 * np.einsum("kij,kl,lij->ij", both, gram, both)
    density = np.exp(fit - fit.max()) * norm.pdf(a, 1, sd) * norm.pdf(z)
    evidence = density.sum()
    log_evidence = math.log(evidence * 0.003 * 0.01) + fit.max()
    assert float(found.log_evidence) == pytest.approx(log_evidence, abs=0.02)
    assert float(found.contrast) == pytest.approx((a * density).sum() / evidence, abs=0.01)
    assert float(found.latent) == pytest.approx((z * density).sum() / evidence, abs=0.02)


def test_an_image_without_signal_is_junk_and_one_with_signal_is_not():
    mixture, priors = Mixture.standard_normal(1, device=CPU), ParticlePriors(null_share=0.1)
    for image, is_junk in ((0.0, True), (40.0, False)):
        found = image_posterior(
            products(40.0, image), mixture, priors, has_contrast=False, has_null_class=True
        )
        assert (float(found.null_probability) > 0.99) is is_junk
        assert (float(found.first.abs().sum()) < 0.05) is is_junk
    strong = products(40.0, 40.0, null_evidence=200.0)  # much power, as of a carbon edge
    found = image_posterior(strong, mixture, priors, has_contrast=False, has_null_class=True)
    assert float(found.null_probability) > 0.99


def test_junk_has_the_latent_of_the_prior():
    mixture, priors = Mixture.standard_normal(1, device=CPU), ParticlePriors(null_share=0.1)
    seen = products(40.0, 40.0)._replace(
        gram=torch.tensor([[[40.0, 0.0], [0.0, 20.0]]]), image=torch.tensor([[40.0, 40.0]])
    )
    for null_evidence, latent, variance in ((0.0, 40 / 21, 1 / 21), (300.0, 0.0, 1.0)):
        given = seen._replace(null_evidence=torch.tensor([null_evidence]))
        found = image_posterior(given, mixture, priors, has_contrast=False, has_null_class=True)
        mean, spread = found.moments()
        assert float(mean) == pytest.approx(latent, abs=1e-3)
        assert float(spread) == pytest.approx(variance, abs=1e-3)


def test_rotation_vectors_are_those_of_scipy():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 0.6, (2, 20, 3))
    one, two = (torch.from_numpy(v).float() for v in (first, second))
    matrices = rotation_matrices(one)
    np.testing.assert_allclose(matrices, Rotation.from_rotvec(first).as_matrix(), atol=1e-5)
    both = Rotation.from_rotvec(second) * Rotation.from_rotvec(first)
    np.testing.assert_allclose(composed(two, one), both.as_rotvec(), atol=1e-4)
    zero = torch.zeros(20, 3)
    torch.testing.assert_close(composed(zero, one), one, atol=1e-5, rtol=1e-4)


def test_estimates_are_the_same_after_a_table():
    torch.manual_seed(0)
    estimates = ParticleEstimates(
        torch.rand(5), torch.rand(5), torch.randn(5, 2), torch.randn(5, 3)
    )
    again = ParticleEstimates.from_table(estimates.to_table(), device=CPU)
    for name in ("contrast", "null_probability", "shifts_px", "rotations"):
        assert torch.equal(getattr(again, name), getattr(estimates, name))


def smooth_image(points: torch.Tensor, box: int) -> torch.Tensor:
    """Return the coefficients of a few Gaussians, in units of a weak noise."""
    k = points / box
    value = sum(
        w * torch.exp(-2 * (torch.pi * s * k.norm(dim=1)) ** 2 - 2j * torch.pi * (k @ c))
        for w, s, c in (
            (9.0, 1.2, torch.tensor([2.0, -3.0])),
            (6.0, 0.9, torch.tensor([-4.0, 1.0])),
        )
    )
    return torch.view_as_real(value)


def test_a_shift_is_found_and_taken_back():
    box = 32
    points = half_disc(box).float()
    points = points[points.norm(dim=1) < box / 2]
    centred = smooth_image(points, box)
    shift = torch.tensor([[0.6, -0.35]])
    seen = shifted_back(centred[None], points, -shift, box)
    torch.testing.assert_close(shifted_back(seen, points, shift, box)[0], centred)
    grid, priors = ShiftGrid(points, box, sd_px=1.0), ParticlePriors(shift_sd_px=1.0)
    last = torch.zeros(1, 2)
    for _ in range(3):
        remaining = shifted_back(seen, points, last, box)
        last = last + grid.estimate(remaining, centred[None], last, priors).change
    torch.testing.assert_close(last, shift, atol=0.13, rtol=0)  # half a step of the grid


def test_rotations_come_nearer_to_the_truth():
    torch.manual_seed(0)
    directions = torch.randn(400, 3)

    def view(rotations):  # a linear picture of the frame, as slices are for small rotations
        return torch.sin((directions @ rotations.mT)[..., :2]).flatten(1) * 8

    truth = 0.06 * torch.randn(10, 3)
    seen = view(rotation_matrices(truth))
    found = torch.zeros(10, 3)
    for _ in range(6):  # of which each goes half of what is left
        now = rotation_matrices(found)
        columns = []
        for axis in 1e-2 * torch.eye(3):
            ahead, behind = (view(rotation_matrices(s * axis.expand(10, 3)) @ now) for s in (1, -1))
            columns.append((ahead - behind) / 2e-2)
        jacobian = torch.stack(columns, dim=-1)
        step = estimate_rotations(
            seen - view(now), jacobian, found, ParticlePriors(), shared=torch.zeros(10, 3, 3)
        )
        found = step.rotations
    left = composed(truth, -found).norm(dim=1)
    assert left.max() < 0.2 * truth.norm(dim=1).mean()


@pytest.mark.parametrize("spread", [0.02, 0.0])
def test_the_spread_of_rotations_is_found_in_one_step(spread):
    """By the likelihood of weak images, of which each has a rotation uncertain by 0.02."""
    torch.manual_seed(0)
    count, dim = 4000, 60
    truth = spread * torch.randn(count, 3)
    latent, noise = torch.randn(count, 1), 0.5**0.5 * torch.randn(count, dim)
    jacobian = 50 / (2 * dim) ** 0.5 * torch.randn(count, dim, 3)
    component = jacobian[..., :1] / 60 + 0.1 * torch.randn(count, dim, 1)  # much like a rotation
    seen = noise + (jacobian @ truth[..., None] + component @ latent[..., None])[..., 0]
    covariance = 1 / (1 + 2 * component.square().sum(1))[..., None]
    expected = covariance * 2 * (component.mT @ seen[..., None])
    cross = 2 * jacobian.mT @ component
    found = estimate_rotations(
        seen - (component @ expected)[..., 0],
        jacobian,
        torch.zeros(count, 3),
        ParticlePriors(),
        shared=cross @ covariance @ cross.mT,
    )
    sd = rotation_sd(found.evidence.double().sum(0), least=0.02 * count)
    assert sd == pytest.approx(spread, rel=0.1)
