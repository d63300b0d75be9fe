"""Sets of volumes that belong together: written once, looked at where they are made.

Each set is a folder of ``vol_NNN.mrc`` with ``z_values.txt`` and ``open.cxc``, a ChimeraX script
that opens all of them in one frame, at one contour level, in the colours of the figures.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from raydrgn.decoding import latent_input as requests
from raydrgn.decoding.pool import DecoderPool, VolumeDecoder, VolumeRequest
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.mrc import read_header, read_volume, write_volume
from raydrgn.io.storage import Uri
from raydrgn.shapes import Float

CONTOUR_PERCENTILE = 99.99  # half of it is the usual contour level

Progress = Callable[[str, int, int], None]
"""Told what is done, and how many of how many pieces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeSet:
    """Volumes to make."""

    name: str
    folder: Uri
    z: Float[np.ndarray, "k zdim"]
    colours: Sequence[str]
    """Hexadecimal, one per volume."""

    titles: Sequence[str]


@dataclass(frozen=True, slots=True)
class Preview:
    """What is kept in memory of a volume that was written."""

    slices: Float[np.ndarray, "3 d d"]
    """Central slices normal to z, y and x."""

    level: float
    """Contour level of this volume alone."""


@dataclass(frozen=True, slots=True)
class MadeSets:
    """What became of the volumes."""

    previews: list[list[Preview | None]]
    failures: list[str]
    """What could not be made, and why."""


def preview(volume: Float[np.ndarray, "d d d"]) -> Preview:
    """Look at a volume."""
    c = volume.shape[-1] // 2
    slices = np.stack([volume[c], volume[:, c], volume[:, :, c]])
    return Preview(slices, float(np.percentile(volume, CONTOUR_PERCENTILE)) / 2)


def write_and_preview(decoder: VolumeDecoder, wanted: Sequence[VolumeRequest]) -> list[Preview]:
    """Decode, write and look at volumes; those already there, and whole, are only looked at."""
    missing = [request for request in wanted if not _is_whole(request.uri)]
    if missing:
        decoder.write(missing)
    return [preview(read_volume(request.uri)[0]) for request in wanted]


def _is_whole(uri: Uri) -> bool:
    """Tell whether a volume is there with all that its header promises."""
    if not storage.exists(uri):
        return False
    try:
        read_header(uri)
    except InputError:
        return False
    return True


def make_sets(
    pool: DecoderPool, sets: Sequence[VolumeSet], *, progress: Progress | None = None
) -> MadeSets:
    """Make all volumes of some sets, and the ChimeraX script of each set."""
    wanted = [request for one in sets for request in requests.write_latents(one.folder, one.z)]
    seen: dict[Uri, Preview] = {}
    failures, done = [], 0
    for outcome in pool.run(write_and_preview, wanted):
        if outcome.error:
            failures += [f"{request.uri}: {outcome.error}" for request in outcome.item]
        else:
            seen |= {r.uri: look for r, look in zip(outcome.item, outcome.value, strict=True)}
        done += len(outcome.item)
        if progress:
            progress("decoding", done, len(wanted))
    previews, start = [], 0
    for one in sets:
        uris = [request.uri for request in wanted[start : start + len(one.z)]]
        start += len(one.z)
        looks = [seen.get(uri) for uri in uris]
        previews.append(looks)
        _write_script(one, looks)
    return MadeSets(previews, failures)


def copy_maps(one: VolumeSet, uris: Sequence[Uri]) -> MadeSets:
    """Write maps as the volumes of a set, instead of decoding them, and its ChimeraX script."""
    looks = []
    for number, uri in enumerate(uris):
        volume, header = read_volume(uri)
        write_volume(
            storage.join(one.folder, f"vol_{number:03d}.mrc"),
            volume,
            pixel_size_angstrom=header.pixel_size_angstrom,
            origin_angstrom=header.origin_angstrom,
        )
        looks.append(preview(volume))
    _write_script(one, looks)
    return MadeSets([list(looks)], [])


def write_maps(
    one: VolumeSet,
    volumes: Iterable[Float[np.ndarray, "d d d"]],
    *,
    pixel_size_angstrom: float,
) -> None:
    """Write maps that are in memory as the volumes of a set, and its ChimeraX script."""
    looks = []
    for number, volume in enumerate(volumes):
        uri = storage.join(one.folder, f"vol_{number:03d}.mrc")
        write_volume(uri, volume, pixel_size_angstrom=pixel_size_angstrom)
        looks.append(preview(volume))
    _write_script(one, looks)


def previews_of(one: VolumeSet) -> list[Preview]:
    """Return previews of the volumes of a set that are in its folder."""
    uris = [storage.join(one.folder, f"vol_{n:03d}.mrc") for n in range(len(one.titles))]
    return [preview(read_volume(uri)[0]) for uri in uris]


def central_slices(previews: Sequence[Preview | None]) -> list[Float[np.ndarray, "3 d d"] | None]:
    """Return the central slices of previews, None where a volume is missing."""
    return [None if preview is None else preview.slices for preview in previews]


def _write_script(one: VolumeSet, looks: Sequence[Preview | None]) -> None:
    levels = [look.level for look in looks if look]
    if levels:
        script = chimerax_script(one, level=float(np.median(levels)))
        storage.write_bytes(storage.join(one.folder, "open.cxc"), script.encode())


def chimerax_script(one: VolumeSet, *, level: float) -> str:
    """Return ChimeraX commands that open a set; ChimeraX runs them in the script's folder."""
    count = len(one.titles)
    lines = [
        f"# {one.name}: {count} volumes at one contour level, the median of half of their",
        f"# {CONTOUR_PERCENTILE:g}th percentiles; colours are those of the figures",
        "set bgColor white",
        *(f"open vol_{number:03d}.mrc id {number + 1}" for number in range(count)),
        f"volume #1-{count} style surface step 1 level {level:.5g}",
        *(f"color #{number + 1} {colour}" for number, colour in enumerate(one.colours)),
        *(
            f'rename #{number + 1} "{number:03d} {title}"'
            for number, title in enumerate(one.titles)
        ),
        f"hide #2-{count} models" if count > 1 else "",
        "lighting soft",
        "view",
        f"mseries slider #1-{count}" if count > 1 else "",
    ]
    return "\n".join(line for line in lines if line) + "\n"
