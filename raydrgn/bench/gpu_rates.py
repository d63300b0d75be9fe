"""What a GPU does, as it is measured."""

from dataclasses import dataclass, field

from raydrgn.bench.step import StepRate
from raydrgn.bench.volumes import DecodingRates

LAYERS = 3
"""Of the networks."""


@dataclass(kw_only=True, slots=True)
class NetworkRates:
    """What a network of some size does on images of some size; filled figure by figure."""

    box: int
    width: int
    all_points: StepRate | None = None
    quarter: StepRate | None = None
    """With a quarter of the points."""

    volumes: DecodingRates | None = None
    path_per_s: float | None = None
    """Particles per second of the whole path through Ray, with all points; None if not measured."""

    from_host_per_s: float | None = None
    """The same with particles that stay in the host's memory."""

    cryodrgn_per_s: float | None = None
    """Particles per second of cryoDRGN on the same data; None where it is not installed."""

    failures: dict[str, str] = field(default_factory=dict)
    """Why a figure could not be measured, by its name above."""

    @property
    def title(self) -> str:
        """Box and network."""
        return f"{self.box} px, {self.width} × {LAYERS}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuRates:
    """What was measured, and on what."""

    device: str
    driver: str
    torch: str
    date: str
    networks: list[NetworkRates] = field(default_factory=list)
    """Those that were begun."""

    @property
    def has_failures(self) -> bool:
        """Whether a figure could not be measured."""
        return any(found.failures for found in self.networks)
