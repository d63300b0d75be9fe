"""A STAR file and a .cs file of the same particles, and selections of them."""

import numpy as np
import numpy.lib.recfunctions

from raydrgn.io import cryodrgn
from raydrgn.io.particle_source import ParticleSource

COUNT, BOX = 12, 8
STAR = """# version 50001
# a comment of the program

data_general
_rlnTomoSubTomosAre2DStacks 0

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnImagePixelSize #3
_rlnImageSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
1 og1 1.5 8 300 2.7 0.1
2 'the second' 1.5 8 300 2.7 0.1
3 unused 1.5 8 300 2.7 0.1

data_particles

loop_
_rlnDefocusU #1
_rlnDefocusV #2
_rlnImageName #3
_rlnDefocusAngle #4
_rlnPhaseShift #5
_rlnAngleRot #6
_rlnAngleTilt #7
_rlnAnglePsi #8
_rlnOriginXAngst #9
_rlnOriginYAngst #10
_rlnMicrographName #11
_rlnOpticsGroup #12
"""


def star_text(rows=COUNT):
    """Rows with tabs, many spaces, and quotes."""
    text = STAR
    for i in range(rows):
        name = '"a micrograph.mrc"' if i % 3 == 0 else f"m{i}.mrc"
        text += (
            f"  {10_000 + i}.25\t{9_000 + i}   {i + 1:06d}@stack.mrcs 1{i} 0 {i}.5 {3 * i + 1} "
            f"-{i} 0.{i} -1.{i} {name}   {1 + i % 2}\n"
        )
    return text + "\n"


CS_TYPE = [
    ("uid", "<u8"),
    ("blob/path", "S40"),
    ("blob/idx", "<u4"),
    ("blob/shape", "<u4", (2,)),
    ("blob/psize_A", "<f4"),
    ("ctf/exp_group_id", "<u4"),
    ("ctf/df1_A", "<f4"),
    ("ctf/df2_A", "<f4"),
    ("ctf/df_angle_rad", "<f4"),
    ("ctf/accel_kv", "<f4"),
    ("ctf/cs_mm", "<f4"),
    ("ctf/amp_contrast", "<f4"),
    ("ctf/phase_shift_rad", "<f4"),
    ("alignments3D/pose", "<f4", (3,)),
    ("alignments3D/shift", "<f4", (2,)),
    ("alignments3D/psize_A", "<f4"),
    ("alignments3D/class", "<u4"),
]


def source(folder, name="in.star", **options):
    return ParticleSource(particles=str(folder / name), **options)


def write_ind(folder, numbers, kind="pkl"):
    place = str(folder / f"ind.{kind}")
    cryodrgn.write_indices(place, np.array(numbers))
    return place
