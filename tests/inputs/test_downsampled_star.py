"""STAR files of downsampled particles: what changes in them, and what does not."""

import numpy as np
import pytest

from raydrgn.inputs.downsampling import downsample
from raydrgn.inputs.options import DownsamplingOptions
from raydrgn.io.imaging import Imaging
from raydrgn.io.metadata import read_metadata
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.io.sources import open_particles
from raydrgn.io.starrows import read_text_star
from stack_files import write_stack

BOX, SMALL = 16, 8


@pytest.fixture
def rng():
    return np.random.default_rng(7)


RELION_31 = """# version 30001

data_general

_rlnNote 'kept as it is'

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnImagePixelSize #3
_rlnImageSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
1 og1 1.500000 16 300 2.7 0.1
2 "second group" 1.400000 16 200 2.0 0.07

data_particles

loop_
_rlnImageName #1
_rlnDefocusU #2
_rlnDefocusV #3
_rlnDefocusAngle #4
_rlnAngleRot #5
_rlnAngleTilt #6
_rlnAnglePsi #7
_rlnOriginXAngst #8
_rlnOriginYAngst #9
_rlnOriginX #10
_rlnMicrographName #11
_rlnOpticsGroup #12
000003@a.mrcs 10000 10100 10 20 30 40 1.25 -2.5 0.5 "my micrograph.mrc" 2
000001@a.mrcs	11000 11100 10 20 30 40 0.5 0.25 -1.0 b.mrc 1
"""

RELION_30 = """data_

loop_
_rlnImageName #1
_rlnMagnification #2
_rlnDetectorPixelSize #3
_rlnAngleRot #4
_rlnAngleTilt #5
_rlnAnglePsi #6
_rlnOriginX #7
_rlnOriginY #8
_rlnOriginXPrior #9
1@a.mrcs 40000 5 0 0 0 2 -4 6
2@a.mrcs 40000 5 0 0 0 1 3 -2
"""


def test_a_star_file_is_rewritten_where_it_must_be_and_nowhere_else(tmp_path, rng):
    write_stack(tmp_path / "a.mrcs", rng.normal(size=(3, BOX, BOX)).astype(np.float32))
    (tmp_path / "in.star").write_text(RELION_31)
    table = open_particles(ParticleSource(particles=str(tmp_path / "in.star")))
    downsample(table, DownsamplingOptions(out=str(tmp_path / "out.star"), box=SMALL))
    before, after = (read_text_star(str(tmp_path / f"{name}.star")) for name in ("in", "out"))
    old, new = before.particles(), after.particles()
    assert new.columns == old.columns
    assert new.cells("rlnImageName") == ["000001@out.mrcs", "000002@out.mrcs"]
    assert [float(v) for v in new.cells("rlnOriginX")] == [0.25, -0.5]  # pixels are twice as large
    for column in set(old.columns) - {"rlnImageName", "rlnOriginX"}:
        assert new.cells(column) == old.cells(column)
    optics = after.block("optics")
    assert optics.cells("rlnImageSize") == ["8", "8"]
    assert [float(v) for v in optics.cells("rlnImagePixelSize")] == [3.0, 2.8]
    assert optics.cells("rlnOpticsGroupName") == ["og1", "second group"]
    assert after.block("general").head == before.block("general").head
    again = open_particles(ParticleSource(particles=str(tmp_path / "out.star")))
    for name in (*CTF_COLUMNS, "rotation", "shift_angstrom"):
        np.testing.assert_array_equal(again.column(name), table.column(name))


def test_pixel_size_of_relion_3_0_follows(tmp_path, rng):
    write_stack(tmp_path / "a.mrcs", rng.normal(size=(2, BOX, BOX)).astype(np.float32))
    (tmp_path / "in.star").write_text(RELION_30)
    table = open_particles(ParticleSource(particles=str(tmp_path / "in.star")))
    downsample(table, DownsamplingOptions(out=str(tmp_path / "out.star"), box=SMALL))
    again = open_particles(ParticleSource(particles=str(tmp_path / "out.star")))
    np.testing.assert_allclose(again.column("pixel_size_angstrom"), 2.5)  # 5e4 / 4e4 · 2
    out = read_text_star(str(tmp_path / "out.star")).particles()
    assert [float(cell) for cell in out.cells("rlnOriginXPrior")] == [3, -1]  # of helices
    np.testing.assert_allclose(again.column("shift_angstrom"), table.column("shift_angstrom"))


@pytest.mark.parametrize("given", [1.5, None], ids=["given", "of the magnification"])
def test_optics_groups_without_a_pixel_size_get_that_of_the_new_box(given, tmp_path, rng):
    write_stack(tmp_path / "a.mrcs", rng.normal(size=(3, BOX, BOX)).astype(np.float32))
    text = RELION_31.replace("_rlnImagePixelSize #3\n", "")
    text = text.replace(" 1.500000 16", " 16").replace(" 1.400000 16", " 16")
    if given is None:  # 6 µm over 40,000 are 1.5 Å
        text = text.replace("_rlnMicrographName #11", "_rlnMagnification\n_rlnDetectorPixelSize")
        text = text.replace('"my micrograph.mrc"', "40000 6").replace("b.mrc", "40000 6")
    (tmp_path / "in.star").write_text(text)
    table = read_metadata(str(tmp_path / "in.star"), imaging=Imaging(pixel_size_angstrom=given))
    downsample(table, DownsamplingOptions(out=str(tmp_path / "out.star"), box=SMALL))
    optics = read_text_star(str(tmp_path / "out.star")).block("optics")
    assert [float(v) for v in optics.cells("rlnImagePixelSize")] == [3.0, 3.0]
    assert optics.cells("rlnVoltage") == ["300", "200"]
