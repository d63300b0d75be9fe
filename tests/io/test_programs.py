"""Small files of the field's programs, each read or refused as docs/inputs.md has it."""

import pickle
import re
from pathlib import Path

import numpy as np
import numpy.lib.recfunctions as rfn
import pytest

from phantoms import (
    cs_rows,
    defocus_columns,
    images_of,
    loop,
    optics_columns,
    pose_columns,
    random_matrices,
    star_31,
    write_cs,
    write_mrc,
)
from raydrgn.errors import RaydrgnError
from raydrgn.io.cryodrgn import Poses, write_ctf, write_poses
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.io.unmodelled import refuse_unmodelled

DOCS = Path(__file__).parents[2] / "docs" / "inputs.md"
COUNT = 4


def relion_30(folder, **changes):
    write_mrc(folder / "stack.mrcs", images_of(COUNT))
    columns = {
        "rlnImageName": [f"{i + 1:06d}@stack.mrcs" for i in range(COUNT)],
        **defocus_columns(COUNT),
        "rlnVoltage": [300.0] * COUNT,
        "rlnSphericalAberration": [2.7] * COUNT,
        "rlnAmplitudeContrast": [0.07] * COUNT,
        "rlnMagnification": [38168.0] * COUNT,
        "rlnDetectorPixelSize": [5.0] * COUNT,
        **pose_columns(COUNT, unit=""),
    } | changes
    columns = {name: values for name, values in columns.items() if values is not None}
    (folder / "run_data.star").write_text("\n" + loop("", columns))
    return ParticleSource(particles=str(folder / "run_data.star"))


def relion(folder, particles=None, optics=None, version=30001):
    place, _ = star_31(folder, particles=particles, optics=optics, version=version)
    return ParticleSource(particles=place)


NO_POSES = dict.fromkeys(pose_columns(COUNT))


def class_2d(folder):
    angles = {"rlnAngleRot": None, "rlnAngleTilt": None, "rlnClassNumber": [1, 2, 1, 2]}
    return relion(folder, angles)


def flagged(folder):
    return relion(folder, optics=optics_columns(rlnCtfDataArePhaseFlipped=[1]))


def cs(folder, name, prefixes=None, fields=(), count=COUNT):
    write_mrc(folder / "stack.mrcs", images_of(COUNT))
    rows = cs_rows(count, fields=fields)
    if prefixes:
        rows = rfn.repack_fields(rows[[n for n in rows.dtype.names if n.startswith(prefixes)]])
    return ParticleSource(particles=write_cs(folder, rows, name))


def cs_pair(folder, name="J2_particles.cs", other="J2_passthrough_particles.cs", fields=()):
    cs(folder, other, ("uid", "blob", "ctf/exp"))
    return cs(folder, name, ("uid", "alignments3D", "ctf/"), fields)


def heterogeneous(folder):
    psize = {"alignments3D/psize_A": np.full(COUNT, 3.0, "f4")}
    return cs_pair(
        folder, "J4_class_00_00050_particles.cs", "J4_passthrough_particles_class_0.cs", psize
    )


def ab_initio(folder):
    """One class: its poses have the prefix of the class, and pixels of smaller images."""
    poses = {
        "alignments3D/pose": None,
        "alignments3D/shift": None,
        "alignments_class_0/pose": np.tile(np.float32([0, 0, np.pi / 2]), (COUNT, 1)),
        "alignments_class_0/shift": np.tile(np.float32([3, -1]), (COUNT, 1)),
        "alignments_class_0/psize_A": np.full(COUNT, 3.0, "f4"),
    }
    write_mrc(folder / "stack.mrcs", images_of(COUNT))
    rows = cs_rows(COUNT, fields=poses)
    return ParticleSource(particles=write_cs(folder, rows, "J3_class_00_final_particles.cs"))


def all_classes(folder):
    several = {"alignments3D_multi/pose": np.zeros((COUNT, 2, 3), "f4")}
    none = dict.fromkeys(("alignments3D/pose", "alignments3D/shift"))
    return cs(folder, "J4_particles_all_classes.cs", fields=several | none)


def content(name, written):
    def write(folder):
        (folder / name).write_bytes(written)
        return ParticleSource(particles=str(folder / name))

    return write


