"""``parse``, ``info`` and ``export`` on the files of the field: what they warn of, and take."""

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import numpy.lib.recfunctions as rfn
import pytest

from phantoms import cs_rows, images_of, optics_columns, star_31, table_of, write_cs, write_mrc
from raydrgn.errors import ConfigError, InputError, StorageError
from raydrgn.inputs.particle_inspection import inspect_particles
from raydrgn.io.indices import write_indices
from raydrgn.io.metadata import read_for_parsing
from raydrgn.io.mrc import read_header
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.workflows import downsample, export, info, parse
from raydrgn.workflows.downsample import DownsampleSettings
from raydrgn.workflows.export import ExportIndicesSettings
from raydrgn.workflows.info import InfoSettings
from raydrgn.workflows.parse import ParseSettings

ORDER = [2, 0, 3, 1]


def parsed(particles, folder, **settings):
    outputs = {name: str(folder / f"{name}.pkl") for name in ("poses", "ctf")}
    return parse.run(ParseSettings(particles=particles, **(outputs | settings)))


def test_pickles_of_a_shuffled_file_come_with_a_warning(tmp_path, caplog):
    names = {"rlnImageName": [f"{i + 1}@stack.mrcs" for i in ORDER]}
    star, _ = star_31(tmp_path, particles=names)
    parsed(star, tmp_path)
    assert (
        "does not list its images in the order of its stacks, first at line 30: poses"
        in caplog.text
    )
    caplog.clear()
    parsed(star, tmp_path, poses=None, ctf=None, table=str(tmp_path / "p.parquet"))
    assert "order of its stacks" not in caplog.text
    parsed(star_31(tmp_path)[0], tmp_path)
    assert "order of its stacks" not in caplog.text


@pytest.mark.parametrize("column", ["rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"])
def test_images_that_are_not_raw_are_named(tmp_path, caplog, column):
    star, _ = star_31(tmp_path, optics=optics_columns(**{column: [1]}))
    parsed(star, tmp_path)
    assert f"{column} of optics group 1" in caplog.text
    assert any(column in concern for concern in info.run(InfoSettings(path=star)).concerns)
    star, _ = star_31(tmp_path, optics=optics_columns(**{column: [0]}))
    caplog.clear()
    parsed(star, tmp_path)
    assert column not in caplog.text
    assert not any(column in concern for concern in inspect_particles(star).concerns)


def test_the_metadata_of_stacks_that_are_elsewhere_are_parsed(tmp_path, caplog):
    star, _ = star_31(tmp_path, stack="elsewhere/p.mrcs")
    place = str(tmp_path / "p.parquet")
    parsed(star, tmp_path, table=place)
    assert "images were not read" in caplog.text
    assert ParticleTable.read(place).stacks == ["elsewhere/p.mrcs"]


def halves(folder, other):
    """Write the two files of a job, the second under another name."""
    write_mrc(folder / "stack.mrcs", images_of(4))
    rows = cs_rows(4)
    own = [name for name in rows.dtype.names if not name.startswith("blob")]
    more = [name for name in rows.dtype.names if name.startswith(("blob", "uid"))]
    particles = write_cs(folder, rfn.repack_fields(rows[own])[ORDER], "J2_particles.cs")
    return particles, write_cs(folder, rfn.repack_fields(rows[more]), other)


@pytest.mark.parametrize("given", [True, False])
def test_a_passthrough_file_is_found_or_given(tmp_path, given):
    name = "images.cs" if given else "J2_passthrough_particles.cs"
    particles, other = halves(tmp_path, name)
    passthrough = (other,) if given else ()
    found = parsed(particles, tmp_path, passthrough=passthrough).particles
    assert found.column("slice").tolist() == ORDER
    assert json.loads(found.metadata["passthrough"]) == [other]
    concerns = info.run(InfoSettings(path=particles, passthrough=passthrough)).concerns
    assert not any("blob/path" in concern for concern in concerns)


def test_poses_need_no_images_where_box_and_pixel_size_are_given(tmp_path):
    particles, _ = halves(tmp_path, "images.cs")
    found = parsed(particles, tmp_path, box=16, pixel_size_angstrom=3.0)
    assert found.particles.has_poses
    with pytest.raises(InputError, match="--passthrough"):
        parsed(particles, tmp_path)


