"""What workflows on volumes of a run, or on the maps of a folder, share."""

from dataclasses import dataclass
from typing import Annotated

from raydrgn.errors import ConfigError
from raydrgn.settings import Setting
from raydrgn.workflows.epoch import PixelSizeSettings


@dataclass(frozen=True, kw_only=True)
class RunOrMapsSettings(PixelSizeSettings):
    """Settings of workflows on volumes of a run, or on the maps of a folder."""

    run: Annotated[
        str | None, Setting("Run directory, of raydrgn or cryoDRGN.", is_argument=True)
    ] = None

    volumes: Annotated[str | None, Setting("Folder of maps, instead of a run.")] = None

    ksample: Annotated[
        int | None, Setting("Volumes at the on-data centres of this many k-means clusters.", min=1)
    ] = None

    z_file: Annotated[str | None, Setting("Latents, one per line; also .npy or z.N.pkl.")] = None

    epoch: Annotated[
        int | None, Setting("Epoch; the last finished one by default.", project="epoch")
    ] = None

    out: Annotated[
        str | None,
        Setting(
            "Folder for the results, instead of the one in RUN; needed with --volumes.",
            flags=("-o", "--out"),
        ),
    ] = None

    flip: Annotated[bool, Setting("Change the handedness of volumes of a run.", project="flip")] = (
        False
    )

    invert: Annotated[bool, Setting("Change the sign of volumes of a run.")] = False

    overwrite: Annotated[
        bool,
        Setting("Replace earlier results in the folder; else what is finished is kept."),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = self._ways_to_choose()
        given = [option for option, is_given in chosen.items() if is_given]
        if (self.run is None) == (self.volumes is None) or len(given) != (self.run is not None):
            *others, last = chosen
            raise ConfigError(
                f"Give the volumes: RUN with one of {', '.join(others)} and {last}, or --volumes."
            )
        if self.volumes is None:
            return
        if self.flip or self.invert:
            raise ConfigError("--flip and --invert change volumes of a run only, not --volumes.")
        if self.out is None:
            raise ConfigError("Give the folder for the results with -o: it is needed by --volumes.")

    def _ways_to_choose(self) -> dict[str, bool]:
        """Return the options that choose volumes of a run, and whether each is given."""
        return {"--ksample": self.ksample is not None, "--z-file": self.z_file is not None}
