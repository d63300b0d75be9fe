"""What workflows on one epoch of a run share: which epoch, and where its results go."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from raydrgn.decoding.options import VolumeOptions
from raydrgn.settings import Setting, check_bounds

if TYPE_CHECKING:
    from raydrgn.reporting.result_folder import ResultFolder
    from raydrgn.run.reader import RunReader

NOT_RECORDED = frozenset({"run", "epoch", "out", "overwrite"})
"""Settings that do not change results; what they are made from is recorded by its checksums."""


@dataclass(frozen=True, kw_only=True)
class EpochSettings:
    """Settings of every workflow that makes results from one epoch."""

    run: Annotated[str, Setting("Run directory, of raydrgn or cryoDRGN.", is_argument=True)]

    epoch: Annotated[
        int | None,
        Setting("Epoch; the last finished one by default.", is_argument=True),
    ] = None

    out: Annotated[
        str | None,
        Setting("Folder for the results, instead of the one in RUN.", flags=("-o", "--out")),
    ] = None

    overwrite: Annotated[
        bool,
        Setting("Replace earlier results in the folder; else finished files are kept."),
    ] = False

    def __post_init__(self) -> None:
        check_bounds(self)

    def recorded(self) -> dict[str, Any]:
        """Return the settings that change the results, for the folder's ``settings.json``."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_RECORDED}

    def begin(
        self,
        run: "RunReader",
        epoch: int | None,
        command: str,
        *,
        independent: Collection[str] = (),
    ) -> "ResultFolder":
        """Return the folder of results, begun or continued.

        Args:
            run: The run, opened.
            epoch: Its epoch.
            command: Name of the folder in the run, if ``out`` is None: ``RUN/COMMAND.EPOCH``.
            independent: Settings whose results lie side by side under names of their own.

        Raises:
            RunDirectoryError: If the folder has results of another epoch, run or setting.
        """
        from raydrgn.reporting.result_folder import ResultFolder

        folder = ResultFolder(self.out or run.files.results(command, epoch))
        folder.begin(
            self.recorded(),
            made_from=run.identity(epoch),
            overwrite=self.overwrite,
            independent=independent,
        )
        return folder


@dataclass(frozen=True, kw_only=True)
class DecodingSettings(EpochSettings):
    """Settings of workflows that also decode volumes."""

    volumes: VolumeOptions = field(default_factory=VolumeOptions)

    pixel_size_angstrom: Annotated[
        float | None,
        Setting(
            "Pixel size at the run's box, Å, if the run does not say it.",
            flags=("--pixel-size",),
            above=0,
        ),
    ] = None
