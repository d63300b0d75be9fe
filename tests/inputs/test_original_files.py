"""Particles with smaller images, given back by the rows of the file they come from."""

from pathlib import Path

import numpy as np
import pytest

from phantoms import (
    cs_rows,
    images_of,
    loop,
    optics_columns,
    pose_columns,
    star_31,
    write_cs,
    write_mrc,
)
from raydrgn.io.imaging import ORIGINAL_BOX
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.workflows import downsample, export
from raydrgn.workflows.downsample import DownsampleSettings

BOX, SMALL = 64, 16
COUNT = 4


def stack(folder, pixel_size=1.0):
    write_mrc(folder / "stack.mrcs", images_of(COUNT, box=BOX), pixel_size=pixel_size)


def star(folder, shift, unit="Angst", pixel_size=1.0, **changes):
    optics = {"rlnImageSize": [BOX], "rlnImagePixelSize": [pixel_size]} | changes
    shifts = {f"rlnOrigin{axis}Angst": None for axis in "XY"}
    shifts |= {f"rlnOrigin{axis}{unit}": [shift] * COUNT for axis in "XY"}
    columns = optics_columns(**optics)
    uri = star_31(folder, COUNT, optics=columns, particles=pose_columns(COUNT) | shifts)[0]
    stack(folder, pixel_size)
    return uri


def star_30(folder, shift):
    """Write a file of RELION 3.0, which gives no box; shifts in pixels of 1 Å."""
    stack(folder)
    columns = {
        "rlnImageName": [f"{i + 1}@stack.mrcs" for i in range(COUNT)],
        "rlnDetectorPixelSize": [5.0] * COUNT,
        "rlnMagnification": [50_000.0] * COUNT,
        **pose_columns(COUNT, unit=""),
        **{f"rlnOrigin{axis}": [shift] * COUNT for axis in "XY"},
    }
    (folder / "particles.star").write_text(loop("", columns))
    return str(folder / "particles.star")


def cs(folder, shift):
    stack(folder)
    fields = {"blob/psize_A": np.ones(COUNT, "f4")}
    fields["alignments3D/shift"] = np.full((COUNT, 2), shift, "f4")
    return write_cs(folder, cs_rows(COUNT, box=BOX, fields=fields))


def made_smaller(particles, out, box=SMALL):
    settings = DownsampleSettings(source=ParticleSource(particles=particles), out=str(out), box=box)
    return downsample.run(settings).particles


def given_back(particles, out):
    settings = {"source": ParticleSource(particles=str(particles)), "out": str(out)}
    if str(out).endswith(".cs"):
        export.run_cs(export.ExportCsSettings(**settings))
    else:
        export.run_star(export.ExportStarSettings(**settings))
    return open_particles(ParticleSource(particles=str(out)))


@pytest.mark.parametrize("write", [star, star_30, cs])
@pytest.mark.parametrize("is_older", [False, True], ids=["", "older"])
def test_shifts_larger_than_a_small_box_of_old_pixels_go_out(write, is_older, tmp_path):
    """20 px of 1 Å: more than 16 px, and less than the 64 px of the original."""
    original = write(tmp_path, 20.0)
    small = made_smaller(original, tmp_path / "small.parquet")
    np.testing.assert_allclose(small.column("pixel_size_angstrom"), 4.0)
    if is_older:  # a table of a version that did not keep the box
        small.with_metadata(ORIGINAL_BOX, None).write(str(tmp_path / "small.parquet"))
    again = given_back(tmp_path / "small.parquet", tmp_path / f"out{Path(original).suffix}")
    np.testing.assert_allclose(again.column("shift_angstrom"), 20.0, rtol=1e-6)
    assert again.single_box() == BOX
