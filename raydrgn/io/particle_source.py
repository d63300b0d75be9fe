"""Where a data set is: the particle file and what goes with it. Loads nothing heavy."""

import dataclasses
from dataclasses import dataclass, fields
from typing import Annotated, Any

from raydrgn.io.uri import Uri
from raydrgn.settings import Setting, check_bounds, setting_fields

DropBad = Annotated[
    bool,
    Setting(
        "Leave out images that are constant or not finite, and outliers: images with pixels more "
        "than 50 SD from their mean, or three times as strong as others.",
        project="drop_bad",
    ),
]
"""Option of commands that read all images."""


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """Where the parts of a particle file are."""

    datadir: Annotated[
        Uri | None,
        Setting(
            "Folder of the stacks that a .star, .cs or .parquet file names.", project="datadir"
        ),
    ] = None

    passthrough: Annotated[
        tuple[Uri, ...],
        Setting(
            "Passthrough file of the same cryoSPARC job, joined to a .cs file by uid; may be given "
            "several times. Found beside the .cs file by its name where it is not given.",
            metavar="FILE",
            project="passthrough",
        ),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class StackSettings(FileSettings):
    """What a .star or .cs file does not contain itself."""

    half_size_shifts: Annotated[
        bool,
        Setting(
            "The .cs file is of a heterogeneous refinement and has no alignments3D/psize_A: its "
            "shifts are in pixels twice as large as those of the images.",
            project="half_size_shifts",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ParticleSettings(StackSettings):
    """What goes with a particle file."""

    poses: Annotated[
        Uri | None,
        Setting(
            "cryoDRGN's poses.pkl; its poses replace those of the particle file.", project="poses"
        ),
    ] = None

    ctf: Annotated[
        Uri | None,
        Setting(
            "cryoDRGN's ctf.pkl; its CTF parameters replace those of the particle file.",
            project="ctf",
        ),
    ] = None

    ind: Annotated[
        Uri | None,
        Setting(
            "Particles to use, in this order: .pkl, .npy or text of row numbers, counted from 0.",
            project="ind",
        ),
    ] = None

    def source_of(self, particles: Uri) -> "ParticleSource":
        """Return a particle file with what goes with it."""
        beside = {field.name: getattr(self, field.name) for field in fields(ParticleSettings)}
        return ParticleSource(particles=particles, **beside)

    def words(self) -> list[str]:
        """Return what is given as options of the command line."""
        found: list[str] = []
        for field in setting_fields(ParticleSettings):
            value = getattr(self, field.name)
            option = field.setting.option(field.name)
            if isinstance(value, tuple):
                found += [word for part in value for word in (option, part)]
            elif value:
                found += [option] if value is True else [option, value]
        return found


@dataclass(frozen=True, kw_only=True)
class ParticleSource(ParticleSettings):
    """Where a data set is: images, and what is known about them."""

    particles: Annotated[
        Uri, Setting("Particles: .mrcs, .txt, .star, .cs or .parquet.", is_argument=True)
    ]

    def __post_init__(self) -> None:
        check_bounds(self)

    def absolute(self) -> "ParticleSource":
        """Return the source with every path meaning the same from anywhere."""
        from raydrgn.io import storage

        paths: dict[str, Any] = {
            name: path and storage.absolute(path)
            for name in ("particles", "poses", "ctf", "ind", "datadir")
            if (path := getattr(self, name)) is not None
        }
        passthrough = tuple(storage.absolute(uri) for uri in self.passthrough)
        return dataclasses.replace(self, **paths, passthrough=passthrough)
