"""Images of several boxes and pixel sizes, downsampled to one box: what they show, and where."""

import numpy as np
import pytest

from raydrgn.errors import ConfigError, InputError
from raydrgn.inputs.downsampling import downsample
from raydrgn.inputs.options import DownsamplingOptions
from raydrgn.inputs.particle_inspection import inspect_particles
from raydrgn.io.mrc import read_header, read_slices
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.io.pixel_sizes import reference_pixel_size
from raydrgn.io.relionwriter import write_relion
from raydrgn.io.sources import open_particles
from raydrgn.io.starrows import read_text_star
from raydrgn.workflows import downsample as workflow
from stack_files import write_stack

SMALL = 24
CAMERAS = ((48, 1.0), (40, 1.5), (37, 1.25))
"""Box and pixel size, Å: fields of view of 48, 60 and 45 Å (of 36 px, which are even)."""

TAKEN = (44, 30, 36)
"""Even numbers of pixels that are next to 45 Å."""


def blob(box, pixel_size):
    """A Gaussian of SD 4 Å at (3, -2) Å from the centre, as a camera samples it."""
    x = (np.arange(box) - box // 2) * pixel_size
    return np.exp(-((x[None] - 3) ** 2 + (x[:, None] + 2) ** 2) / 32).astype(np.float32)


def table_of(folder, images, cameras=CAMERAS):
    """Return a table of the images of each camera, which follow each other in no order."""
    count = sum(map(len, images))
    camera = np.repeat(np.arange(len(cameras)), [len(of) for of in images])
    stacks = [
        write_stack(folder / f"{number}.mrcs", of, pixel_size=cameras[number][1])
        for number, of in enumerate(images)
    ]
    table = ParticleTable.from_columns(
        {
            "index": np.arange(count),
            "stack": np.array(stacks, dtype=object)[camera],
            "slice": np.concatenate([np.arange(len(of)) for of in images]),
            "box": np.array([box for box, _ in cameras])[camera],
            "pixel_size_angstrom": np.array([size for _, size in cameras])[camera],
            "shift_angstrom": np.tile([1.5, -3.0], (count, 1)),
            "rotation": np.tile(np.eye(3).ravel(), (count, 1)),
            "optics_group": [str(number + 1) for number in camera],
        }
    )
    return table.select(np.random.default_rng(3).permutation(count))


def blobs(folder, cameras=CAMERAS):
    """Return a table of two images of each camera, the second twice as strong."""
    pairs = [np.stack([blob(*camera), 2 * blob(*camera)]) for camera in cameras]
    return table_of(folder, pairs, cameras)


def small_images(folder, table, **given):
    options = DownsamplingOptions(out=str(folder / "small.parquet"), box=SMALL, **given)
    small = downsample(table, options)
    return small, read_slices(read_header(small.stacks[0]), 0, len(small))


def camera_of(table):
    return table.column("optics_group").astype(int) - 1


def test_all_show_the_same_in_one_field_of_view(tmp_path):
    table = blobs(tmp_path)
    small, images = small_images(tmp_path, table)
    assert small.single_box() == SMALL
    for row, camera in enumerate(camera_of(table).tolist()):
        taken = TAKEN[camera]
        pixel_size = taken * CAMERAS[camera][1] / SMALL
        assert small.column("pixel_size_angstrom")[row] == pytest.approx(pixel_size)
        # The sum of pixels is kept, times what makes noise of one SD in all images alike.
        scale = (taken / SMALL) ** 2 * max(TAKEN) / taken
        true = (1 + table.column("index")[row] % 2) * scale * blob(SMALL, pixel_size)
        np.testing.assert_allclose(images[row], true, atol=2e-3 * true.max())


def test_noise_of_one_sd_has_one_power_afterwards(tmp_path):
    rng = np.random.default_rng(5)
    noise = [rng.standard_normal((60, box, box)).astype(np.float32) for box, _ in CAMERAS]
    table = table_of(tmp_path, noise)
    _, images = small_images(tmp_path, table)
    found = [images[camera_of(table) == camera].std() for camera in range(len(CAMERAS))]
    np.testing.assert_allclose(found, found[0], rtol=0.02)


def test_pixel_sizes_too_different_for_one_map_become_one(tmp_path):
    table = blobs(tmp_path, ((48, 1.0), (48, 1.5)))
    with pytest.raises(InputError, match=r"pixel sizes from 1 to 1.5 Å.*`raydrgn downsample`"):
        reference_pixel_size(table)
    small, _ = small_images(tmp_path, table)
    np.testing.assert_allclose(small.column("pixel_size_angstrom"), 2.0)


def test_images_of_one_box_stay_whole_where_pixel_sizes_are_alike(tmp_path):
    small, _ = small_images(tmp_path, blobs(tmp_path, ((48, 1.0), (48, 1.1))))
    assert set(small.column("pixel_size_angstrom").round(4).tolist()) == {2.0, np.float32(2.2)}


def test_images_of_an_odd_box_lose_a_row_and_a_column(tmp_path):
    table = blobs(tmp_path, ((37, 1.25),))
    small, images = small_images(tmp_path, table)
    true = 2.25 * blob(SMALL, 1.875)
    for image, index in zip(images, table.column("index"), strict=True):
        np.testing.assert_allclose(image, (1 + index) * true, atol=5e-3)
    assert small.column("pixel_size_angstrom")[0] == 1.875


def test_a_star_file_has_the_new_pixel_size_of_each_group(tmp_path):
    write_relion(str(tmp_path / "in.star"), blobs(tmp_path))
    table = open_particles(ParticleSource(particles=str(tmp_path / "in.star")))
    downsample(table, DownsamplingOptions(out=str(tmp_path / "out.star"), box=SMALL))
    optics = read_text_star(str(tmp_path / "out.star")).block("optics")
    sizes = dict(
        zip(optics.cells("rlnOpticsGroup"), optics.cells("rlnImagePixelSize"), strict=True)
    )
    assert {int(group): float(size) for group, size in sizes.items()} == {
        number + 1: pytest.approx(TAKEN[number] * CAMERAS[number][1] / SMALL)
        for number in range(len(CAMERAS))
    }
    again = open_particles(ParticleSource(particles=str(tmp_path / "out.star")))
    assert again.single_box() == SMALL
    np.testing.assert_array_equal(again.column("shift_angstrom"), table.column("shift_angstrom"))
    assert reference_pixel_size(again) > 0


def test_an_optics_group_may_have_several_boxes(tmp_path):
    table = blobs(tmp_path, ((48, 1.0), (40, 1.0))).with_columns({"optics_group": ["1"] * 4})
    write_relion(str(tmp_path / "in.star"), table.with_columns({"box": [48] * 4}))
    star = (tmp_path / "in.star").read_text().replace("rlnImageSize", "rlnOldSize")
    (tmp_path / "in.star").write_text(star)
    table = open_particles(ParticleSource(particles=str(tmp_path / "in.star")))
    assert set(table.column("box")) == {40, 48}
    downsample(table, DownsamplingOptions(out=str(tmp_path / "out.star"), box=20))
    again = open_particles(ParticleSource(particles=str(tmp_path / "out.star")))
    np.testing.assert_array_equal(again.column("pixel_size_angstrom"), 2.0)


def test_what_is_known_of_them_is_shown_before(tmp_path):
    images = [np.stack([blob(*camera), 2 * blob(*camera)]) for camera in CAMERAS]
    images[2][0] = 7.0
    table_of(tmp_path, images).write(str(tmp_path / "in.parquet"))
    found = inspect_particles(str(tmp_path / "in.parquet"))
    concerns = " ".join(found.concerns)
    assert "Images differ in size; `raydrgn downsample`" in concerns
    assert "1 of 6 images examined are constant" in concerns
    assert dict(found.facts)["intensities"].endswith("7")


def test_a_bad_image_is_left_out_by_its_number(tmp_path):
    images = [np.stack([blob(*camera), 2 * blob(*camera)]) for camera in CAMERAS]
    images[1][1, 3, 4] = np.nan
    table = table_of(tmp_path, images)
    table.write(str(tmp_path / "in.parquet"))
    with pytest.raises(InputError, match=r"\b3\b"):
        small_images(tmp_path, table)
    found = workflow.run(
        workflow.DownsampleSettings(
            source=ParticleSource(particles=str(tmp_path / "in.parquet")),
            out=str(tmp_path / "whole.parquet"),
            box=SMALL,
            drop_bad=True,
        )
    )
    assert sorted(found.particles.column("index")) == [0, 1, 2, 4, 5]


def test_what_cannot_be_brought_to_one_field_is_refused(tmp_path):
    table = blobs(tmp_path)
    with pytest.raises(ConfigError, match="-D 32 is larger than the images, which share a field"):
        downsample(table, DownsamplingOptions(out=str(tmp_path / "s.mrcs"), box=32))
    unknown = ParticleTable(table.table.drop_columns("pixel_size_angstrom"))
    with pytest.raises(InputError, match=r"group 1: 2 of 48 px, .* are not known"):
        downsample(unknown, DownsamplingOptions(out=str(tmp_path / "s.mrcs"), box=SMALL))
