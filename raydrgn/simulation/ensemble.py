"""The volumes that simulated particles are drawn from, and which particle shows which."""

import glob
import logging
from dataclasses import dataclass, replace

import numpy as np
import torch

from raydrgn.errors import InputError
from raydrgn.fourier.resample import resample
from raydrgn.geometry.box import check_box
from raydrgn.io.mrc import read_volume
from raydrgn.shapes import Bool, Float, Int
from raydrgn.simulation.junk import KINDS
from raydrgn.simulation.phantom import Phantom, render

log = logging.getLogger(__name__)

FIELD_ANGSTROM = 340.0
"""Edge of the box of a phantom's images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ensemble:
    """Volumes, states, and the truth about every particle."""

    volumes: Float[np.ndarray, "v d d d"]
    """The volume of each state at rest first, in the order of the states, then those of motions."""

    pixel_size_angstrom: float

    state_names: list[str]

    labels: Int[np.ndarray, " n"]
    """State of each particle; also the number of the state's volume."""

    shown: Int[np.ndarray, " n"]
    """The very volume that each particle's image shows."""

    motion_deg: Float[np.ndarray, " n"] | None = None
    """Angle of the motion; NaN for particles that do not move."""

    junk_from: int | None = None
    """The first of the states that are junk; their volumes are empty."""

    junk_seed: int = 0

    def is_junk(self) -> Bool[np.ndarray, " n"]:
        """Return which images show no particle."""
        if self.junk_from is None:
            return np.zeros(len(self.labels), dtype=bool)
        return self.labels >= self.junk_from


def with_junk(ensemble: Ensemble, share: float, *, generator: np.random.Generator) -> Ensemble:
    """Put junk in the place of a share of the particles, half of it ice and half edges.

    Its states come after those of particles, and have empty volumes.
    """
    states, kinds = len(ensemble.state_names), len(KINDS)
    total = len(ensemble.labels)
    rows = generator.choice(total, round(share * total), replace=False)
    empty = np.zeros((kinds, *ensemble.volumes.shape[1:]), dtype=ensemble.volumes.dtype)
    labels, motion = ensemble.labels.copy(), ensemble.motion_deg
    labels[rows] = states + np.arange(len(rows)) % kinds
    shown = np.where(ensemble.shown >= states, ensemble.shown + kinds, ensemble.shown)
    shown[rows] = labels[rows]
    if motion is not None:
        motion = motion.copy()
        motion[rows] = np.nan
    volumes = [ensemble.volumes[:states], empty, ensemble.volumes[states:]]
    return replace(
        ensemble,
        volumes=np.concatenate(volumes),
        state_names=[*ensemble.state_names, *KINDS],
        labels=labels,
        shown=shown,
        motion_deg=motion,
        junk_from=states,
        junk_seed=int(generator.integers(2**31)),
    )


def of_phantom(
    phantom: Phantom, *, num_particles: int, box: int, generator: np.random.Generator
) -> Ensemble:
    """Draw particles from the states of a phantom; moving ones take any frame, evenly.

    A phantom of one moving state has a volume and a label for each frame of the motion.
    """
    check_box(box)
    pixel_size = FIELD_ANGSTROM / box
    angles = phantom.frame_angles()
    rest = phantom.rest_deg

    def volume(number: int, angle: float) -> np.ndarray:
        atoms = phantom.atoms(phantom.states[number], angle_deg=angle)
        return render(atoms, box=box, pixel_size_angstrom=pixel_size)

    if len(phantom.states) == 1:
        frames = generator.integers(len(angles), size=num_particles)
        return Ensemble(
            volumes=np.stack([volume(0, angle) for angle in angles]),
            pixel_size_angstrom=pixel_size,
            state_names=[f"{angle:.1f} deg" for angle in angles],
            labels=frames,
            shown=frames,
            motion_deg=angles[frames],
        )
    volumes = [volume(number, rest) for number in range(len(phantom.states))]
    labels = _draw_labels([state.share for state in phantom.states], num_particles, generator)
    shown, motion = labels.copy(), np.full(num_particles, np.nan)
    for number, state in enumerate(phantom.states):
        if not phantom.moving(state):
            continue
        rows = np.flatnonzero(labels == number)
        frames = generator.integers(len(angles), size=len(rows))
        shown[rows], motion[rows] = len(volumes) + frames, angles[frames]
        volumes += [volume(number, angle) for angle in angles]
    return Ensemble(
        volumes=np.stack(volumes),
        pixel_size_angstrom=pixel_size,
        state_names=[state.name for state in phantom.states],
        labels=labels,
        shown=shown,
        motion_deg=motion,
    )


def of_maps(
    pattern: str, *, num_particles: int, box: int, generator: np.random.Generator
) -> Ensemble:
    """Draw particles evenly from maps on disk, brought to ``box`` by Fourier cropping or padding.

    Raises:
        InputError: If no file matches, or the maps do not share box and pixel size.
    """
    check_box(box)
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise InputError(f"No file matches --maps {pattern!r}; quote the pattern.")
    maps = [read_volume(path) for path in paths]
    first = maps[0][1]
    for path, (_, header) in zip(paths, maps, strict=True):
        same_pixels = np.isclose(header.pixel_size_angstrom, first.pixel_size_angstrom, rtol=1e-3)
        if header.shape != first.shape or not same_pixels:
            raise InputError(
                f"{path} has a box of {header.shape[0]} px of {header.pixel_size_angstrom:.4g} Å, "
                f"but {paths[0]} has {first.shape[0]} px of {first.pixel_size_angstrom:.4g} Å; "
                "the maps must share one grid."
            )
    pixel_size = first.pixel_size_angstrom
    if not pixel_size:
        log.warning("%s has no pixel size in its header; 1 Å is taken", paths[0])
        pixel_size = 1.0
    stacked = torch.from_numpy(np.stack([volume for volume, _ in maps]))
    labels = _draw_labels([1 / len(paths)] * len(paths), num_particles, generator)
    return Ensemble(
        volumes=resample(stacked, box=box, ndim=3).numpy(),
        pixel_size_angstrom=pixel_size * first.shape[0] / box,
        state_names=[path.replace("\\", "/").rsplit("/", 1)[-1] for path in paths],
        labels=labels,
        shown=labels,
    )


def _draw_labels(
    shares: list[float], num_particles: int, generator: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Give each state its share of the particles, to the particle, in random order."""
    ends = np.round(np.cumsum(shares) / np.sum(shares) * num_particles).astype(int)
    labels = np.searchsorted(ends, np.arange(num_particles), side="right")
    return generator.permutation(labels)
