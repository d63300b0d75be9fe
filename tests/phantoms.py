"""Makers that several test modules share: stacks, particle files and tables with known contents.

Files are written by mrcfile and as plain text, not by raydrgn, so that readers are tested against
others' writers.
"""

import dataclasses
import errno
import os
import pickle
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import torch

from raydrgn.io import storage
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable

OPTICS = {
    "defocus_u_angstrom": 15301.1,
    "defocus_v_angstrom": 14916.4,
    "defocus_angle_deg": 5.28,
    "voltage_kv": 300.0,
    "spherical_aberration_mm": 2.7,
    "amplitude_contrast": 0.07,
    "phase_shift_deg": 0.0,
}
"""Those of the first particle of EMPIAR-10076."""

ANGLES_DEG = (-147.9485, 22.58999, 162.539)
ROTATION = np.array(
    [
        [0.90571941, 0.21306972, 0.36643367],
        [-0.27142096, 0.95553406, 0.11526193],
        [-0.32558103, -0.20385275, 0.92327734],
    ]
)
"""What ``ANGLES_DEG`` mean, printed by another program (conventions.md, 2.1)."""


def images_of(count, box=8, seed=0):
    """Return noise, float32."""
    noise = np.random.default_rng(seed).normal(size=(count, box, box))
    return noise.astype(np.float32)


def write_mrc(path, data, *, pixel_size=1.5, volume=False):
    """Write a stack or a volume with mrcfile, in the type and byte order of the array."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mrcfile's, of pixels that are not finite
        with mrcfile.new(path, data, overwrite=True) as mrc:
            mrc.set_volume() if volume else mrc.set_image_stack()
            mrc.voxel_size = pixel_size
    return str(path)


def patch(path, offset, content):
    """Overwrite some bytes of a file."""
    raw = bytearray(Path(path).read_bytes())
    raw[offset : offset + len(content)] = content
    Path(path).write_bytes(bytes(raw))


def loop(name, columns, *, separator=" "):
    """Return a block of a STAR file with one loop; columns as lists of text."""
    head = [f"data_{name}", "", "loop_", *(f"_{c} #{i}" for i, c in enumerate(columns, 1))]
    rows = [separator.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return "\n".join([*head, *rows, "", ""])


def defocus_columns(count):
    """Return RELION's columns of the defocus, the same for all particles."""
    return {
        "rlnDefocusU": [OPTICS["defocus_u_angstrom"]] * count,
        "rlnDefocusV": [OPTICS["defocus_v_angstrom"]] * count,
        "rlnDefocusAngle": [OPTICS["defocus_angle_deg"]] * count,
    }


def optics_columns(**changes):
    """Return the columns of an optics table of one group."""
    columns = {
        "rlnOpticsGroup": [1],
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnImageSize": [8],
        "rlnImagePixelSize": [1.5],
        "rlnVoltage": [300.0],
        "rlnSphericalAberration": [2.7],
        "rlnAmplitudeContrast": [0.07],
    } | changes
    return {name: values for name, values in columns.items() if values is not None}


def pose_columns(count, unit="Angst"):
    """Return RELION's columns of a pose; the shift is (3, −1) in its unit."""
    return {
        **{
            f"rlnAngle{name}": [angle] * count
            for name, angle in zip(("Rot", "Tilt", "Psi"), ANGLES_DEG, strict=True)
        },
        f"rlnOriginX{unit}": [3.0] * count,
        f"rlnOriginY{unit}": [-1.0] * count,
    }


def star_31(folder, count=4, *, stack="stack.mrcs", optics=None, particles=None, version=30001):
    """Write a stack and a RELION 3.1 (or 5.0) file of it; return the file and its images."""
    images = images_of(count)
    write_mrc(folder / "stack.mrcs", images)
    columns = {
        "rlnImageName": [f"{i + 1:06d}@{stack}" for i in range(count)],
        "rlnOpticsGroup": [1] * count,
        **defocus_columns(count),
        **pose_columns(count),
    } | (particles or {})
    columns = {name: values for name, values in columns.items() if values is not None}
    text = f"\n# version {version}\n\n"
    if version >= 50000:
        text += "data_general\n\n_rlnTomoSubTomosAre2DStacks  1\n\n"
    text += loop("optics", optics or optics_columns()) + loop("particles", columns)
    path = folder / "particles.star"
    path.write_text(text)
    return str(path), images


