"""Sets of volumes that belong together: written, and previewed, by the worker that decodes them.

Each set is a folder of ``vol_NNN.mrc`` with ``z_values.txt`` and ``open.cxc``, a ChimeraX script
that opens all of them in one frame, at one contour level, in the colours of the figures.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from raydrgn.decoding.chimerax import volume_script
from raydrgn.decoding.latent_input import write_latents
from raydrgn.decoding.pool import DecoderPool, VolumeDecoder, VolumeRequest
from raydrgn.errors import InputError
from raydrgn.fourier.density import Density, measure_density
from raydrgn.fourier.peaks import PEAK_PERCENTILE, contour_level, peak_density
from raydrgn.io import storage
from raydrgn.io.mrc import read_header, read_volume, volume_name, write_volume
from raydrgn.io.storage import Uri
from raydrgn.remote.progress import Progress, silent
from raydrgn.shapes import Float

SCRIPT = "open.cxc"


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
    """Peak, noise, skewness and streaks of this volume."""

    @property
    def level(self) -> float:
        """Contour level of this volume, in its own units of density: half of its peak."""
        return contour_level(self.density.peak)


@dataclass(frozen=True, slots=True)
class MadeSets:
    """Previews of sets of volumes."""

    previews: list[list[Preview | None]]
    """Of each set, in order; None where a volume could not be decoded."""

    failures: list[str]
    """Volumes that could not be decoded, and why."""


def preview(volume: Float[np.ndarray, "d d d"]) -> Preview:
    """Return the preview of a volume."""
    return Preview(slices_of(volume), measure_density(volume))


def slices_of(volume: Float[np.ndarray, "d d d"]) -> Float[np.ndarray, "3 d d"]:
    """Return the central slices of a volume, normal to z, y and x."""
    c = volume.shape[-1] // 2
    return np.stack([volume[c], volume[:, c], volume[:, :, c]])


def write_and_preview(decoder: VolumeDecoder, requests: Sequence[VolumeRequest]) -> list[Preview]:
    """Decode and write volumes, and return their previews; complete files are kept."""
    missing = [request for request in requests if not _is_complete(request.uri)]
    if missing:
        decoder.write(missing)
    return [preview(read_volume(request.uri)[0]) for request in requests]


def write_and_contour(decoder: VolumeDecoder, requests: Sequence[VolumeRequest]) -> list[float]:
    """Decode and write volumes, and return their contour levels."""
    return [contour_level(peak_density(read_volume(uri)[0])) for uri in decoder.write(requests)]


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
        _write_script(volumes, [one.level if one else None for one in shown])
    return MadeSets(previews, failures)


def write_set(
    pool: DecoderPool,
    volumes: VolumeSet,
    *,
    crop: int | None = None,
    progress: Progress = silent,
) -> tuple[list[Uri], list[str]]:
    """Decode and write the volumes of a set, also those that are there, and its ChimeraX script.

    Volumes of an earlier command under the names of the set are deleted before its latents are
    written: none stays beside latents that it is not of, if the command is stopped or fails.

    Args:
        pool: The decoders.
        volumes: The set.
        crop: Edge of the cube about the centre that is written, voxels; None writes all.
        progress: Called with the volumes that are done.

    Returns:
        All volumes, in order; and those that could not be decoded, and why.
    """
    _remove_earlier(volumes)
    requests = write_latents(volumes.folder, volumes.z, crop=crop)
    levels: dict[Uri, float] = {}
    failures, done = [], 0
    for outcome in pool.write(requests, write_and_contour):
        if outcome.error:
            failures += [f"{request.uri}: {outcome.error}" for request in outcome.item]
        else:
            uris = [request.uri for request in outcome.item]
            levels |= dict(zip(uris, outcome.value, strict=True))
        done += len(outcome.item)
        progress("decoding", done, len(requests), unit="volumes")
    _write_script(volumes, [levels.get(request.uri) for request in requests])
    return [request.uri for request in requests], failures


def _remove_earlier(volumes: VolumeSet) -> None:
    """Delete the volumes and the script that lie in a set's folder under the names of its own."""
    own = {SCRIPT, *map(volume_name, range(len(volumes.z)))}
    for name in storage.list_names(volumes.folder):
        if name in own:
            storage.remove(storage.join(volumes.folder, name))


