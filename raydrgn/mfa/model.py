"""The state of a fit: mean and components, noise, prior spectra, mixture; and its tensors."""

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from raydrgn.mfa.config import WEAK
from raydrgn.mfa.mixture import Mixture
from raydrgn.mfa.particles import ParticlePriors
from raydrgn.shapes import Bool, Float

DECODER = "decoder."
FIT = "mfa."


def with_density(volumes: Float[Tensor, "k1 ..."]) -> Bool[Tensor, " k"]:
    """Return which components have density: ``WEAK`` of the strongest one's, or more.

    Args:
        volumes: The mean, and the components.
    """
    norms = volumes[1:].flatten(1).norm(dim=1)
    return (norms >= WEAK * norms.max()) & (norms > 0)


@dataclass(frozen=True, slots=True)
class FactorModel:
    """A mixture of factor analysers over volumes; each update makes a new one.

    Slices of the volumes are in the units of prepared images; so are noise and spectra. Latents
    have covariance 1.
    """

    volumes: Float[Tensor, "k1 d d d"]
    """The mean, then the components, the strongest first."""

    support: Float[Tensor, "d d d"]
    """Mask: 1 where there may be density, 0 where there is none."""

    noise: Float[Tensor, "groups shells"]
    """Variance E|ε|² of an image's coefficients by optics group and Fourier shell."""

    null_noise: Float[Tensor, "groups shells"]
    """The same of images that show nothing, which ice and carbon edges may make stronger."""

    mean_power: Float[Tensor, " shells"]
    """Prior variance of the coefficients of the mean."""

    component_power: Float[Tensor, "k shells"]
    """Prior variance of the coefficients of each component."""

    mixture: Mixture
    priors: ParticlePriors
    signal: float = 1.0
    """Mean E[a²] over all images, those of nothing with 0."""

    evidence: float = 0.0
    """Mean logarithm of the images' probability as particles over that as noise, nats.

    It is that by the mean of other particles. Each image counts by how likely it shows one.
    """

    @property
    def box(self) -> int:
        """Pixels along each edge."""
        return self.volumes.shape[-1]

    @property
    def num_components(self) -> int:
        """Dimensions of the latent."""
        return len(self.volumes) - 1

    def of_groups(self, count: int) -> "FactorModel":
        """Return the model with noise of each of some optics groups.

        Fits of earlier versions have one row of noise, which is then that of all groups.
        """
        if len(self.noise) == count or len(self.noise) != 1:
            return self
        return replace(
            self,
            noise=self.noise.repeat(count, 1),
            null_noise=self.null_noise.repeat(count, 1),
        )

    def latent_scale(self) -> Float[Tensor, " k"]:
        """Return the factor by which latents are given out: distances are those of volumes.

        The norm of each component over that of the strongest.
        """
        norms = self.volumes[1:].flatten(1).norm(dim=1)
        return norms / norms.max().clamp(min=1e-12)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all of the model, of the volumes only what the mask lets through."""
        voxels = self.support.flatten().nonzero()[:, 0]
        priors = list(asdict(self.priors).values())
        scale = self.latent_scale()
        tensors = {
            f"{DECODER}voxels": voxels.int(),
            f"{DECODER}volumes": self.volumes.flatten(1)[:, voxels],
            f"{DECODER}latent_scale": torch.where(scale > 0, scale, 1.0),
            f"{FIT}support": self.support.flatten()[voxels],
            f"{FIT}noise": self.noise,
            f"{FIT}null_noise": self.null_noise,
            f"{FIT}mean_power": self.mean_power,
            f"{FIT}component_power": self.component_power,
            f"{FIT}mixture_weights": self.mixture.weights,
            f"{FIT}mixture_means": self.mixture.means,
            f"{FIT}mixture_covariance": self.mixture.covariance,
            f"{FIT}priors": torch.tensor(
                [*priors, self.signal, self.evidence], dtype=torch.float64
            ),
        }
        return {name: value.detach().cpu() for name, value in tensors.items()}

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], *, box: int, device: torch.device
    ) -> "FactorModel":
        """Rebuild what ``to_tensors`` gave."""
        at = {name: value.to(device) for name, value in tensors.items()}
        voxels = at[f"{DECODER}voxels"].long()
        kept = at[f"{DECODER}volumes"]
        volumes = torch.zeros(len(kept), box**3, device=device)
        volumes[:, voxels] = kept
        support = torch.zeros(box**3, device=device)
        support[voxels] = at[f"{FIT}support"]
        *priors, signal, evidence = tensors[f"{FIT}priors"].tolist()
        return cls(
            volumes.view(-1, box, box, box),
            support.view(box, box, box),
            at[f"{FIT}noise"].view(-1, box // 2 + 1),
            at[f"{FIT}null_noise"].view(-1, box // 2 + 1),
            at[f"{FIT}mean_power"],
            at[f"{FIT}component_power"],
            Mixture(
                at[f"{FIT}mixture_weights"],
                at[f"{FIT}mixture_means"],
                at[f"{FIT}mixture_covariance"],
            ),
            ParticlePriors(*priors),
            signal,
            evidence,
        )
