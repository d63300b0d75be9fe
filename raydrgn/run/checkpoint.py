"""A checkpoint: what it takes to go on as if a run had never stopped.

There is no random generator in it: everything random follows from the seed and the position.
"""

import io
from dataclasses import dataclass
from typing import Any

import torch

from raydrgn.errors import RunDirectoryError
from raydrgn.run.directory import Position

FORMAT_VERSION = 2

BATCH_ORDER = 2
"""Version of the order in which an epoch takes the particles.

1 depended on the number of workers; 2 takes one particle of each stratum of the table. Within an
epoch, training can only go on in the order in which the epoch was begun.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Network, optimiser and position."""

    position: Position
    model: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    sums: list[float]
    """Total, reconstruction and KL summed over the particles of the epoch so far."""

    batch_order: int = BATCH_ORDER
    """Order in which the particles of the epoch were taken so far."""

    def to_bytes(self) -> bytes:
        """Return the checkpoint as a torch archive of tensors and plain values."""
        stream = io.BytesIO()
        torch.save(
            {
                "format": FORMAT_VERSION,
                "batch_order": self.batch_order,
                "epoch": self.position.epoch,
                "step": self.position.step,
                "model": self.model,
                "optimiser": self.optimiser,
                "sums": self.sums,
            },
            stream,
        )
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Checkpoint":
        """Rebuild a checkpoint; content from elsewhere cannot run code here."""
        raw = _load(content)
        if raw.get("format") not in (1, FORMAT_VERSION):
            raise RunDirectoryError(
                f"The checkpoint has format {raw.get('format')}; this version of raydrgn reads 1 "
                f"and {FORMAT_VERSION}. Go on with the version that wrote it, or a newer one."
            )
        return cls(
            position=Position(raw["epoch"], raw["step"]),
            model=raw["model"],
            optimiser=raw["optimiser"],
            sums=raw["sums"],
            batch_order=raw.get("batch_order", 1),
        )

    def weights_bytes(self) -> bytes:
        """Return the weights of the epoch before the position, in cryoDRGN's layout."""
        stream = io.BytesIO()
        torch.save(
            {
                "epoch": self.position.epoch - 1,
                "model_state_dict": self.model,
                "optimizer_state_dict": self.optimiser,
            },
            stream,
        )
        return stream.getvalue()

    @classmethod
    def after_epoch(cls, epoch: int, weights: bytes) -> "Checkpoint":
        """Rebuild the checkpoint at the end of an epoch from what ``weights_bytes`` has given."""
        raw = _load(weights)
        return cls(
            position=Position(epoch + 1, 0),
            model=raw["model_state_dict"],
            optimiser=raw["optimizer_state_dict"],
            sums=[0.0, 0.0, 0.0],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LatestCheckpoint:
    """Where a run goes on."""

    content: bytes | None
    """The newest whole checkpoint; None at the start of a run."""

    problems: list[str]
    """Why newer checkpoints are not used."""

    lacks_latents: bool
    """Whether the latents of the epoch before are still to be made, from these weights."""


def _load(content: bytes) -> dict[str, Any]:
    raw: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return raw
