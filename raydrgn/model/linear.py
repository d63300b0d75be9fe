"""A decoder without a network: the mean volume and K components, each times a latent coordinate."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from raydrgn.fourier.resample import resample
from raydrgn.shapes import Float, Int


class LinearDecoder(nn.Module):
    """V(z) = V₀ + Σ_k (z_k / s_k) V_k at the voxels of a mask, 0 elsewhere.

    ``s`` is the scale at which latents are given out, so that distances of latents are those of
    volumes.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, box: int) -> None:
        """Take the tensors ``voxels``, ``volumes`` and ``latent_scale`` of a run's weights."""
        super().__init__()
        self._box = box
        self._voxels: Int[Tensor, " v"]
        self._volumes: Float[Tensor, "k1 v"]
        self._scale: Float[Tensor, " k"]
        self.register_buffer("_voxels", tensors["voxels"].long())
        self.register_buffer("_volumes", tensors["volumes"].float())
        self.register_buffer("_scale", tensors["latent_scale"].float())
        self._small: dict[int, Float[Tensor, "k1 d d d"]] = {}

    @property
    def device(self) -> torch.device:
        """Where the volumes are."""
        return self._volumes.device

    @torch.inference_mode()
    def volumes(
        self, z: Float[Tensor, "b zdim"], *, small_box: int | None = None
    ) -> Float[Tensor, "b d d d"]:
        """Return the volumes of latents, in a smaller box if one is given."""
        coordinates = torch.cat([torch.ones_like(z[:, :1]), z / self._scale], dim=1)
        if small_box is not None and small_box != self._box:
            return torch.tensordot(coordinates, self._resampled(small_box), dims=1)
        out = z.new_zeros(len(z), self._box**3)
        out[:, self._voxels] = coordinates @ self._volumes
        return out.view(-1, *[self._box] * 3)

    def _resampled(self, box: int) -> Float[Tensor, "k1 d d d"]:
        """Return mean and components in a smaller box; made once, one by one."""
        if box not in self._small:
            made = []
            for values in self._volumes:
                whole = values.new_zeros(self._box**3)
                whole[self._voxels] = values
                made.append(resample(whole.view(*[self._box] * 3), box=box, ndim=3))
            self._small[box] = torch.stack(made)
        return self._small[box]
