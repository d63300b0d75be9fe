"""Sets of volumes that belong together: written, and previewed, by the worker that decodes them.

Each set is a folder of ``vol_NNN.mrc`` with ``z_values.txt`` and ``open.cxc``, a ChimeraX script
that opens all of them in one frame, at one contour level, in the colours of the figures.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from raydrgn.decoding.latent_input import write_latents
from raydrgn.decoding.pool import DecoderPool, VolumeDecoder, VolumeRequest
from raydrgn.errors import InputError
from raydrgn.fourier.density import PEAK_PERCENTILE, Density, measure_density
from raydrgn.io import storage
from raydrgn.io.mrc import read_header, read_volume, write_volume
from raydrgn.io.storage import Uri
from raydrgn.remote.progress import Progress, silent
from raydrgn.shapes import Float


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeSet:
    """Volumes to decode, and how they are shown."""

    name: str
    folder: Uri
    z: Float[np.ndarray, "k zdim"]
    colours: Sequence[str]
    """Hexadecimal colour of each volume."""

    titles: Sequence[str]


@dataclass(frozen=True, slots=True)
class Preview:
    """Central slices and contour level of a volume; the volume itself is not kept in memory."""

    slices: Float[np.ndarray, "3 d d"]
    """Central slices normal to z, y and x."""

    density: Density
    """Peak, noise and skewness of this volume."""

    @property
    def level(self) -> float:
        """Contour level of this volume, in its own units of density: half of its peak."""
        return self.density.peak / 2


@dataclass(frozen=True, slots=True)
class MadeSets:
    """Previews of sets of volumes."""

    previews: list[list[Preview | None]]
    """Of each set, in order; None where a volume could not be decoded."""

    failures: list[str]
    """Volumes that could not be decoded, and why."""


def preview(volume: Float[np.ndarray, "d d d"]) -> Preview:
    """Return the preview of a volume."""
    c = volume.shape[-1] // 2
    slices = np.stack([volume[c], volume[:, c], volume[:, :, c]])
    return Preview(slices, measure_density(volume))


def write_and_preview(decoder: VolumeDecoder, requests: Sequence[VolumeRequest]) -> list[Preview]:
    """Decode and write volumes, and return their previews; complete files are kept."""
    missing = [request for request in requests if not _is_complete(request.uri)]
    if missing:
        decoder.write(missing)
    return [preview(read_volume(request.uri)[0]) for request in requests]


def _is_complete(uri: Uri) -> bool:
    """Return whether a volume is there, and as long as its header requires."""
    if not storage.exists(uri):
        return False
    try:
        read_header(uri)
    except InputError:
        return False
    return True


def make_sets(
    pool: DecoderPool, sets: Sequence[VolumeSet], *, progress: Progress = silent
) -> MadeSets:
    """Decode and write all volumes of some sets, and the ChimeraX script of each set."""
    requests = [write_latents(volumes.folder, volumes.z) for volumes in sets]
    total = sum(map(len, requests))
    made: dict[Uri, Preview] = {}
    failures, done = [], 0
    for outcome in pool.run(write_and_preview, list(itertools.chain(*requests))):
        uris = [request.uri for request in outcome.item]
        if outcome.error:
            failures += [f"{uri}: {outcome.error}" for uri in uris]
        else:
            made |= dict(zip(uris, outcome.value, strict=True))
        done += len(uris)
        progress("decoding", done, total, unit="volumes")
    previews = [[made.get(request.uri) for request in of_set] for of_set in requests]
    for volumes, shown in zip(sets, previews, strict=True):
        _write_script(volumes, shown)
    return MadeSets(previews, failures)


def copy_maps(volumes: VolumeSet, uris: Sequence[Uri]) -> MadeSets:
    """Write maps as the volumes of a set, instead of decoding them, and its ChimeraX script."""
    previews: list[Preview | None] = []
    for number, uri in enumerate(uris):
        volume, header = read_volume(uri)
        write_volume(
            storage.join(volumes.folder, f"vol_{number:03d}.mrc"),
            volume,
            pixel_size_angstrom=header.pixel_size_angstrom,
            origin_angstrom=header.origin_angstrom,
        )
        previews.append(preview(volume))
    _write_script(volumes, previews)
    return MadeSets([previews], [])


def write_maps(
    volumes: VolumeSet,
    maps: Iterable[Float[np.ndarray, "d d d"]],
    *,
    pixel_size_angstrom: float,
) -> None:
    """Write maps that are in memory as the volumes of a set, and its ChimeraX script."""
    previews = []
    for number, volume in enumerate(maps):
        uri = storage.join(volumes.folder, f"vol_{number:03d}.mrc")
        write_volume(uri, volume, pixel_size_angstrom=pixel_size_angstrom)
        previews.append(preview(volume))
    _write_script(volumes, previews)


def previews_of(volumes: VolumeSet) -> list[Preview]:
    """Return previews of the volumes of a set that are in its folder."""
    count = len(volumes.titles)
    uris = [storage.join(volumes.folder, f"vol_{number:03d}.mrc") for number in range(count)]
    return [preview(read_volume(uri)[0]) for uri in uris]


def central_slices(previews: Sequence[Preview | None]) -> list[Float[np.ndarray, "3 d d"] | None]:
    """Return the central slices of previews, None where a volume is missing."""
    return [None if preview is None else preview.slices for preview in previews]


def _write_script(volumes: VolumeSet, previews: Sequence[Preview | None]) -> None:
    levels = [shown.level for shown in previews if shown]
    if levels:
        script = chimerax_script(volumes, level=float(np.median(levels)))
        storage.write_bytes(storage.join(volumes.folder, "open.cxc"), script.encode())


def chimerax_script(volumes: VolumeSet, *, level: float) -> str:
    """Return ChimeraX commands that open a set; ChimeraX runs them in the script's folder."""
    count = len(volumes.titles)
    lines = [
        f"# {volumes.name}: {count} volumes at one contour level, the median of half of their",
        f"# {PEAK_PERCENTILE:g}th percentiles; colours are those of the figures",
        "set bgColor white",
        *(f"open vol_{number:03d}.mrc id {number + 1}" for number in range(count)),
        f"volume #1-{count} style surface step 1 level {level:.5g}",
        *(f"color #{number + 1} {colour}" for number, colour in enumerate(volumes.colours)),
        *(
            f'rename #{number + 1} "{number:03d} {title}"'
            for number, title in enumerate(volumes.titles)
        ),
        f"hide #2-{count} models" if count > 1 else "",
        "lighting soft",
        "view",
        f"mseries slider #1-{count}" if count > 1 else "",
    ]
    return "\n".join(line for line in lines if line) + "\n"
