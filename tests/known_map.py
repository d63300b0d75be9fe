"""A map of blobs, and noise-free particles of it."""

import numpy as np
import torch

from raydrgn.fourier.slices import SliceSampler
from raydrgn.fourier.transforms import images_from_disc
from raydrgn.geometry.lattice import half_disc, plane_coordinates
from raydrgn.io.mrc_stacks import StackWriter
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable

BOX = 32
PIXEL_SIZE = 6.0


def blobs(box, *, generator, count=40):
    """Return a map of Gaussian blobs in a ball, none of its mirror images alike."""
    radius = 0.28 * box
    centres = generator.normal(size=(count, 3))
    centres *= (radius * generator.uniform(0.2, 1, count) / np.linalg.norm(centres, axis=1))[
        :, None
    ]
    centres[: count // 2, 2] = np.abs(centres[: count // 2, 2])
    ticks = np.arange(-(box // 2), box // 2)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    grid = np.stack([x, y, z], axis=-1)
    return sum(np.exp(-((grid - centre) ** 2).sum(-1) / (2 * 1.0**2)) for centre in centres).astype(
        np.float32
    )


def write_images(path, images, *, pixel_size=PIXEL_SIZE):
    count, box, _ = images.shape
    with StackWriter.open(str(path), count, box=box, pixel_size_angstrom=pixel_size) as writer:
        writer.append(images)
    return str(path)


def project(volume, rotations, shifts_px):
    """Return noise-free projections, sum of pixels included, moved by minus the shifts."""
    box = volume.shape[-1]
    points = half_disc(box)
    places = plane_coordinates(points, box) @ torch.from_numpy(rotations).float() * box
    values = torch.view_as_complex(SliceSampler(torch.from_numpy(volume)).at(places))
    turns = torch.from_numpy(shifts_px).float() @ points.float().t() / box
    values = values * torch.polar(torch.ones_like(turns), 2 * np.pi * turns)
    images = images_from_disc(torch.view_as_real(values), points, box=box)
    return (images + volume.sum() / box**2).numpy()


def particle_table(path, images, rotations, shifts_px, *, ctf=None):
    count, box, _ = images.shape
    columns = {
        "index": np.arange(count),
        "stack": [write_images(path, images)] * count,
        "slice": np.arange(count),
        "box": np.full(count, box),
        "rotation": rotations.reshape(count, 9),
        "shift_angstrom": shifts_px * PIXEL_SIZE,
        "pixel_size_angstrom": np.full(count, PIXEL_SIZE),
    }
    if ctf is not None:
        columns |= {name: ctf[:, i] for i, name in enumerate(CTF_COLUMNS)}
    return ParticleTable.from_columns(columns)
