"""Fields that stand both in the optics groups and in the particles of a RELION file."""

import numpy as np
import pytest

from phantoms import optics_columns, star_31
from raydrgn.errors import InputError
from raydrgn.io import storage
from raydrgn.io.relion import read_relion


def test_a_value_in_both_tables_is_the_optics_group_s(tmp_path):
    uri, _ = star_31(tmp_path, particles={"rlnImagePixelSize": [2.0] * 4})
    assert read_relion(uri).column("pixel_size_angstrom").tolist() == [1.5] * 4


@pytest.mark.parametrize(
    ("field", "column", "values"),
    [
        ("rlnSphericalAberration", "spherical_aberration_mm", [2.9, 2.92, 2.94, 2.96]),
        ("rlnAmplitudeContrast", "amplitude_contrast", [0.07, 0.08, 0.09, 0.1]),
        ("rlnPhaseShift", "phase_shift_deg", [60.0, 61.0, 62.0, 63.0]),
        ("rlnVoltage", "voltage_kv", [200.0] * 4),
    ],
)
def test_the_ctf_of_a_particle_comes_before_that_of_its_optics_group(
    tmp_path, field, column, values
):
    """RELION's order: a fit of Cs or phase shift writes into the particles, and optics keep theirs.

    (``CTF::readValue`` of RELION 3.1.)
    """
    optics = optics_columns(rlnPhaseShift=[0.0])
    uri, _ = star_31(tmp_path, optics=optics, particles={field: values})
    np.testing.assert_allclose(read_relion(uri).column(column), values, rtol=1e-6)


def test_a_value_of_a_particle_is_named_where_it_stands(tmp_path):
    uri, _ = star_31(tmp_path, particles={"rlnSphericalAberration": [2.7, 2.7, "nan", 2.7]})
    lines = storage.read_bytes(uri).decode().splitlines()
    line = next(i for i, text in enumerate(lines, 1) if " nan" in text)
    with pytest.raises(InputError, match=rf"line {line}: .*rlnSphericalAberration is not a number"):
        read_relion(uri)