def cistem(folder):
    columns = {"cisTEMPositionInStack": [1, 2], "cisTEMAnglePhi": [0.0, 1.0]}
    (folder / "p.star").write_text(loop("", columns))
    return ParticleSource(particles=str(folder / "p.star"))


def warp_tilts(folder):
    return relion(
        folder,
        {"rlnGroupName": ["s1", "s1", "s2", "s2"], "rlnCtfScalefactor": [1.0, 0.87, 1.0, 0.87]},
    )


def pickles(folder, particles):
    write_mrc(folder / "particles.mrcs", images_of(COUNT))
    rotations = random_matrices(COUNT, np.random.default_rng(0))
    poses, ctf = str(folder / "poses.pkl"), str(folder / "ctf.pkl")
    write_poses(poses, Poses(rotations, np.zeros((COUNT, 2))))
    write_ctf(ctf, np.tile([8, 1.5, 15_000, 14_000, 5, 300, 2.7, 0.1, 0.0], (COUNT, 1)))
    if particles == "particles.txt":
        (folder / particles).write_text("particles.mrcs\n")
    return ParticleSource(particles=str(folder / particles), poses=poses, ctf=ctf)


def parquet(folder):
    open_particles(relion(folder)).write(str(folder / "particles.parquet"))
    return ParticleSource(particles=str(folder / "particles.parquet"))


ALL, NO_POSE, IMAGES = "images poses ctf", "images ctf", "images"
CASES = {
    ("RELION 3.0", "Refine3D `run_data.star`"): (relion_30, ALL),
    ("RELION 3.1, 4", "Refine3D `run_data.star`"): (relion, ALL),
    ("RELION 5", "Refine3D `run_data.star`"): (lambda f: relion(f, version=50001), ALL),
    ("RELION 3.1, 4", "Extract `particles.star`"): (lambda f: relion(f, NO_POSES), NO_POSE),
    ("RELION 3.1, 4", "Class2D `run_it025_data.star`"): (class_2d, NO_POSE),
    ("RELION 2", "`run_data.star` without pixel size"): (
        lambda f: relion_30(f, rlnDetectorPixelSize=None),
        re.compile(r"no pixel size; give it with `raydrgn parse .*--pixel-size VALUE --table"),
    ),
    ("RELION 4, 5", "tilt series (`rlnTomoName`)"): (
        lambda f: relion(f, {"rlnTomoName": ["t"] * COUNT}),
        re.compile("of tilt series"),
    ),
    ("RELION 3.1, 4", "images multiplied by their CTF, or phase-flipped"): (flagged, ALL),
    ("cryoSPARC 2, 3, 4", "`J2_005_particles.cs` of a refinement with images"): (
        lambda f: cs(f, "J2_005_particles.cs"),
        ALL,
    ),
    ("cryoSPARC 2, 3, 4", "`J2_particles.cs` and `J2_passthrough_particles.cs`"): (cs_pair, ALL),
    ("cryoSPARC 3, 4", "`J4_class_00_00050_particles.cs` of a Heterogeneous Refinement"): (
        heterogeneous,
        ALL,
    ),
    ("cryoSPARC 2, 3, 4", "`J3_class_00_final_particles.cs` of an Ab-Initio Reconstruction"): (
        ab_initio,
        ALL,
    ),
    ("cryoSPARC 2, 3, 4", "`J4_particles_all_classes.cs` of a Heterogeneous Refinement"): (
        all_classes,
        NO_POSE,
    ),
    ("cryoSPARC 2, 3, 4", "`J1_extracted_particles.cs`"): (
        lambda f: cs(f, "J1_extracted_particles.cs", ("uid", "blob", "ctf")),
        NO_POSE,
    ),
    ("cryoSPARC 4", "`J2_particles_exported.cs`"): (
        lambda f: cs(f, "J2_particles_exported.cs"),
        ALL,
    ),
    ("cryoSPARC 2, 3, 4", "`J2_passthrough_particles.cs` alone"): (
        lambda f: cs(f, "J2_passthrough_particles.cs", ("uid", "blob")),
        IMAGES,
    ),
    ("cryoSPARC 4", "`.cs` in the stream format, `.csg`"): (
        content("a.cs", b"\x94CSDAT" + bytes(100)),
        re.compile("stream format"),
    ),
    ("cisTEM 1, 2", "`.star` with columns of its own, `.par`"): (cistem, re.compile("cisTEM")),
    ("EMAN2", "`.hdf`, `.lst`"): (content("a.lst", b"#LSX\n"), re.compile("e2refinetorelion3")),
    ("Warp, M", "single particles, STAR for RELION"): (relion, ALL),
    ("Warp, M", "tilt series, an image per tilt"): (warp_tilts, re.compile("of tilt series")),
    ("Scipion 3", "RELION STAR by “export particles”"): (relion, ALL),
    ("Scipion 3", "`particles.sqlite`"): (
        content("particles.sqlite", b"SQLite format 3\x00"),
        re.compile("Export the particles from Scipion"),
    ),
    ("cryoDRGN 1–4", "`particles.mrcs` with `poses.pkl` and `ctf.pkl`"): (
        lambda f: pickles(f, "particles.mrcs"),
        ALL,
    ),
    ("cryoDRGN 1–4", "`particles.txt`, a list of stacks, with pickles"): (
        lambda f: pickles(f, "particles.txt"),
        ALL,
    ),
    ("raydrgn", "`particles.parquet`"): (parquet, ALL),
}


