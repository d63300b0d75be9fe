"""What workflows on one epoch of a run share: which epoch, and where its results go."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from raydrgn.decoding.options import VolumeOptions
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    import numpy as np

    from raydrgn.decoding.pool import DecoderPool
    from raydrgn.remote.executor import Executor
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.latents_file import LatentSource

log = logging.getLogger(__name__)

CHECKSUM_LENGTH = 16
"""Characters of a checksum among recorded settings, which messages show."""

NOT_RECORDED = frozenset({"run", "epoch", "out", "overwrite", "notify", "figures"})
"""Settings that do not change results; what they are made from is recorded by its checksums."""


@dataclass(frozen=True, kw_only=True)
class PixelSizeSettings:
    """Settings of workflows that decode volumes of a run."""

    pixel_size_angstrom: Annotated[
        float | None,
        Setting(
            "Pixel size at the run's box, Å, if the run does not contain it.",
            flags=("--pixel-size",),
            above=0,
        ),
    ] = None

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class EpochSettings:
    """Settings of every workflow that makes results from one epoch."""

    run: Annotated[str, Setting("Run directory, of raydrgn or cryoDRGN.", is_argument=True)]

    epoch: Annotated[
        int | None,
        Setting("Epoch; the last finished one by default.", is_argument=True, project="epoch"),
    ] = None

    out: Annotated[
        str | None,
        Setting("Folder for the results, instead of the one in RUN.", flags=("-o", "--out")),
    ] = None

    overwrite: Annotated[
        bool,
        Setting("Replace earlier results in the folder; else finished files are kept."),
    ] = False

    figures: Annotated[
        Literal["svg", "pdf"] | None,
        Setting("Write figures as svg or pdf too, beside the PNG files."),
    ] = None

    def __post_init__(self) -> None:
        check_bounds(self)

    def recorded(self) -> dict[str, Any]:
        """Return the settings that change the results, for the folder's ``settings.json``.

        Fields of records inside the settings stand beside the others, as the options do.
        """
        found: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if isinstance(value, dict):
                found |= value
            elif name not in NOT_RECORDED:
                found[name] = value
        return found

    def result_folder(
        self, run: "LatentSource", epoch: int | None, command: str, folder: str | None = None
    ) -> "ResultFolder":
        """Return the folder of results, as it is; the arguments are those of ``begin``."""
        from raydrgn.reporting.result_folder import ResultFolder

        place = self.out or folder or run.results(command, epoch)
        return ResultFolder(place, figures=self.figures)

    def begin(
        self,
        run: "LatentSource",
        epoch: int | None,
        command: str,
        *,
        independent: Collection[str] = (),
        found: Mapping[str, Any] | None = None,
        folder: str | None = None,
    ) -> "ResultFolder":
        """Return the folder of results, begun or continued.

        Args:
            run: The run or file of latents, opened.
            epoch: Its epoch.
            command: Recorded with the settings, so that a folder has results of one command; name
                of the folder in the run, if ``out`` is None: ``RUN/COMMAND.EPOCH``.
            independent: Settings whose results lie side by side under names of their own.
            found: What the settings selected (such as the points of a path), where they name files
                whose content can change.
            folder: Folder in place of ``RUN/COMMAND.EPOCH``.

        Raises:
            RunDirectoryError: If the folder has results of another epoch, run or setting.
        """
        results = self.result_folder(run, epoch, command, folder)
        results.begin(
            {"command": command, **self.recorded(), **(found or {})},
            made_from=run.identity(epoch),
            overwrite=self.overwrite,
            independent=independent,
        )
        return results


@dataclass(frozen=True, kw_only=True)
class DecodingSettings(EpochSettings, PixelSizeSettings):
    """Settings of workflows that also decode volumes."""

    volumes: VolumeOptions = field(default_factory=VolumeOptions)

    def volume_words(self) -> str:
        """Return the options with which another command has volumes of this hand, sign and pixel.

        They stand after the other words of the command.
        """
        pixel = self.pixel_size_angstrom
        words = "" if pixel is None else f" --pixel-size {pixel}"
        return words + " --flip" * self.volumes.flip + " --invert" * self.volumes.invert


class OpenedLatents(NamedTuple):
    """What a workflow on latents starts from."""

    source: "LatentSource"
    """The run, or the file of latents."""

    epoch: int | None
    """None of a file."""

    z: "np.ndarray"
    """All latents, (n, zdim); none is NaN or infinite."""

    makes_volumes: bool
    """Whether volumes are wanted, and there are weights to decode them."""


@dataclass(frozen=True, kw_only=True)
class LatentSettings(DecodingSettings):
    """Settings of workflows that need latents only, and decode volumes where there are weights."""

    run: Annotated[
        str,
        Setting(
            "Run directory, of raydrgn or cryoDRGN; or a file of latents: .pkl, .npy, .csv, .txt, "
            ".parquet, or cryoSPARC's .cs of 3D Variability or 3D Flex.",
            is_argument=True,
        ),
    ]

    skip_volumes: Annotated[bool, Setting("Decode no volumes.")] = False

    def recorded(self) -> dict[str, Any]:
        """Return all settings but whether volumes are made."""
        found = super().recorded()
        del found["skip_volumes"]
        return found

    def open(self, executor: "Executor") -> OpenedLatents:
        """Open the run or the file, and read the latents of its epoch.

        Raises:
            RaydrgnError: If they cannot be read, the volumes asked for do not fit the run, or the
                workers that are to decode them do not fit on the cluster.
        """
        from raydrgn.run.latents_file import open_latents

        source = open_latents(self.run)
        makes_volumes = self._makes_volumes(source)
        epoch = source.epoch(self.epoch, latents_only=not makes_volumes)
        if makes_volumes:
            from raydrgn.model.device import gpu_problem

            executor.check_pool(gpu_problem)
        return OpenedLatents(source, epoch, source.finite_latents(epoch), makes_volumes)

    def pool(self, opened: OpenedLatents, executor: "Executor") -> "DecoderPool":
        """Return the decoders of the epoch that was opened."""
        from raydrgn.decoding.pool import DecoderPool

        state = opened.source.decoder(opened.epoch, pixel_size_angstrom=self.pixel_size_angstrom)
        return DecoderPool(state, self.volumes, executor)

    def _makes_volumes(self, source: "LatentSource") -> bool:
        from raydrgn.run.reader import RunReader

        if isinstance(source, RunReader):
            self.volumes.check(source.box)
            return not self.skip_volumes
        if not self.skip_volumes:
            log.warning("%s has latents and no weights: no volumes are made", source.root)
        return False
