"""cryoSPARC's two files of a job become one table, by uid and not by row."""

import json

import numpy as np
import numpy.lib.recfunctions as rfn
import pytest

from phantoms import cs_rows, images_of, write_cs, write_mrc
from raydrgn.errors import ConfigError, InputError
from raydrgn.io.imaging import Imaging
from raydrgn.io.metadata import read_metadata
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.passthrough import passthrough_names, read_joined, read_rows
from raydrgn.io.selection import export_cs
from raydrgn.io.sources import open_particles, require_poses

COUNT = 6
ORDER = [3, 5, 0, 1, 4, 2]
"""Image of each row of the job's own file."""


@pytest.fixture
def job(tmp_path):
    """A refinement's two files: poses and CTF, and the images in another order."""
    write_mrc(tmp_path / "stack.mrcs", images_of(COUNT))
    rows = cs_rows(COUNT)
    rows["alignments3D/shift"][:, 0] = np.arange(COUNT)
    own = [n for n in rows.dtype.names if not n.startswith(("blob", "ctf/exp"))]
    more = [n for n in rows.dtype.names if n.startswith(("blob", "ctf/exp", "uid"))]
    write_cs(tmp_path, rfn.repack_fields(rows[own])[ORDER], "J2_particles.cs")
    write_cs(tmp_path, rfn.repack_fields(rows[more])[::-1], "J2_passthrough_particles.cs")
    return tmp_path


def test_the_passthrough_file_beside_it_is_found_and_joined_by_uid(job):
    table = open_particles(ParticleSource(particles=str(job / "J2_particles.cs")))
    assert table.column("slice").tolist() == ORDER
    assert table.column("shift_angstrom")[:, 0].tolist() == [1.5 * i for i in ORDER]
    assert table.has_ctf
    used = json.loads(table.metadata["passthrough"])
    assert used == [str(job / "J2_passthrough_particles.cs")]


def test_one_that_is_given_is_used(job, tmp_path):
    (job / "far").mkdir()
    (job / "J2_passthrough_particles.cs").rename(job / "far" / "images.cs")
    particles = str(job / "J2_particles.cs")
    with pytest.raises(InputError, match=r"no blob/path and blob/idx.*--passthrough"):
        open_particles(ParticleSource(particles=particles))
    source = ParticleSource(
        particles=particles, passthrough=(str(job / "far" / "images.cs"),), datadir=str(job)
    )
    assert open_particles(source).column("slice").tolist() == ORDER


def test_poses_need_no_images_where_box_and_pixel_size_are_given(job):
    (job / "J2_passthrough_particles.cs").unlink()
    imaging = Imaging(box=16, pixel_size_angstrom=3.0)
    table = read_metadata(str(job / "J2_particles.cs"), imaging=imaging, need_images=False)
    assert table.has_poses
    assert table.has_ctf
    assert table.single_box() == 16


@pytest.mark.parametrize(
    ("own", "others"),
    [
        ("J2_particles.cs", ["J2_passthrough_particles.cs"]),
        ("J2_005_particles.cs", ["J2_passthrough_particles.cs"]),
        ("cryosparc_P1_J2_005_particles.cs", ["cryosparc_P1_J2_passthrough_particles.cs"]),
        ("P1_J2_particles.cs", ["P1_J2_passthrough_particles.cs"]),
        ("J2_class_00_00050_particles.cs", ["J2_passthrough_particles_class_0.cs"]),
        ("particles_selected.cs", ["passthrough_particles_selected.cs"]),
        ("J2_split_0.cs", ["J2_passthrough_split_0.cs"]),
        ("J2_class_0_particles.cs", ["J2_passthrough_class_0_particles.cs"]),
    ],
)
def test_cryosparc_s_names_are_known(tmp_path, own, others):
    for name in [own, *others, "J21_passthrough_particles.cs", "J2_passthrough_micrographs.cs"]:
        (tmp_path / name).write_bytes(b"")
    assert passthrough_names(str(tmp_path / own)) == [str(tmp_path / name) for name in others]


def test_a_file_without_a_job_in_its_name_takes_that_of_the_only_job_there(tmp_path):
    """Select 2D writes particles_selected.cs beside J10_passthrough_particles_selected.cs."""
    other = tmp_path / "J10_passthrough_particles_selected.cs"
    for path in (other, tmp_path / "particles_selected.cs"):
        path.write_bytes(b"")
    assert passthrough_names(str(tmp_path / "particles_selected.cs")) == [str(other)]


def test_a_passthrough_file_of_another_job_is_refused(job):
    rows = cs_rows(COUNT)
    rows["uid"] += 1
    other = write_cs(job, rows, "other.cs")
    with pytest.raises(InputError, match=r"1 of 6 particles of .* are not in .*other\.cs, first u"):
        read_joined(str(job / "J2_particles.cs"), [other])
    rows["uid"] = 7
    other = write_cs(job, rows, "other.cs")
    with pytest.raises(InputError, match="has the uid 7 twice"):
        read_joined(str(job / "J2_particles.cs"), [other])


def test_one_beside_it_that_does_not_fit_is_not_used(job):
    write_cs(job, cs_rows(2), "J2_passthrough_particles.cs")
    with pytest.raises(InputError, match=r"no blob/path and blob/idx"):
        open_particles(ParticleSource(particles=str(job / "J2_particles.cs")))


def test_one_beside_it_without_what_is_missing_is_passed_over(job):
    places = rfn.append_fields(cs_rows(COUNT)[["uid"]], "location/center_x_frac", [0.5] * COUNT)
    write_cs(job, np.array(places), "J2_005_passthrough_particles.cs")  # first by its name
    particles = str(job / "J2_particles.cs")
    assert passthrough_names(particles)[0].endswith("J2_005_passthrough_particles.cs")
    _, used = read_joined(particles)
    assert used == (str(job / "J2_passthrough_particles.cs"),)


def test_the_passthrough_file_alone_is_named_as_what_it_is(job):
    images = str(job / "J2_passthrough_particles.cs")
    table = open_particles(ParticleSource(particles=images))
    with pytest.raises(InputError, match=r"passthrough file of a job: .*--passthrough"):
        require_poses(table)


def test_a_star_file_has_no_passthrough(job):
    (job / "a.star").write_text("data_\n")
    with pytest.raises(ConfigError, match="--passthrough belongs to cryoSPARC"):
        read_metadata(str(job / "a.star"), passthrough=["x.cs"])


def test_an_export_has_both_halves(job):
    source = ParticleSource(particles=str(job / "J2_particles.cs"))
    export_cs(source, str(job / "out.cs"))
    rows = read_rows(str(job / "out.cs"))
    assert {"blob/path", "alignments3D/pose", "ctf/df1_A"} <= set(rows.dtype.names)
    assert rows["blob/idx"].tolist() == ORDER
    table = open_particles(source).select(np.array([4, 1]))
    export_cs(source, str(job / "some.cs"), table=table)
    assert read_rows(str(job / "some.cs"))["blob/idx"].tolist() == [ORDER[4], ORDER[1]]
