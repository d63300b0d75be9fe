"""A decoder apart from its run: what it takes to make volumes, small enough to ship to actors."""

import io
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raydrgn.errors import RunDirectoryError
from raydrgn.io import storage
from raydrgn.io.storage import Uri
from raydrgn.model.config import ModelConfig
from raydrgn.model.decoder import FourierDecoder, HartleyDecoder, build_decoder
from raydrgn.model.linear import LinearDecoder
from raydrgn.model.volume import decode_volumes, volume_type
from raydrgn.shapes import Float

PREFIX = "decoder."

SEVERAL_GPUS = "module."
"""Prefix of all names where cryoDRGN of 2022 trained with ``--multigpu``: DataParallel's own."""

REFUSED_NAME = re.compile(r"unsupported GLOBAL (\S+)|Unsupported global: GLOBAL (\S+)")
"""What torch writes of a function that a pickle would call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderState:
    """Weights of a decoder, and the scale of its volumes."""

    model: ModelConfig | None
    """Shape of the network; None for mean and components of a mixture of factor analysers."""

    box: int
    pixel_size_angstrom: float

    scale: float
    """SD that the images were divided by; volumes are multiplied by it."""

    offset: float
    """Mean that was subtracted from the Hartley values; 0 except in some runs of cryoDRGN."""

    corners: bool
    """Whether volumes include the cube's corners, as cryoDRGN's Hartley decoders do."""

    tensors: dict[str, torch.Tensor]

    run: Uri = ""
    """Run directory, by which metrics name the work with the decoder."""

    @property
    def zdim(self) -> int:
        """Dimension of the latents."""
        return self.model.zdim if self.model else len(self.tensors["latent_scale"])

    def build(self, device: torch.device) -> FourierDecoder | HartleyDecoder | LinearDecoder:
        """Return the decoder, ready to be evaluated.

        Raises:
            RunDirectoryError: If the weights are not those of the configuration.
        """
        if self.model is None:
            return LinearDecoder(self.tensors, box=self.box).to(device)
        decoder = build_decoder(self.model, self.box)
        try:
            decoder.load_state_dict(self.tensors)
        except RuntimeError as error:
            first = (str(error).splitlines()[1:2] or [str(error)])[0].strip().rstrip(".")
            raise RunDirectoryError(
                f"{self.run or 'The run'}: weights and configuration are not of one network "
                f"({first}). One of the two files is of another run; put back its own."
            ) from error
        return decoder.to(device).eval()

    def volumes(
        self,
        decoder: FourierDecoder | HartleyDecoder | LinearDecoder,
        z: Float[np.ndarray, "b zdim"],
        *,
        small_box: int | None = None,
    ) -> Float[torch.Tensor, "b d d d"]:
        """Return the volumes of latents, on the intensity scale of the images."""
        latents = torch.from_numpy(np.ascontiguousarray(z, dtype=np.float32))
        if isinstance(decoder, LinearDecoder):
            return self.scale * decoder.volumes(latents.to(decoder.device), small_box=small_box)
        latents = latents.to(next(decoder.parameters()).device)
        volumes = decode_volumes(
            decoder,
            latents,
            box=self.box,
            small_box=small_box,
            corners=self.corners,
            amp_dtype=volume_type(latents.device),
        )
        volumes = volumes * self.scale
        centre = volumes.shape[-1] // 2
        volumes[:, centre, centre, centre] += self.offset  # the transform of a constant
        return volumes


def read_decoder_tensors(uri: Uri) -> dict[str, torch.Tensor]:
    """Read the decoder's tensors from a ``weights.N.pkl``; nothing in the file can run.

    Raises:
        RunDirectoryError: If the file is no archive of weights.
    """
    tensors = read_network_tensors(uri)
    return {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}


def read_network_tensors(uri: Uri) -> dict[str, torch.Tensor]:
    """Read all tensors from a ``weights.N.pkl``; nothing in the file can run.

    Raises:
        RunDirectoryError: If the file is no archive of weights.
    """
    content = storage.read_bytes(uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the protocol of a pickle that is then refused
            raw: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        names: dict[str, torch.Tensor] = dict(raw["model_state_dict"])
    except Exception as error:  # torch raises many kinds for a broken or foreign archive
        asked = REFUSED_NAME.search(str(error))
        reason = "the file is damaged, or of another kind"
        if asked is not None:
            name = asked[1] or asked[2]
            reason = f"it asks for {name}, which is refused, and nothing of it has been run"
        raise RunDirectoryError(f"{uri} does not contain weights of a run: {reason}.") from error
    found = {name.removeprefix(SEVERAL_GPUS): tensor for name, tensor in names.items()}
    # cryoDRGN's plain perceptron without encoding is the decoder itself
    plain = f"{PREFIX}main."
    return {f"{PREFIX}{k}" if k.startswith(plain) else k: v for k, v in found.items()}