@pytest.mark.parametrize("program", CASES, ids=": ".join)
def test_each_program_s_file_is_read_or_refused_with_the_way_on(tmp_path, program):
    write, expected = CASES[program]
    source = write(tmp_path)
    if isinstance(expected, re.Pattern):
        with pytest.raises(RaydrgnError, match=expected):
            refuse_unmodelled(open_particles(source))
        return
    table = open_particles(source)
    refuse_unmodelled(table)
    assert len(table) == COUNT
    assert table.single_box() == 8
    assert table.column("slice").tolist() == list(range(COUNT))
    assert (table.has_poses, table.has_ctf) == ("poses" in expected, "ctf" in expected)


def documented():
    """Return the rows of the first table of docs/inputs.md: program, file, and the rest."""
    text = DOCS.read_text().split("## Particles")[1].split("\n#")[0]
    rows = [line.strip("|").split("|") for line in text.split("\n") if line.startswith("| ")]
    return {
        (cells[0].strip(), cells[1].strip()): [c.strip() for c in cells[2:]] for cells in rows[1:]
    }


def test_the_table_of_the_documentation_has_what_is_tested():
    rows = documented()
    assert set(rows) == set(CASES)
    for program, (_, expected) in CASES.items():
        if isinstance(expected, re.Pattern):
            assert rows[program][0] == "refused"
        else:
            words = ["yes" if what in expected else "no" for what in ("images", "poses", "ctf")]
            assert rows[program][:3] == words


@pytest.mark.parametrize("job", [heterogeneous, ab_initio])
def test_pixels_of_smaller_images_that_were_aligned_are_known(tmp_path, job):
    table = open_particles(job(tmp_path))
    np.testing.assert_allclose(table.column("shift_angstrom"), [[9.0, -3.0]] * COUNT)


def test_a_pickle_by_protocol_2_of_an_older_cryodrgn_is_read(tmp_path):
    source = pickles(tmp_path, "particles.mrcs")
    ctf = pickle.loads(Path(source.ctf).read_bytes())
    Path(source.ctf).write_bytes(
        pickle.dumps(ctf, protocol=2).replace(b"numpy._core", b"numpy.core")
    )
    assert open_particles(source).has_ctf


@pytest.mark.parametrize("digits", [1, 7, 10])
def test_numbers_of_images_have_any_number_of_digits(tmp_path, digits):
    names = [f"{i + 1:0{digits}d}@stack.mrcs" for i in (2, 0, 3, 1)]
    table = open_particles(relion(tmp_path, {"rlnImageName": names}))
    assert table.column("slice").tolist() == [2, 0, 3, 1]


def test_of_several_blocks_with_images_the_longest_is_that_of_the_particles(tmp_path):
    source = relion(tmp_path)
    path = Path(source.particles)
    path.write_text(loop("references", {"rlnImageName": ["1@refs.mrcs"]}) + path.read_text())
    assert open_particles(source).column("slice").tolist() == [0, 1, 2, 3]
