"""Particles of cryoSPARC go to RELION with their micrographs, and where they are in these."""

import logging
import re

import numpy as np
import numpy.lib.recfunctions as rfn
import pytest

from phantoms import cs_rows, images_of, write_cs, write_mrc
from raydrgn.inputs.downsampling import downsample
from raydrgn.inputs.options import DownsamplingOptions
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.selection import export_star
from raydrgn.io.sources import open_particles
from raydrgn.io.starrows import read_text_star

COUNT = 6
PATHS = [f">J3/motion/mic {i % 2}.mrc" for i in range(COUNT)]
X, Y = np.arange(COUNT) / 8, np.full(COUNT, 0.25)
"""Fractions that single precision has exactly."""

FIELDS = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY")


def located(**changes):
    """Return rows of a .cs file with places in micrographs of 4092 rows and 5760 columns."""
    places = {
        "location/micrograph_path": np.array(PATHS, dtype="S32"),
        "location/micrograph_shape": np.tile(np.uint32([4092, 5760]), (COUNT, 1)),
        "location/center_x_frac": X.astype("f4"),
        "location/center_y_frac": Y.astype("f4"),
    }
    return cs_rows(COUNT, fields=places | changes)


@pytest.fixture
def folder(tmp_path):
    write_mrc(tmp_path / "stack.mrcs", images_of(COUNT))
    return tmp_path


def split_into(folder, rows, *, own, more):
    """Write rows as a job's own file and its passthrough file, in another order."""
    for name, parts, order in (
        ("J2_particles.cs", own, slice(None)),
        ("J2_passthrough_particles.cs", more, slice(None, None, -1)),
    ):
        kept = [n for n in rows.dtype.names if n.startswith((*parts, "uid"))]
        write_cs(folder, rfn.repack_fields(rows[kept])[order], name)
    return ParticleSource(particles=str(folder / "J2_particles.cs"))


def exported(folder, source, *, rows=None, table=None):
    out = str(folder / "out.star")
    if rows is not None:
        table = open_particles(source).select(np.array(rows))
    export_star(source, out, table=table)
    return read_text_star(out).particles()


@pytest.mark.parametrize(
    ("own", "more"),
    [
        (("alignments3D", "ctf"), ("blob", "location")),
        (("alignments3D", "ctf", "blob"), ("location",)),  # after Restack, nothing else is missing
        (("alignments3D", "ctf", "blob", "location"), ()),
    ],
    ids=["with the images", "places alone", "own"],
)
def test_coordinates_are_in_pixels_of_the_micrograph(own, more, folder):
    source = split_into(folder, located(), own=own, more=more)
    particles = exported(folder, source, rows=[4, 1])
    assert particles.cells("rlnMicrographName") == [PATHS[4][1:], PATHS[1][1:]]
    assert np.float64(particles.cells("rlnCoordinateX")).tolist() == [4 / 8 * 5760, 1 / 8 * 5760]
    assert np.float64(particles.cells("rlnCoordinateY")).tolist() == [1023, 1023]
    assert len(open_particles(ParticleSource(particles=str(folder / "out.star")))) == 2


def test_smaller_images_keep_the_place_of_the_particle(folder):
    source = split_into(folder, located(), own=("alignments3D", "ctf"), more=("blob", "location"))
    options = DownsamplingOptions(box=4, out=str(folder / "small.star"))
    downsample(open_particles(source), options)
    particles = read_text_star(str(folder / "small.star")).particles()
    np.testing.assert_allclose(np.float64(particles.cells("rlnCoordinateX")), X * 5760)
    assert particles.cells("rlnMicrographName") == [path[1:] for path in PATHS]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"location/micrograph_path": np.array([*PATHS[:5], ""], dtype="S32")},
            r"for 1 of 6 particles, such as row 5",
        ),
        ({"location/center_x_frac": np.full(COUNT, np.nan, "f4")}, r"center_x_frac is not finite"),
        ({"location/micrograph_path": None}, r"has no location/micrograph_path"),
    ],
)
def test_without_them_the_rest_is_written_and_a_message_says_why(changes, message, folder, caplog):
    caplog.set_level(logging.INFO, logger="raydrgn")
    place = write_cs(folder, located(**changes), "particles.cs")
    particles = exported(folder, ParticleSource(particles=place))
    assert len(particles.rows) == COUNT
    assert not set(FIELDS) & set(particles.columns)
    assert len([r for r in caplog.records if "rlnMicrographName" in r.message]) == 1
    assert caplog.text.count("rlnMicrographName") == 1
    assert re.search(message, caplog.text)


def test_names_without_shapes_have_no_coordinates(folder):
    place = write_cs(folder, located(**{"location/micrograph_shape": None}), "particles.cs")
    particles = exported(folder, ParticleSource(particles=place))
    assert set(FIELDS) & set(particles.columns) == {"rlnMicrographName"}


def test_a_cs_file_that_is_gone_is_named(folder, caplog):
    place = write_cs(folder, located(), "particles.cs")
    source = ParticleSource(particles=place)
    table = open_particles(source)
    (folder / "particles.cs").unlink()
    particles = exported(folder, source, table=table)
    assert not set(FIELDS) & set(particles.columns)
    assert f"{place}, from which the particles were read, does not exist" in caplog.text