def test_a_selection_of_a_selection_is_checked_against_its_size(tmp_path):
    star, _ = star_31(tmp_path)
    ind = str(tmp_path / "ind.npy")
    write_indices(ind, np.array([1, 4]))
    settings = ExportIndicesSettings(particles=star, of=star, ind=ind, out=str(tmp_path / "n.txt"))
    with pytest.raises(InputError, match=r"from 0 to 3\. There is no 0"):
        export.run_indices(settings)


@pytest.mark.parametrize("name", ["a.npy", "a.star", "a.mrcs", "a.cs", "a.parquet"])
def test_info_names_what_a_download_gave_instead(tmp_path, name):
    (tmp_path / name).write_bytes(b"<!DOCTYPE html><html></html>")
    try:
        message = "; ".join(info.run(InfoSettings(path=str(tmp_path / name))).concerns)
    except InputError as error:
        message = str(error)
    assert "is a web page" in message


def test_info_of_a_table_whose_stacks_have_moved(tmp_path):
    table_of(4, stacks=("/old/Extract/a.mrcs",)).write(str(tmp_path / "p.parquet"))
    (tmp_path / "Extract").mkdir()
    write_mrc(tmp_path / "Extract" / "a.mrcs", images_of(4))
    settings = InfoSettings(path=str(tmp_path / "p.parquet"), datadir=str(tmp_path))
    assert not any("at none of" in concern for concern in info.run(settings).concerns)


def test_nothing_that_is_read_is_replaced_through_a_link(tmp_path):
    star, _ = star_31(tmp_path)
    before = (tmp_path / "stack.mrcs").read_bytes()
    for read in ("particles.star", "stack.mrcs"):
        (tmp_path / f"link_{read}").symlink_to(read)
        with pytest.raises(ConfigError, match="would replace"):
            parsed(star, tmp_path, poses=str(tmp_path / f"link_{read}"))
    assert (tmp_path / "stack.mrcs").read_bytes() == before


def test_a_smaller_stack_goes_where_a_link_leads(tmp_path):
    star, _ = star_31(tmp_path)
    (tmp_path / "big").mkdir()
    (tmp_path / "small.mrcs").symlink_to("big/small.mrcs")
    settings = DownsampleSettings(
        source=ParticleSource(particles=star), out=str(tmp_path / "small.mrcs"), box=6
    )
    downsample.run(settings)
    assert (tmp_path / "small.mrcs").is_symlink()
    assert read_header(str(tmp_path / "big" / "small.mrcs")).shape == (4, 6, 6)
    os.mkfifo(tmp_path / "pipe.mrcs")
    with pytest.raises(StorageError, match="a device, pipe or socket"):
        downsample.run(replace(settings, out=str(tmp_path / "pipe.mrcs")))
    (tmp_path / "own.mrcs").symlink_to("stack.mrcs")
    with pytest.raises(ConfigError, match="would replace"):
        downsample.run(replace(settings, out=str(tmp_path / "own.mrcs")))


def passthrough_pair(folder):
    write_mrc(folder / "stack.mrcs", images_of(4))
    rows = cs_rows()
    images = [name for name in rows.dtype.names if name.startswith(("uid", "blob"))]
    others = [name for name in rows.dtype.names if not name.startswith("blob")]
    found = str(folder / "J2_passthrough_particles.cs")
    write_cs(folder, rfn.repack_fields(rows[images]), "J2_passthrough_particles.cs")
    return write_cs(folder, rfn.repack_fields(rows[others]), "J2_particles.cs"), found


def test_a_passthrough_file_that_was_found_is_not_replaced(tmp_path):
    particles, found = passthrough_pair(tmp_path)
    with pytest.raises(ConfigError, match="which is read"):
        parse.run(ParseSettings(particles=particles, table=found))
    with pytest.raises(ConfigError, match="which is read"):
        export.run_cs(
            export.ExportCsSettings(source=ParticleSource(particles=particles), out=found)
        )
    parse.run(ParseSettings(particles=particles, table=str(tmp_path / "t.parquet")))
    table = ParticleSource(particles=str(tmp_path / "t.parquet"))
    for out in (found, particles):
        with pytest.raises(ConfigError, match="which is read"):
            export.run_cs(export.ExportCsSettings(source=table, out=out))


