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
        Setting("Particles whose latents to decode, such as 0,17,42: rows of z.N.pkl."),
    ] = None

    z: Annotated[str | None, Setting("One latent, such as 0.1,0.2,…", flags=("-z",))] = None

    epoch: Annotated[
        int | None, Setting("Epoch; the last finished one by default.", project="epoch")
    ] = None

    volumes: VolumeOptions = field(default_factory=VolumeOptions)

    crop: Annotated[
        int | None,
        Setting("Write only the cube of this edge about the centre, voxels; even.", min=2),
    ] = None


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
    """Decode volumes, and write them with the latents used and a ChimeraX script.

    Raises:
        RaydrgnError: If the run, the latents or the folder do not allow it.
    """
    from raydrgn.decoding import latent_input
    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.decoding.volume_sets import VolumeSet, write_set
    from raydrgn.reporting.latent_figures import series_colours
    from raydrgn.run.reader import open_run

    opened = open_run(settings.run)
    settings.volumes.check(opened.box)
    settings.volumes.check_crop(settings.crop, opened.box)
    epoch = opened.epoch(settings.epoch)
    latents = latent_input.choose_latents(
        opened, epoch, z_file=settings.z_file, particles=settings.particles, z=settings.z
    )
    _refuse_others(settings.out, len(latents))
    state = opened.decoder(epoch, pixel_size_angstrom=settings.pixel_size_angstrom)
    volumes = VolumeSet(
        name=f"volumes of {opened.title(epoch)}",
        folder=settings.out,
        z=latents,
        colours=series_colours(len(latents)),
        titles=latent_input.latent_titles(len(latents), particles=settings.particles),
    )
    with DecoderPool(state, settings.volumes, executor, num_volumes=len(latents)) as pool:
        paths, failures = write_set(pool, volumes, crop=settings.crop, progress=progress)
    return VolumesResult(paths=paths, failures=failures)


def _refuse_others(folder: str, count: int) -> None:
    """Refuse a folder in which volumes of an earlier command would stay among the new ones.

    Raises:
        ConfigError: Naming the first of them.
    """
    from raydrgn.errors import ConfigError
    from raydrgn.io import storage
    from raydrgn.io.mrc import volume_name, volume_number
    from raydrgn.wording import counted

    numbers = map(volume_number, storage.list_names(folder))
    others = sorted(n for n in numbers if n is not None and n >= count)
    if others:
        first = storage.join(folder, volume_name(others[0]))
        raise ConfigError(
            f"{counted(count, 'volume')} will be written, and {first} of an earlier command would "
            "stay beside them. Choose another folder with --out, or delete the volumes there."
        )
