"""A resumable state: what it takes to go on as if a run had never stopped.

There is no random generator in it: everything random follows from the seed and the position.
"""

import io
from dataclasses import dataclass
from typing import Any

import torch

from raydrgn.errors import RunDirectoryError
from raydrgn.run.directory import Position

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """Network, optimiser and place."""

    position: Position
    model: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    sums: list[float]
    """Total, reconstruction and KL summed over the particles of the epoch so far."""

    def to_bytes(self) -> bytes:
        """Return the state as a torch archive of tensors and plain values."""
        stream = io.BytesIO()
        torch.save(
            {
                "format": FORMAT_VERSION,
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
    def from_bytes(cls, content: bytes) -> "TrainingState":
        """Rebuild a state; content from elsewhere cannot run code here."""
        raw = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if raw.get("format") != FORMAT_VERSION:
            raise RunDirectoryError(
                f"The state has format {raw.get('format')}; this version reads {FORMAT_VERSION}."
            )
        return cls(
            position=Position(raw["epoch"], raw["step"]),
            model=raw["model"],
            optimiser=raw["optimiser"],
            sums=raw["sums"],
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
