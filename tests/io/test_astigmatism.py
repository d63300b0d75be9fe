"""RELION files of a fit without astigmatism, which lack columns of the defocus."""

import numpy as np
import pytest

from phantoms import OPTICS, star_31
from raydrgn.errors import InputError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.relion import read_relion
from raydrgn.io.selection import export_star
from raydrgn.io.star import read_star

U = OPTICS["defocus_u_angstrom"]


@pytest.mark.parametrize(
    "particles",
    [
        {"rlnDefocusV": None, "rlnDefocusAngle": None},
        {"rlnDefocusV": None},
        {"rlnDefocusV": [U] * 4, "rlnDefocusAngle": None},
    ],
)
def test_the_defocus_is_the_same_in_all_directions(tmp_path, caplog, particles):
    place, _ = star_31(tmp_path, particles=particles)
    table = read_relion(place)
    for name in ("defocus_u_angstrom", "defocus_v_angstrom"):
        np.testing.assert_allclose(table.column(name), U)
    assert "to have no astigmatism" in caplog.text
    export_star(ParticleSource(particles=place), str(tmp_path / "out.star"))
    [_, written] = read_star(str(tmp_path / "out.star"))
    assert written.columns == read_star(place)[1].columns


def test_astigmatism_without_its_angle_is_refused(tmp_path):
    place, _ = star_31(tmp_path, particles={"rlnDefocusAngle": None})
    with pytest.raises(InputError, match="has rlnDefocusU, but no rlnDefocusAngle"):
        read_relion(place)
