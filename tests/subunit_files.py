"""Makers of masks, references and maps on disk, by another writer than raydrgn's."""

import numpy as np

from phantoms import write_mrc

BOX = 12


def ball(centre, radius=2.5, box=BOX):
    """Return 1 within a ball."""
    grid = np.stack(np.meshgrid(*[np.arange(box)] * 3, indexing="ij"), axis=-1)
    return (np.linalg.norm(grid - np.array(centre), axis=-1) <= radius).astype(np.float32)


CENTRES = {"a": (3, 3, 3), "b": (8, 3, 6), "c": (6, 8, 8)}
BALLS = {name: ball(centre) for name, centre in CENTRES.items()}


def write_subunits(folder, *, pixel_size=2.0, balls=BALLS, references=True):
    """Write masks, and three times their density as references; return the folder of masks."""
    for kind in ("masks", "reference"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, inside in balls.items():
        write_mrc(
            folder / f"masks/Mask_m_chain{name}.mrc", inside, pixel_size=pixel_size, volume=True
        )
        if references:
            path = folder / f"reference/m_chain{name}.mrc"
            write_mrc(path, 3 * inside, pixel_size=pixel_size, volume=True)
    return folder / "masks"


def write_maps(folder, amounts, *, pixel_size=2.0, noise=0.0):
    """Write a map for each row of amounts: so much of each subunit; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number, row in enumerate(amounts):
        volume = sum(3 * x * b for x, b in zip(row, BALLS.values(), strict=True))
        volume = volume + noise * generator.normal(size=volume.shape)
        write_mrc(
            folder / f"vol_{number:03d}.mrc",
            volume.astype(np.float32),
            pixel_size=pixel_size,
            volume=True,
        )
    return folder
