"""What a back-projection leaves in its folder: maps, curves, figures and the verdict."""

from raydrgn.errors import ConfigError
from raydrgn.inputs import figures
from raydrgn.inputs.backprojection import Backprojection
from raydrgn.inputs.resolution import Resolution
from raydrgn.io import storage
from raydrgn.io.mrc import write_volume
from raydrgn.io.storage import Uri

NUM_MAPS = 4
FIGURE_BYTES = 10_000_000


def check_folder(folder: Uri, *, box: int) -> None:
    """Refuse a folder without room for the maps.

    Raises:
        ConfigError: If the folder is a file.
        StorageError: If there is no room.
    """
    if storage.exists(folder) and not storage.is_folder(folder):
        raise ConfigError(f"-o {folder} is a file; name a folder.")
    storage.require_room(folder, NUM_MAPS * 4 * box**3 + FIGURE_BYTES, remedy="")


def write_backprojection(
    found: Backprojection, folder: Uri, *, given: Resolution | None = None
) -> None:
    """Write maps, curves, figures and the verdict into a folder.

    Args:
        found: What is written.
        folder: Where to.
        given: Curves of the same particles with the poses that were given.
    """

    def at(name: str) -> Uri:
        return storage.join(folder, name)

    resolution = found.resolution
    volumes = {
        "map.mrc": found.full,
        "half_map_a.mrc": found.halves[0],
        "half_map_b.mrc": found.halves[1],
        "mask.mrc": resolution.mask,
    }
    for name, volume in volumes.items():
        write_volume(at(name), volume, pixel_size_angstrom=resolution.pixel_size_angstrom)
    resolution.write_csv(at("fsc.csv"))
    if given is not None:
        given.write_csv(at("fsc_given_poses.csv"))
    storage.write_bytes(at("verdict.txt"), found.verdict.text().encode())
    storage.write_bytes(at("fsc.png"), figures.draw_curves(resolution, given))
    storage.write_bytes(
        at("backproject.png"),
        figures.draw_maps(found.full, resolution, found.verdict, reference=found.reference),
    )
