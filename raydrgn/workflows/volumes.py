"""``volumes``: density maps at chosen latents."""

from dataclasses import dataclass, field
from typing import Annotated

from raydrgn.decoding.options import VolumeOptions
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import Progress, silent
from raydrgn.settings import Setting
from raydrgn.workflows.epoch import PixelSizeSettings


@dataclass(frozen=True, kw_only=True)
class VolumesSettings(PixelSizeSettings):
    """Settings of ``volumes``; the latents are given in one of three ways."""

    run: Annotated[str, Setting("Run directory, of raydrgn or cryoDRGN.", is_argument=True)]

    out: Annotated[str, Setting("Folder for vol_000.mrc and so on.", flags=("-o", "--out"))]

    z_file: Annotated[str | None, Setting("Latents, one per line; also .npy or z.N.pkl.")] = None

    particles: Annotated[
        str | None,
        Setting("Particles whose latents to decode, as 0,17,42: rows of z.N.pkl."),
    ] = None

    z: Annotated[str | None, Setting("One latent, as 0.1,0.2,…", flags=("-z",))] = None

    epoch: Annotated[
        int | None, Setting("Epoch; the last finished one by default.", project="epoch")
    ] = None

    volumes: VolumeOptions = field(default_factory=VolumeOptions)


@dataclass(frozen=True, kw_only=True)
class VolumesResult:
    """What ``volumes`` wrote."""

    paths: list[str]
    """All volumes, in order; also those that failed."""

    failures: list[str]
    """Volumes that could not be decoded, and why."""


def run(
    settings: VolumesSettings,
    *,
    executor: Executor = IN_PROCESS,
    progress: Progress = silent,
) -> VolumesResult:
    """Decode volumes, and write them with the latents used (``z_values.txt``).

    Raises:
        RaydrgnError: If the run, the latents or the folder do not allow it.
    """
    from raydrgn.decoding import latent_input
    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.run.reader import open_run

    opened = open_run(settings.run)
    settings.volumes.check(opened.box)
    epoch = opened.epoch(settings.epoch)
    latents = latent_input.choose_latents(
        opened, epoch, z_file=settings.z_file, particles=settings.particles, z=settings.z
    )
    state = opened.decoder(epoch, pixel_size_angstrom=settings.pixel_size_angstrom)
    requests = latent_input.write_latents(settings.out, latents)
    failures, done = [], 0
    with DecoderPool(state, settings.volumes, executor) as pool:
        for outcome in pool.write(requests):
            if outcome.error:
                failures += [f"{request.uri}: {outcome.error}" for request in outcome.item]
            done += len(outcome.item)
            progress("decoding", done, len(requests), unit="volumes")
    return VolumesResult(paths=[request.uri for request in requests], failures=failures)
