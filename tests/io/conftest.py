"""Particle files of RELION and cryoSPARC, with their stack."""

import numpy as np
import numpy.lib.recfunctions
import pytest

from raydrgn.io.mrc_stacks import StackWriter
from star_and_cs import BOX, COUNT, CS_TYPE, star_text


@pytest.fixture
def folder(tmp_path):
    """A STAR file with its stack."""
    generator = np.random.default_rng(0)
    with StackWriter.open(
        str(tmp_path / "stack.mrcs"), COUNT, box=BOX, pixel_size_angstrom=1.5
    ) as writer:
        writer.append(generator.normal(size=(COUNT, BOX, BOX)).astype(np.float32))
    (tmp_path / "in.star").write_text(star_text())
    return tmp_path


@pytest.fixture
def cs_rows(folder):
    """A .cs file whose paths are marked with >."""
    generator = np.random.default_rng(2)
    rows = np.zeros(COUNT, dtype=CS_TYPE)
    rows["uid"] = generator.integers(1, 2**63, COUNT)
    rows["blob/path"] = b">stack.mrcs"
    rows["blob/idx"] = np.arange(COUNT)
    rows["blob/shape"], rows["blob/psize_A"] = BOX, 1.5
    rows["ctf/df1_A"], rows["ctf/df2_A"], rows["ctf/accel_kv"] = 15_000, 14_000, 300
    rows["ctf/cs_mm"], rows["ctf/amp_contrast"] = 2.7, 0.1
    rows["alignments3D/pose"] = generator.normal(size=(COUNT, 3))
    rows["alignments3D/shift"] = generator.uniform(-1, 1, (COUNT, 2))
    rows["alignments3D/psize_A"] = 1.5
    rows["alignments3D/class"] = np.arange(COUNT)
    with (folder / "in.cs").open("wb") as stream:
        np.save(stream, rows)
    return rows