def copy_maps(volumes: VolumeSet, uris: Sequence[Uri]) -> MadeSets:
    """Write maps as the volumes of a set, instead of decoding them, and its ChimeraX script."""
    previews = []
    for number, uri in enumerate(uris):
        volume, header = read_volume(uri)
        write_volume(
            storage.join(volumes.folder, volume_name(number)),
            volume,
            pixel_size_angstrom=header.pixel_size_angstrom,
            origin_angstrom=header.stored_origin_angstrom,
            start_px=header.start_px,
        )
        previews.append(preview(volume))
    _write_script(volumes, [shown.level for shown in previews])
    return MadeSets([list(previews)], [])


def write_maps(
    volumes: VolumeSet,
    maps: Iterable[Float[np.ndarray, "d d d"]],
    *,
    pixel_size_angstrom: float,
) -> None:
    """Write maps that are in memory as the volumes of a set, and its ChimeraX script."""
    previews = []
    for number, volume in enumerate(maps):
        uri = storage.join(volumes.folder, volume_name(number))
        write_volume(uri, volume, pixel_size_angstrom=pixel_size_angstrom)
        previews.append(preview(volume))
    _write_script(volumes, [shown.level for shown in previews])


def previews_of(volumes: VolumeSet) -> list[Preview]:
    """Return previews of the volumes of a set that are in its folder."""
    count = len(volumes.titles)
    uris = [storage.join(volumes.folder, volume_name(number)) for number in range(count)]
    return [preview(read_volume(uri)[0]) for uri in uris]


def central_slices(previews: Sequence[Preview | None]) -> list[Float[np.ndarray, "3 d d"] | None]:
    """Return the central slices of previews, None where a volume is missing."""
    return [None if preview is None else preview.slices for preview in previews]


def common_level(levels: Sequence[float]) -> float:
    """Return the level at which several volumes are contoured: the median of their own."""
    return float(np.median(levels))


def levels_of(previews: Sequence[Preview | None]) -> list[float]:
    """Return the contour level of each volume that there is."""
    return [shown.level for shown in previews if shown]


def _write_script(volumes: VolumeSet, levels: Sequence[float | None]) -> None:
    """Write the ChimeraX script of a set, with the volumes that were made: those with a level."""
    made = {number: level for number, level in enumerate(levels) if level is not None}
    if made:
        script = set_script(
            volumes.name,
            list(map(volume_name, made)),
            colours=[volumes.colours[number] for number in made],
            titles=[f"{number:03d} {volumes.titles[number]}".rstrip() for number in made],
            level=common_level(list(made.values())),
            ids=[number + 1 for number in made],
        )
        storage.write_bytes(storage.join(volumes.folder, SCRIPT), script.encode())


def set_script(
    name: str,
    files: Sequence[str],
    *,
    colours: Sequence[str],
    titles: Sequence[str],
    level: float,
    ids: Sequence[int] = (),
) -> str:
    """Return a ChimeraX script that shows the volumes of a set one after the other.

    Args:
        name: Of the set.
        files: Paths of the volumes from the script's folder.
        colours: Hexadecimal colour of each.
        titles: What each is called in ChimeraX.
        level: Contour level of all.
        ids: Their ids in ChimeraX, ascending; from 1 on if not given.
    """
    title = (
        f"{name}: {len(files)} volumes at one contour level, the median of half of their\n"
        f"{PEAK_PERCENTILE:g}th percentiles; colours are those of the figures"
    )
    return volume_script(
        files,
        colours=colours,
        level=level,
        title=title,
        names=titles,
        as_series=True,
        ids=ids,
    )
