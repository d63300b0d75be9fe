"""MRC files of every mode and byte order, as others write them; ours as others read them."""

from collections import namedtuple

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantoms import fill_disk, images_of, patch, write_mrc
from raydrgn.errors import InputError, RaydrgnError, StorageError
from raydrgn.io import storage
from raydrgn.io.mrc import (
    header_bytes,
    read_header,
    read_slices,
    read_volume,
    write_volume,
)
from raydrgn.io.mrc_stacks import StackWriter, reserve_stack, write_slices

KINDS = [
    "<i1", "<i2", ">i2", "<f4", ">f4", "<u2", ">u2", "<f2", ">f2",
]  # fmt: skip


def whole_numbers(kind, count=3, box=6):
    """Return values that every mode holds exactly, negative ones where it has them."""
    low = 0 if np.dtype(kind).kind == "u" else -100
    values = np.random.default_rng(1).integers(low, 100, size=(count, box, box))
    return values.astype(kind)


@pytest.mark.parametrize("place", ["local", "memory"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_and_byte_order_that_mrcfile_writes(tmp_path, kind, place):
    data = whole_numbers(kind)
    uri = write_mrc(tmp_path / "a.mrcs", data, pixel_size=1.31)
    if place == "memory":
        uri, path = f"memory://mrc/{kind[1:]}.mrcs", uri
        storage.write_bytes(uri, storage.read_bytes(path))
    header = read_header(uri)
    assert header.shape == data.shape
    assert header.pixel_size_angstrom == pytest.approx(1.31, rel=1e-6)
    assert not header.is_volume
    for start, count in ((0, 3), (1, 1), (2, 1)):
        pixels = read_slices(header, start, count)
        assert pixels.dtype == np.dtype(kind).newbyteorder("=")
        np.testing.assert_array_equal(pixels, data[start : start + count])


def test_mode_0_is_signed_as_the_standard_says(tmp_path):
    data = np.array([[[-128, -1], [0, 127]]], dtype=np.int8)
    header = read_header(write_mrc(tmp_path / "a.mrcs", data))
    np.testing.assert_array_equal(read_slices(header, 0, 1), data)


@pytest.mark.parametrize(("flags", "value"), [(0, 255), (1, -1)], ids=["unsigned", "signed"])
def test_mode_0_of_imod_says_itself_whether_it_is_signed(tmp_path, flags, value):
    # IMOD's header: imodStamp 1146047817 in word 39, imodFlags in word 40, bit 1 for signed bytes.
    uri = write_mrc(tmp_path / "a.mrcs", np.full((1, 4, 4), -1, dtype=np.int8))
    patch(uri, 152, np.array([1146047817, flags], dtype="<i4").tobytes())
    assert (read_slices(read_header(uri), 0, 1) == value).all()


@pytest.mark.parametrize(
    ("kind", "stamp"),
    [
        ("<f4", b"\x00\x00\x00\x00"),
        (">f4", b"\x00\x00\x00\x00"),
        ("<f4", b"\x44\x41\x00\x00"),  # as some programs write little-endian
        ("<f4", b"\xff\xff\xff\xff"),
        (">f4", b"\xff\xff\xff\xff"),
        ("<f4", b"\x11\x11\x00\x00"),  # of the other byte order
        (">f4", b"\x44\x44\x00\x00"),
    ],
)
def test_a_stamp_that_says_nothing_is_replaced_by_what_makes_sense(tmp_path, stamp, kind):
    data = whole_numbers(kind)
    uri = write_mrc(tmp_path / "a.mrcs", data)
    patch(uri, 212, stamp)
    np.testing.assert_array_equal(read_slices(read_header(uri), 0, 3), data)


def test_pixels_begin_after_the_extended_header(tmp_path):
    data = whole_numbers("<f4")
    path = tmp_path / "a.mrcs"
    with mrcfile.new(path, data) as mrc:
        mrc.set_image_stack()
        mrc.set_extended_header(np.zeros(100, dtype="V1"))
    assert path.stat().st_size == 1024 + 100 + data.nbytes
    np.testing.assert_array_equal(read_slices(read_header(str(path)), 0, 3), data)


@pytest.mark.parametrize(("cell", "samples"), [(0.0, 6), (9.0, 0), (np.nan, 6), (-9.0, 6)])
def test_a_pixel_size_that_makes_no_sense_is_unknown(tmp_path, cell, samples):
    uri = write_mrc(tmp_path / "a.mrcs", whole_numbers("<f4"))
    patch(uri, 28, np.array([samples], dtype="<i4").tobytes())
    patch(uri, 40, np.array([cell], dtype="<f4").tobytes())
    assert read_header(uri).pixel_size_angstrom == 0.0


def test_volumes_know_that_they_are_and_where_they_lie(tmp_path):
    volume = images_of(6, box=6)
    path = tmp_path / "a.mrc"
    with mrcfile.new(path, volume) as mrc:
        mrc.voxel_size = 2.0
        mrc.header.origin = (1.0, 2.0, 3.0)
    read, header = read_volume(str(path))
    np.testing.assert_array_equal(read, volume)
    assert header.is_volume
    assert header.origin_angstrom == (1.0, 2.0, 3.0)
    assert header.pixel_size_angstrom == 2.0


@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), (np.nan, 1.0, 2.0), (1e30, 1.0, 2.0)])
def test_the_start_of_a_map_stands_for_an_origin_that_is_none(tmp_path, origin):
    path = tmp_path / "a.mrc"
    with mrcfile.new(path, images_of(6, box=6)) as mrc:
        mrc.voxel_size = 2.0
        mrc.nstart = (-3, 0, 4)
        mrc.header.origin = origin
    header = read_header(str(path))
    assert header.origin_angstrom == (-6.0, 0.0, 8.0)
    assert header.origin_at(4.0) == (-12.0, 0.0, 16.0)