def test_two_outputs_of_one_name_are_refused(tmp_path):
    particles, _ = star_31(tmp_path)
    out = str(tmp_path / "out.pkl")
    (tmp_path / "link.pkl").symlink_to("out.pkl")
    for other in (out, str(tmp_path / "link.pkl")):
        with pytest.raises(ConfigError, match="is given for two outputs"):
            parse.run(ParseSettings(particles=particles, poses=out, ctf=other))
    parse.run(ParseSettings(particles=particles, poses=os.devnull, ctf=os.devnull))


def test_the_selection_that_is_read_is_not_replaced(tmp_path):
    particles, _ = star_31(tmp_path)
    numbers = str(tmp_path / "numbers.txt")
    write_indices(numbers, np.array([3, 1]))
    with pytest.raises(ConfigError, match="which is read"):
        export.run_indices(ExportIndicesSettings(particles=particles, ind=numbers, out=numbers))


@pytest.mark.parametrize("count", [2, 4])
def test_a_table_is_not_exported_by_an_original_that_has_changed(tmp_path, count):
    particles, _ = star_31(tmp_path)
    table = str(tmp_path / "t.parquet")
    parse.run(ParseSettings(particles=particles, table=table))
    names = [f"{count - i}@stack.mrcs" for i in range(count)]
    star_31(tmp_path, count, particles={"rlnImageName": names})
    write_mrc(tmp_path / "stack.mrcs", images_of(4))
    out = str(tmp_path / "out.star")
    settings = export.ExportStarSettings(source=ParticleSource(particles=table), out=out)
    with pytest.raises(InputError, match="other images than when the particle table was made"):
        export.run_star(settings)
    os.remove(particles)
    assert export.run_star(settings).num_particles == 4


def test_a_folder_of_stacks_that_is_not_there_is_named(tmp_path):
    particles, _ = star_31(tmp_path)
    with pytest.raises(InputError, match=r"--datadir .*gone is not a folder"):
        parse.run(
            ParseSettings(
                particles=particles,
                datadir=str(tmp_path / "gone"),
                table=str(tmp_path / "t.parquet"),
            )
        )


def test_a_link_to_nowhere_is_named_where_a_stack_is_not_found(tmp_path):
    particles, _ = star_31(tmp_path)
    (tmp_path / "stack.mrcs").unlink()
    (tmp_path / "stack.mrcs").symlink_to("gone.mrcs")
    concerns = info.run(InfoSettings(path=particles)).concerns
    assert "stack.mrcs is a link to gone.mrcs, which does not exist." in concerns[0]


@pytest.mark.parametrize("count", [2, 3])
def test_info_refuses_pickles_of_arrays_in_the_wrong_order(tmp_path, count):
    parts = (np.zeros((4, 2)), np.zeros((4, 3, 3)), np.zeros(4))[:count]
    (tmp_path / "swapped.pkl").write_bytes(pickle.dumps(parts))
    with pytest.raises(InputError, match=r"tuple of \d values that do not form one array"):
        info.run(InfoSettings(path=str(tmp_path / "swapped.pkl")))


def test_info_says_how_to_unpack_what_is_compressed(tmp_path):
    (tmp_path / "a.mrcs.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match="Unpack it with gunzip"):
        info.run(InfoSettings(path=str(tmp_path / "a.mrcs.gz")))


def test_without_images_and_pixel_size_nothing_can_be_parsed(tmp_path):
    star = tmp_path / "p.star"
    star.write_text("data_\nloop_\n_rlnImageName #1\n_rlnImageSize #2\n1@elsewhere/p.mrcs 8\n")
    with pytest.raises(InputError, match="at none of"):
        read_for_parsing(str(star), need_images=True)


def test_a_folder_of_stacks_may_be_given_from_here(tmp_path, monkeypatch):
    star, _ = star_31(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "stack.mrcs").rename(tmp_path / "here" / "stack.mrcs")
    monkeypatch.chdir(tmp_path)
    assert read_for_parsing(star, datadir="here", need_images=True).stacks == [
        str(tmp_path / "here" / "stack.mrcs")
    ]
