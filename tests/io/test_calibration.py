"""A pixel size that replaces that of the file: images were shifted by pixels, and stay so."""

import numpy as np
import pytest

from phantoms import (
    OPTICS,
    cs_rows,
    images_of,
    optics_columns,
    pose_columns,
    star_31,
    write_cs,
    write_mrc,
)
from raydrgn.io import cryodrgn
from raydrgn.io.imaging import Imaging
from raydrgn.io.metadata import read_metadata
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.io.sources import open_particles

OWN, GIVEN = 1.3, 1.5
SHIFT_PX = np.array([1.0, 2.0])


def star(folder, *, optics=None, unit="Angst", factor=OWN):
    """Write particles of 1.3 Å per pixel that are shifted by (1, 2) px."""
    shifts = {f"rlnOrigin{axis}Angst": None for axis in "XY"} | {
        f"rlnOrigin{axis}{unit}": [float(value * factor)] * 4
        for axis, value in zip("XY", SHIFT_PX, strict=True)
    }
    columns = optics or optics_columns(rlnImagePixelSize=[OWN])
    return star_31(folder, optics=columns, particles=pose_columns(4) | shifts)[0]


def in_pixels(folder):
    return star(folder, unit="", factor=1.0)


def of_magnification(folder):
    columns = {"rlnDetectorPixelSize": [5.0], "rlnMagnification": [5e4 / OWN]}
    return star(folder, optics=optics_columns(rlnImagePixelSize=None, **columns))


def aligned(psize):
    def write(folder):
        write_mrc(folder / "stack.mrcs", images_of(4))
        fields = {"blob/psize_A": np.full(4, OWN, "f4")}
        fields["alignments3D/shift"] = np.tile(SHIFT_PX.astype("f4"), (4, 1))
        if psize:
            fields["alignments3D/psize_A"] = np.full(4, psize, "f4")
            fields["alignments3D/shift"] /= psize / OWN
        return write_cs(folder, cs_rows(fields=fields))

    return write


WRITERS = {
    "RELION, angstrom": star,
    "RELION, pixels": in_pixels,
    "RELION, magnification": of_magnification,
    "cryoSPARC": aligned(None),
    "cryoSPARC, psize_A": aligned(OWN),
    "cryoSPARC, psize_A of half the box": aligned(2 * OWN),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_shifts_in_pixels_stay_under_a_pixel_size_that_the_user_gives(write, tmp_path):
    uri = write(tmp_path)
    for given, size in ((None, OWN), (GIVEN, GIVEN)):
        table = read_metadata(uri, imaging=Imaging(pixel_size_angstrom=given))
        np.testing.assert_allclose(table.column("pixel_size_angstrom"), size, rtol=1e-6)
        shifts = table.column("shift_angstrom")
        np.testing.assert_allclose(shifts, [SHIFT_PX * size] * 4, rtol=1e-6)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_shifts_in_pixels_stay_under_the_pixel_size_of_a_ctf_pickle(write, tmp_path):
    uri, ctf = write(tmp_path), str(tmp_path / "ctf.pkl")
    rows = [[8, GIVEN, *(OPTICS[name] for name in CTF_COLUMNS)]] * 4
    cryodrgn.write_ctf(ctf, np.array(rows, dtype=np.float32))
    table = open_particles(ParticleSource(particles=uri, ctf=ctf))
    np.testing.assert_allclose(table.column("pixel_size_angstrom"), GIVEN, rtol=1e-6)
    shifts = table.column("shift_angstrom")
    np.testing.assert_allclose(shifts, [SHIFT_PX * GIVEN] * 4, rtol=1e-6)


def test_shifts_in_angstrom_stand_where_the_file_has_no_pixel_size(tmp_path):
    uri = star(tmp_path, optics=optics_columns(rlnImagePixelSize=None), factor=1.0)
    table = read_metadata(uri, imaging=Imaging(pixel_size_angstrom=GIVEN))
    np.testing.assert_allclose(table.column("shift_angstrom"), [SHIFT_PX] * 4, rtol=1e-6)