def test_an_origin_stays_where_it_is_with_another_pixel_size(tmp_path):
    uri = str(tmp_path / "a.mrc")
    write_volume(
        uri,
        images_of(6, box=6),
        pixel_size_angstrom=2.0,
        origin_angstrom=(1.0, 2.0, 3.0),
        start_px=(-3, 0, 4),
    )
    assert read_header(uri).origin_at(4.0) == (1.0, 2.0, 3.0)


def test_maps_of_the_field_with_bad_stamps_are_read(real_maps):
    for path in real_maps[:2]:
        volume, header = read_volume(str(path))
        assert volume.shape == (64, 64, 64)
        assert header.pixel_size_angstrom == pytest.approx(6.55, abs=0.01)
        # the grey values of a map are moderate; in the wrong byte order they are not
        assert 0.01 < volume.max() < 100


# What is written -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_a_written_volume_is_valid_to_mrcfile(tmp_path):
    volume = images_of(6, box=6)
    uri = str(tmp_path / "v.mrc")
    write_volume(uri, volume, pixel_size_angstrom=1.5, origin_angstrom=(1.0, 2.0, 3.0))
    assert mrcfile.validate(uri)
    with mrcfile.open(uri) as mrc:
        np.testing.assert_array_equal(mrc.data, volume)
        assert mrc.is_volume()
        assert mrc.voxel_size.tolist() == pytest.approx((1.5, 1.5, 1.5))
        assert mrc.header.origin.tolist() == (1.0, 2.0, 3.0)
        assert mrc.header.cellb.tolist() == (90, 90, 90)
        assert (mrc.header.mapc, mrc.header.mapr, mrc.header.maps) == (1, 2, 3)
        of_header = [float(mrc.header[name]) for name in ("dmin", "dmax", "dmean", "rms")]
        of_voxels = [volume.min(), volume.max(), volume.mean(), volume.std()]
        assert of_header == pytest.approx(of_voxels, abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_written_stack_is_valid_to_mrcfile(tmp_path, precision):
    images = images_of(5, box=6).astype(precision).astype(np.float32)
    uri = str(tmp_path / "s.mrcs")
    with StackWriter.open(uri, 5, box=6, pixel_size_angstrom=1.5, precision=precision) as writer:
        writer.append(images[:2])
        assert not storage.exists(uri)  # it appears when it is whole
        writer.append(images[2:])
    assert mrcfile.validate(uri)
    with mrcfile.open(uri) as mrc:
        assert mrc.is_image_stack()
        assert mrc.header.mz == 1  # planes of a volume: none (MRC2014)
        assert mrc.data.dtype == precision
        assert mrc.voxel_size.x == pytest.approx(1.5)
        np.testing.assert_array_equal(mrc.data, images)


def test_a_stack_that_does_not_become_whole_does_not_appear(tmp_path):
    uri = str(tmp_path / "s.mrcs")
    with (
        pytest.raises(AssertionError, match="1 images"),
        StackWriter.open(uri, 3, box=6, pixel_size_angstrom=1.5) as writer,
    ):
        writer.append(images_of(2, box=6))
    assert storage.list_names(str(tmp_path)) == []


def test_ranges_of_a_reserved_stack_may_come_in_any_order(tmp_path):
    path, images = tmp_path / "s.mrcs", images_of(5, box=6)
    reserve_stack(path, 5, box=6, pixel_size_angstrom=1.5, precision="float32")
    assert read_header(str(path)).shape == (5, 6, 6)
    for start, stop in ((3, 5), (0, 2), (2, 3), (2, 2)):
        write_slices(path, images[start:stop], start=start)
    np.testing.assert_array_equal(mrcfile.read(path), images)


def test_a_full_disk_is_said_before_images_are_written(tmp_path, monkeypatch):
    def refuse(descriptor, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raydrgn.io.mrc.os.posix_fallocate", refuse)
    with pytest.raises(StorageError, match=r"No room is left to write .*s\.mrcs"):
        reserve_stack(tmp_path / "s.mrcs", 5, box=6, pixel_size_angstrom=1.5, precision="float32")


def test_a_disk_that_fills_up_leaves_no_half_of_a_stack(tmp_path, monkeypatch):
    fill_disk(monkeypatch)
    with (
        pytest.raises(StorageError, match="No room is left"),
        StackWriter.open(str(tmp_path / "s.mrcs"), 2, box=6, pixel_size_angstrom=1.5) as writer,
    ):
        writer.append(images_of(2, box=6))
    assert storage.list_names(str(tmp_path)) == []


# What is refused -----------------------------------------------------------------------------


def refuse(uri, message, read=read_header):
    with pytest.raises(InputError, match=message) as caught:
        read(uri)
    assert isinstance(caught.value, RaydrgnError)
    assert uri in str(caught.value)


def test_a_truncated_stack_is_refused_with_what_is_left_of_it(tmp_path):
    path = tmp_path / "short.mrcs"
    write_mrc(path, images_of(4, box=6))
    path.write_bytes(path.read_bytes()[: 1024 + 2 * 144 + 7])
    refuse(str(path), "truncated: its header promises 4 slices .* 2 whole slices.*again")


def test_a_file_with_more_than_its_header_says_is_refused(tmp_path):
    path = tmp_path / "long.mrcs"
    write_mrc(path, images_of(4, box=6))
    path.write_bytes(path.read_bytes() + b"0" * 144)
    refuse(str(path), "promises 4 slices of 6×6 .*Header and data disagree")


@pytest.mark.parametrize("size", [1, 10, 1023])
def test_less_than_a_header_is_refused(tmp_path, size):
    (tmp_path / "a.mrcs").write_bytes(b"\x00" * size)
    refuse(str(tmp_path / "a.mrcs"), f"has {size:,} bytes; an MRC header alone has 1,024")


@pytest.mark.parametrize("content", [b"\x00" * 2048, b"<data>" * 400, b"\xff" * 2048])
def test_what_is_no_mrc_file_is_refused(tmp_path, content):
    (tmp_path / "a.mrcs").write_bytes(content)
    refuse(str(tmp_path / "a.mrcs"), "is not an MRC file")


@given(content=st.binary(min_size=1024, max_size=1100))
def test_no_bytes_at_all_break_the_reader(content):
    uri = "memory://fuzz/a.mrcs"
    storage.write_bytes(uri, content)
    with pytest.raises(RaydrgnError):
        read_header(uri)


def test_modes_that_are_no_density_are_refused_by_name(tmp_path):
    uri = write_mrc(tmp_path / "a.mrcs", np.zeros((2, 4, 4), dtype=np.complex64))
    refuse(uri, r"mode 4 \(complex float32\); images and maps have one of the modes 0, 1, 2, 6, 12")
    patch(uri, 12, np.array([16], dtype="<i4").tobytes())
    refuse(uri, r"mode 16 \(RGB\)")


@pytest.mark.parametrize(
    ("value", "size", "message"),
    [
        (np.nan, 1.0, "w.mrc: the volume has values that are NaN or infinite"),
        (1e300, 1.0, "NaN or infinite"),
        (1.0, -1.0, "-1.0 is no pixel size"),
        (1.0, np.nan, "nan is no pixel size"),
    ],
)
def test_what_is_no_volume_is_not_written(tmp_path, value, size, message):
    with pytest.raises(InputError, match=message):
        write_volume(tmp_path / "w.mrc", np.full((4, 4, 4), value), pixel_size_angstrom=size)
    assert not (tmp_path / "w.mrc").exists()


@pytest.mark.parametrize("shape", [(5, 5, 5), (4, 6, 6), (6, 6, 4)])
def test_maps_must_be_even_cubes(tmp_path, shape):
    uri = write_mrc(tmp_path / "a.mrc", np.zeros(shape, dtype=np.float32), volume=True)
    refuse(uri, "must be a cube with an even edge", read=read_volume)


def test_maps_must_be_finite(tmp_path):
    volume = np.zeros((6, 6, 6), dtype=np.float32)
    volume[1, 2, 3] = np.nan
    path = write_mrc(tmp_path / "a.mrc", volume, volume=True)
    refuse(path, "voxels that are not finite", read=read_volume)


def test_a_remote_stack_that_ends_while_it_is_read_is_refused():
    uri = "memory://mrc/short.mrcs"
    images = images_of(3, box=6)
    whole = header_bytes(images.shape, pixel_size_angstrom=1.0, is_volume=False) + images.tobytes()
    storage.write_bytes(uri, whole)
    header = read_header(uri)
    storage.write_bytes(uri, whole[:-1])
    with pytest.raises(InputError, match="ends within slice 2"):
        read_slices(header, 1, 2)


def test_a_local_stack_that_ends_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "a.mrcs"
    write_mrc(path, images_of(3, box=6))
    header = read_header(str(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="ended while it was read"):
        read_slices(header, 0, 3)


def test_axes_in_another_order_are_refused(tmp_path):
    write_mrc(tmp_path / "m.mrc", np.ones((4, 4, 4), np.float32), volume=True)
    patch(tmp_path / "m.mrc", 64, np.array([3, 2, 1], dtype="<i4").tobytes())
    refuse(str(tmp_path / "m.mrc"), r"order \(3, 2, 1\), not x, y, z", read=read_volume)


def test_axes_that_a_header_leaves_out_are_x_y_and_z(tmp_path):
    path, volume = tmp_path / "a.mrc", images_of(6, box=6)
    with mrcfile.new(path, volume) as mrc:
        mrc.header.mapc = mrc.header.mapr = mrc.header.maps = 0
    np.testing.assert_array_equal(read_volume(str(path))[0], volume)


def test_a_stack_for_a_store_needs_room_where_it_is_written_first(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(10**9, 0, 10**6))
    with (
        pytest.raises(StorageError, match=r"has 1 MB of room.*another folder with TMPDIR"),
        StackWriter.open("memory://x/a.mrcs", 1000, box=64, pixel_size_angstrom=1.0),
    ):
        pass


def test_images_may_be_changed_wherever_they_were_read(tmp_path):
    for folder in (str(tmp_path), "memory://writable"):
        uri = f"{folder}/a.mrcs"
        with StackWriter.open(uri, 2, box=4, pixel_size_angstrom=1.0) as writer:
            writer.append(np.ones((2, 4, 4), dtype=np.float32))
        images = read_slices(read_header(uri), 0, 2)
        images += 1
        assert images.sum() == 64


def test_voxels_that_are_no_cubes_are_refused_in_maps(tmp_path):
    uri = str(tmp_path / "map.mrc")
    write_volume(uri, np.ones((8, 8, 8), dtype=np.float32), pixel_size_angstrom=2.0)
    for height, is_refused in ((3.0, True), (2.001, False), (0.0, False)):
        with mrcfile.open(uri, mode="r+") as file:
            file.header.cella.y = 8 * height
        if is_refused:
            with pytest.raises(InputError, match=r"voxels of 2 × 3 × 2 Å; .* must be cubes"):
                read_volume(uri)
        else:
            assert read_volume(uri)[1].pixel_size_angstrom == pytest.approx(2.0)
    with mrcfile.open(uri, mode="r+") as file:  # as some programs write a volume as a stack
        file.header.mz, file.header.cella.z = 1, 16
    assert read_volume(uri)[1].pixel_size_angstrom == pytest.approx(2.0)
