"""``parse``: poses and CTF of a refinement, for training here or with cryoDRGN."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from raydrgn.errors import ConfigError, InputError
from raydrgn.io.particle_source import StackSettings
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.io.imaging import Imaging
    from raydrgn.io.particles import ParticleTable

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ParseSettings(StackSettings):
    """Settings of ``parse``; a value given here is used instead of the file's."""

    particles: Annotated[str, Setting("RELION .star or cryoSPARC .cs file.", is_argument=True)]

    poses: Annotated[str | None, Setting("Write cryoDRGN's poses.pkl here.")] = None

    ctf: Annotated[str | None, Setting("Write cryoDRGN's ctf.pkl here.")] = None

    table: Annotated[str | None, Setting("Write particles.parquet here.")] = None

    box: Annotated[int | None, Setting("Edge of the images, pixels.", min=2)] = None

    pixel_size_angstrom: Annotated[
        float | None, Setting("Pixel size of the images, Å.", flags=("--pixel-size",), above=0)
    ] = None

    voltage_kv: Annotated[
        float | None, Setting("Acceleration voltage, kV.", flags=("--kv",), above=0)
    ] = None

    spherical_aberration_mm: Annotated[
        float | None, Setting("Spherical aberration, mm.", flags=("--cs",))
    ] = None

    amplitude_contrast: Annotated[
        float | None, Setting("Amplitude contrast, a fraction.", min=0, max=1)
    ] = None

    phase_shift_deg: Annotated[
        float | None, Setting("Phase shift, degrees.", flags=("--phase-shift",))
    ] = None

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.outputs:
            raise ConfigError("Choose what to write: --poses, --ctf, --table, or several of them.")

    @property
    def imaging(self) -> "Imaging":
        """Values that are used instead of the file's."""
        from raydrgn.io.imaging import Imaging

        return Imaging(
            box=self.box,
            pixel_size_angstrom=self.pixel_size_angstrom,
            voltage_kv=self.voltage_kv,
            spherical_aberration_mm=self.spherical_aberration_mm,
            amplitude_contrast=self.amplitude_contrast,
            phase_shift_deg=self.phase_shift_deg,
            half_size_shifts=self.half_size_shifts,
        )

    @property
    def outputs(self) -> list[str]:
        """Files to write."""
        return [uri for uri in (self.poses, self.ctf, self.table) if uri]


@dataclass(frozen=True, kw_only=True)
class ParseResult:
    """What ``parse`` read and wrote."""

    particles: "ParticleTable"
    paths: list[str]
    """Files that were written."""


def run(
    settings: ParseSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> ParseResult:
    """Read poses and CTF of a refinement, and write them.

    Raises:
        RaydrgnError: If the file lacks what is to be written.
    """
    from raydrgn.io import storage
    from raydrgn.io.metadata import read_for_parsing
    from raydrgn.io.passthrough import passthrough_of
    from raydrgn.io.stacks import order_warning
    from raydrgn.io.unmodelled import warn_of_unmodelled

    table = read_for_parsing(
        settings.particles,
        datadir=settings.datadir,
        imaging=settings.imaging,
        passthrough=settings.passthrough,
        need_images=settings.table is not None,
    )
    warn_of_unmodelled(table)
    if (settings.poses or settings.ctf) and (warning := order_warning(table)):
        log.warning("%s", warning)
    if settings.ctf:
        _warn_of_pixel_sizes(table)
    read = [settings.particles, *settings.passthrough, *passthrough_of(table), *table.stacks]
    storage.refuse_same_output(settings.outputs)
    for out in settings.outputs:
        storage.refuse_to_replace(out, read)
    _write(settings, table)
    return ParseResult(particles=table, paths=settings.outputs)


def _write(settings: ParseSettings, table: "ParticleTable") -> None:
    """Write poses, CTF and table; everything is made before anything is written."""
    from raydrgn.io import cryodrgn, sources

    poses = sources.to_poses(table) if settings.poses else None
    ctf = sources.to_ctf(table) if settings.ctf else None
    if settings.poses and poses is not None:
        cryodrgn.write_poses(settings.poses, poses)
    if settings.ctf and ctf is not None:
        cryodrgn.write_ctf(settings.ctf, ctf)
    if settings.table:
        table.write(settings.table)


def _warn_of_pixel_sizes(table: "ParticleTable") -> None:
    """Log it if there are several pixel sizes, of which cryoDRGN takes the first from ctf.pkl."""
    from raydrgn.io.pixel_sizes import several_pixel_sizes

    if "pixel_size_angstrom" not in table.table.column_names:
        return
    try:
        several = several_pixel_sizes(table)
    except InputError as error:  # more than training models; one group at a time is possible
        several = str(error)
    if several:
        log.warning("%s cryoDRGN takes that of the first particle for all.", several)