def cs_rows(count=4, *, path=b"stack.mrcs", box=8, fields=()):
    """Return rows of a .cs file, with fields added or, given as None, left out."""
    columns = {
        "uid": np.arange(count, dtype="u8") + 10**18,
        "blob/path": np.array([path] * count, dtype="S40"),
        "blob/idx": np.arange(count, dtype="u4"),
        "blob/shape": np.full((count, 2), box, dtype="u4"),
        "blob/psize_A": np.full(count, 1.5, dtype="f4"),
        "ctf/exp_group_id": np.full(count, 23, dtype="u4"),
        "ctf/accel_kv": np.full(count, 300, dtype="f4"),
        "ctf/cs_mm": np.full(count, 2.7, dtype="f4"),
        "ctf/amp_contrast": np.full(count, 0.07, dtype="f4"),
        "ctf/df1_A": np.full(count, 15301.1, dtype="f4"),
        "ctf/df2_A": np.full(count, 14916.4, dtype="f4"),
        "ctf/df_angle_rad": np.full(count, np.deg2rad(5.28), dtype="f4"),
        "ctf/phase_shift_rad": np.zeros(count, dtype="f4"),
        "alignments3D/pose": np.tile(np.float32([0, 0, np.pi / 2]), (count, 1)),
        "alignments3D/shift": np.tile(np.float32([3, -1]), (count, 1)),
    } | dict(fields)
    columns = {name: np.asarray(v) for name, v in columns.items() if v is not None}
    dtype = [(name, v.dtype, v.shape[1:]) for name, v in columns.items()]
    rows = np.zeros(count, dtype=dtype)
    for name, values in columns.items():
        rows[name] = values
    return rows


def write_cs(folder, rows, name="particles.cs"):
    """Write rows as cryoSPARC does."""
    with (folder / name).open("wb") as stream:
        np.save(stream, rows)
    return str(folder / name)


def table_of(count=4, *, stacks=("/data/a.mrcs",), box=8, pixel_size=1.5, **changes):
    """Return a particle table with poses and CTF; columns may be changed, or left out as None."""
    generator = np.random.default_rng(count)
    codes = np.arange(count) * len(stacks) // max(count, 1)
    columns = {
        "index": np.arange(count),
        "stack": np.array(stacks, dtype=object)[codes],
        "slice": np.concatenate([np.arange((codes == c).sum()) for c in range(len(stacks))]),
        "box": np.full(count, box),
        "rotation": random_matrices(count, generator).reshape(-1, 9),
        "shift_angstrom": generator.uniform(-2, 2, size=(count, 2)),
        "pixel_size_angstrom": np.full(count, pixel_size),
        **{name: np.full(count, OPTICS[name]) for name in CTF_COLUMNS},
    } | changes
    return ParticleTable.from_columns({k: v for k, v in columns.items() if v is not None})


def random_matrices(count, generator):
    """Return rotation matrices: Q of QR decompositions, with determinant +1."""
    q, _ = np.linalg.qr(generator.normal(size=(count, 3, 3)))
    return q * np.sign(np.linalg.det(q))[:, None, None]


def unchecked(kind, **values):
    """Make a frozen dataclass as production does: no types are checked, its own checks are."""
    made = object.__new__(kind)
    for item in dataclasses.fields(kind):
        default = item.default
        if default is dataclasses.MISSING and item.name not in values:
            default = item.default_factory()
        object.__setattr__(made, item.name, values.get(item.name, default))
    made.__post_init__()
    return made


class Hostile:
    """An object whose pickle runs a shell command when it is loaded the ordinary way."""

    def __init__(self, mark):
        self._mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self._mark}",)


def hostile_pickle(folder, name):
    """Write a pickle that would make the file ``ran``; return both."""
    path = folder / name
    path.write_bytes(pickle.dumps(Hostile(folder / "ran")))
    return str(path), folder / "ran"


def hostile_archive(folder, name):
    """Write a torch archive with such a pickle in it; return it and the file it would make."""
    path = folder / name
    torch.save({"epoch": 1, "model_state_dict": Hostile(folder / "ran")}, path)
    return str(path), folder / "ran"


class FullDisk:
    """Stands in for ``os.fsync``: the disk is full whenever a file is to be made durable."""

    def __init__(self, after=0):
        self._left = after
        self._fsync = os.fsync

    def __call__(self, descriptor):
        if not self._left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._left -= 1
        self._fsync(descriptor)


def fill_disk(monkeypatch, *, after=0):
    """Let the disk be full after some more whole files."""
    monkeypatch.setattr(storage.os, "fsync", FullDisk(after))
