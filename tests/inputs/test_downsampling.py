"""Smaller boxes: the mathematics, what is written, and what happens when it goes wrong."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from raydrgn.data.image_statistics import leave_out_bad
from raydrgn.errors import ConfigError, InputError, StorageError, StorageFailureError
from raydrgn.fourier.resample import resample
from raydrgn.inputs import downsampling as work
from raydrgn.inputs import stacks as stacks_module
from raydrgn.inputs.downsampling import downsample
from raydrgn.inputs.options import DownsamplingOptions
from raydrgn.io import storage
from raydrgn.io.mrc import read_header, read_slices, read_volume, write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.relionwriter import write_relion
from raydrgn.io.sources import open_particles
from raydrgn.remote.executor import Executor
from stack_files import PIXEL_SIZE, write_stack

BOX, SMALL = 16, 8


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def data(tmp_path, rng):
    """Thirty particles in two stacks, with poses, CTF and shuffled rows."""
    images = rng.normal(size=(30, BOX, BOX)).astype(np.float32)
    uris = [
        write_stack(tmp_path / "a.mrcs", images[:20]),
        write_stack(tmp_path / "b.mrcs", images[20:]),
    ]
    order = rng.permutation(30)
    codes = (order >= 20).astype(int)
    defocus = dict.fromkeys(CTF_COLUMNS, np.full(30, 0.1)) | {
        "defocus_u_angstrom": rng.uniform(1e4, 2e4, 30),
        "defocus_v_angstrom": rng.uniform(1e4, 2e4, 30),
        "voltage_kv": np.full(30, 300.0),
    }
    found = ParticleTable.from_columns(
        {
            "index": np.arange(30),
            "stack": np.array(uris, dtype=object)[codes],
            "slice": order - 20 * codes,
            "box": np.full(30, BOX),
            "rotation": np.tile(np.eye(3).ravel(), (30, 1)),
            "shift_angstrom": rng.uniform(-3, 3, (30, 2)),
            "pixel_size_angstrom": np.full(30, PIXEL_SIZE),
            "optics_group": ["1"] * 30,
            **defocus,
        }
    )
    return found, torch.from_numpy(images[order])


def hartley_crop(images, box, ndim):
    """The definition: the window of the Hartley transform about its centre, transformed back."""
    axes = tuple(range(-ndim, 0))

    def hartley(x):
        spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(x, axes), axes=axes), axes)
        return spectrum.real - spectrum.imag

    start = (images.shape[-1] - box) // 2
    window = (..., *[slice(start, start + box)] * ndim)
    return hartley(hartley(images)[window]) / box**ndim


def pixels(uri):
    header = read_header(uri)
    return read_slices(header, 0, header.shape[0])


def assert_same(made, expected):
    """Compare to single precision: transforms of larger batches round otherwise."""
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(16, 8), (18, 8), (12, 10), (16, 14)])
def test_images_are_the_window_of_their_hartley_transform(old, new, rng):
    images = rng.normal(size=(3, old, old))
    small = resample(torch.from_numpy(images.astype(np.float32)), box=new, ndim=2)
    np.testing.assert_allclose(small, hartley_crop(images, new, 2), atol=2e-6)
    np.testing.assert_allclose(small.sum((1, 2)), images.sum((1, 2)), atol=1e-4)


def test_a_wave_keeps_its_place(rng):
    # A cosine of 2 periods about the centre pixel, 0.3 of the field off: the same in both boxes.
    def wave(box):
        x = (np.arange(box) - box // 2) / box
        return np.tile(np.cos(2 * np.pi * 2 * (x - 0.3)), (box, 1))

    small = resample(torch.from_numpy(wave(64)[None]).float(), box=16, ndim=2)[0]
    np.testing.assert_allclose(small, 16 * wave(16), atol=1e-4)  # (64/16)² of the grey value


@pytest.mark.parametrize("out", ["small.mrcs", "small.txt", "small.star", "small.parquet"])
def test_order_and_metadata_are_kept(out, data, tmp_path):
    table, images = data
    made = downsample(table, DownsamplingOptions(out=str(tmp_path / out), box=SMALL))
    expected = resample(images, box=SMALL, ndim=2).numpy()
    assert_same(pixels(str(tmp_path / "small.mrcs")), expected)
    header = read_header(str(tmp_path / "small.mrcs"))
    assert header.pixel_size_angstrom == pytest.approx(PIXEL_SIZE * BOX / SMALL)
    again = open_particles(ParticleSource(particles=str(tmp_path / out)))
    assert again.single_box() == SMALL
    np.testing.assert_array_equal(again.column("slice"), np.arange(30))
    np.testing.assert_allclose(again.column("pixel_size_angstrom"), 3.0)
    if out.endswith((".star", ".parquet")):
        for name in (*CTF_COLUMNS, "shift_angstrom"):
            np.testing.assert_array_equal(again.column(name), made.column(name))


def test_chunks_are_listed_in_order(data, tmp_path):
    table, images = data
    downsample(table, DownsamplingOptions(out=str(tmp_path / "s.mrcs"), box=SMALL, chunk=12))
    assert (tmp_path / "s.txt").read_text().split() == ["s.0.mrcs", "s.1.mrcs", "s.2.mrcs"]
    parts = [pixels(str(tmp_path / f"s.{i}.mrcs")) for i in range(3)]
    assert [len(part) for part in parts] == [12, 12, 6]
    assert_same(np.concatenate(parts), resample(images, box=SMALL, ndim=2))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", [0, 1, 2, 6, 12])
def test_every_mode_and_byte_order_comes_in(mode, order, tmp_path, rng):
    low = 0 if mode == 6 else -100
    images = rng.integers(low, 100, size=(5, BOX, BOX)).astype(np.float32)
    uri = write_stack(tmp_path / "in.mrcs", images, mode=mode, order=order)
    downsample(
        open_particles(ParticleSource(particles=uri)),
        DownsamplingOptions(out=str(tmp_path / "out.mrcs"), box=SMALL),
    )
    assert_same(
        pixels(str(tmp_path / "out.mrcs")),
        resample(torch.from_numpy(images), box=SMALL, ndim=2),
    )


def test_half_precision_is_mode_12(data, tmp_path):
    table, images = data
    downsample(table, DownsamplingOptions(out=str(tmp_path / "h.mrcs"), box=SMALL, float16=True))
    raw = (tmp_path / "h.mrcs").read_bytes()
    assert int.from_bytes(raw[12:16], "little") == 12
    assert len(raw) == 1024 + 30 * SMALL**2 * 2
    expected = resample(images, box=SMALL, ndim=2).half().numpy()
    np.testing.assert_allclose(pixels(str(tmp_path / "h.mrcs")), expected, rtol=2e-3)  # 11 bits


def test_values_too_large_for_half_precision_are_refused(tmp_path, rng):
    images = 1e5 * rng.normal(size=(4, BOX, BOX)).astype(np.float32)
    table = open_particles(ParticleSource(particles=write_stack(tmp_path / "in.mrcs", images)))
    with pytest.raises(InputError, match=r"65504.*--float16"):
        downsample(
            table, DownsamplingOptions(out=str(tmp_path / "h.mrcs"), box=SMALL, float16=True)
        )


def test_a_map_keeps_field_and_origin(tmp_path, rng):
    volume = rng.normal(size=[BOX] * 3).astype(np.float32)
    place = str(tmp_path / "map.mrc")
    write_volume(place, volume, pixel_size_angstrom=1.0, origin_angstrom=(5.0, 6.0, 7.0))
    work.downsample_volume(place, str(tmp_path / "small.mrc"), box=SMALL)
    small, header = read_volume(str(tmp_path / "small.mrc"))
    np.testing.assert_allclose(small, hartley_crop(volume.astype(float), SMALL, 3), atol=2e-5)
    assert header.pixel_size_angstrom == pytest.approx(2.0)
    assert header.origin_angstrom == (5.0, 6.0, 7.0)


class _PowerFails(Exception):
    pass


@pytest.mark.parametrize("chunk", [0, 7])
def test_an_interrupted_run_goes_on_and_writes_nothing_twice(chunk, data, tmp_path, monkeypatch):
    table, images = data
    monkeypatch.setattr(stacks_module, "block_ends", lambda a, b, box: _pairs(a, b, 3))
    monkeypatch.setattr(stacks_module, "BLOCKS_PER_PART", 1)
    options = DownsamplingOptions(out=str(tmp_path / "s.mrcs"), box=SMALL, chunk=chunk)
    written = []

    def write(part):
        if len(written) == 5:
            raise _PowerFails
        written.append((part.start, part.stop))
        return original(part)

    original = work.write_part
    monkeypatch.setattr(work, "write_part", write)
    with pytest.raises(_PowerFails):
        downsample(table, options)
    assert not (tmp_path / "s.mrcs").exists()
    first = set(written)
    written[:] = [None] * 100  # never 5 again
    downsample(table, options)
    second = set(written[100:])
    assert not first & second
    assert sum(b - a for a, b in first | second) == len(table)
    uris = [f"s.{i}.mrcs" for i in range(5)] if chunk else ["s.mrcs"]
    made = np.concatenate([pixels(str(tmp_path / uri)) for uri in uris])
    assert_same(made, resample(images, box=SMALL, ndim=2))
    assert not list(tmp_path.glob("*.part"))
    written.clear()
    written.append(None)
    downsample(table, options)
    assert written == [None]  # a third time there is nothing to do


def test_a_stack_that_got_its_name_without_a_record_is_whole(data, tmp_path, monkeypatch):
    table, _ = data
    options = DownsamplingOptions(out=str(tmp_path / "s.mrcs"), box=SMALL)
    downsample(table, options)
    made = (tmp_path / "s.mrcs").stat().st_mtime_ns
    [state] = [p for p in tmp_path.iterdir() if p.suffix == ".json"]
    raw = json.loads(state.read_text())
    state.write_text(json.dumps({**raw, "stacks": []}))  # it was killed before this was written
    downsample(table, options)
    assert (tmp_path / "s.mrcs").stat().st_mtime_ns == made
    state.write_text(json.dumps({**raw, "stacks": [], "parts": []}))
    with pytest.raises(InputError, match="exists, and is not a whole result"):
        downsample(table, options)


def test_a_mistake_is_reported_as_it_is_beside_other_failures(data):
    table, _ = data
    failures = [StorageError("no room"), InputError("leave out --float16")]
    with pytest.raises(InputError, match=r"^leave out --float16$"):
        work._refuse(table, np.empty(0, dtype=np.int64), failures)
    with pytest.raises(StorageError, match=r"no room.*run the same command again"):
        work._refuse(table, np.empty(0, dtype=np.int64), failures[:1])
    away = StorageFailureError("the store does not answer.")
    with pytest.raises(StorageFailureError, match="the store does not answer"):
        work._refuse(table, np.empty(0, dtype=np.int64), [away])


def _pairs(start, stop, size):
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def test_another_input_is_not_taken_for_the_same(data, tmp_path):
    table, _ = data
    options = DownsamplingOptions(out=str(tmp_path / "s.mrcs"), box=SMALL)
    downsample(table, options)
    other = table.select(np.arange(29, -1, -1))
    with pytest.raises(InputError, match=r"s.mrcs exists.*--overwrite"):
        downsample(other, options)
    downsample(other, DownsamplingOptions(out=options.out, box=SMALL, overwrite=True))


def test_a_full_disk_is_noticed_before_the_start(data, tmp_path, monkeypatch):
    table, _ = data
    usage = namedtuple("usage", "total used free")(10**4, 10**4 - 5000, 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(StorageError, match=r"5 kB of room.*--float16"):
        downsample(table, DownsamplingOptions(out=str(tmp_path / "s.mrcs"), box=SMALL))
    assert {p.name for p in tmp_path.iterdir()} == {"a.mrcs", "b.mrcs"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box": 32}, "-D 32 is larger than the images, which have 16"),
        ({"out": "s.mrc"}, r"should end in .mrcs, .txt, .star or .parquet.*--is-volume"),
        ({"out": "s.png", "is_volume": True}, "s.png should end in .mrc or .map"),
        ({"box": 7}, "--box must be even"),
        ({"out": "a.mrcs"}, "would replace .*a.mrcs, which is read"),
        ({"chunk": -1}, "--chunk must be at least 0"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message, data, tmp_path):
    values = {"out": "s.mrcs", "box": SMALL} | changes
    with pytest.raises(ConfigError, match=message):
        downsample(data[0], DownsamplingOptions(**values | {"out": str(tmp_path / values["out"])}))


def test_a_folder_in_place_of_the_table_is_found_before_images_are_written(data, tmp_path):
    (tmp_path / "small.star").mkdir()
    with pytest.raises(StorageError, match=r"small\.star is a folder; give the name of a file"):
        downsample(data[0], DownsamplingOptions(out=str(tmp_path / "small.star"), box=SMALL))
    assert not (tmp_path / "small.mrcs").exists()


def test_a_map_does_not_grow(tmp_path):
    write_volume(str(tmp_path / "m.mrc"), np.zeros((8, 8, 8), np.float32), pixel_size_angstrom=1.0)
    with pytest.raises(ConfigError, match="-D 16 is larger than the map"):
        work.downsample_volume(str(tmp_path / "m.mrc"), str(tmp_path / "n.mrc"), box=16)


def test_bad_images_are_named_and_can_be_left_out(tmp_path, rng):
    images = rng.normal(size=(6, BOX, BOX)).astype(np.float32)
    images[2, 3, 3] = np.nan
    images[4] = 5
    table = open_particles(ParticleSource(particles=write_stack(tmp_path / "in.mrcs", images)))
    options = DownsamplingOptions(out=str(tmp_path / "s.mrcs"), box=SMALL)
    with pytest.raises(InputError, match=r"particles 2, 4 .*--drop-bad"):
        downsample(table, options)
    assert not (tmp_path / "s.mrcs").exists()
    kept, _ = leave_out_bad(table)
    assert downsample(kept, options).column("index").tolist() == [0, 1, 3, 5]


def test_a_url_takes_whole_stacks(data):
    table, images = data
    downsample(table, DownsamplingOptions(out="memory://prep/s.txt", box=SMALL, chunk=20))
    assert storage.list_names("memory://prep") == [
        "s.0.mrcs", "s.1.mrcs", "s.txt", "s.txt.downsample.json",
    ]  # fmt: skip
    made = np.concatenate([pixels(f"memory://prep/s.{i}.mrcs") for i in range(2)])
    assert_same(made, resample(images, box=SMALL, ndim=2))


@pytest.mark.ray
def test_tasks_write_what_the_function_writes(ray_session, data, tmp_path, monkeypatch):
    table, images = data
    monkeypatch.setattr(stacks_module, "block_ends", lambda a, b, box: _pairs(a, b, 4))
    monkeypatch.setattr(stacks_module, "BLOCKS_PER_PART", 1)
    options = DownsamplingOptions(out=str(tmp_path / "s.mrcs"), box=SMALL, chunk=18)
    seen = []
    with Executor(workers=2) as executor:
        downsample(
            table,
            options,
            executor=executor,
            progress=lambda what, done, total, **_: seen.append((done, total)),
        )
    made = np.concatenate([pixels(str(tmp_path / f"s.{i}.mrcs")) for i in range(2)])
    assert_same(made, resample(images, box=SMALL, ndim=2))
    assert seen[-1] == (30, 30)


def test_a_table_without_a_star_file_is_written_anew(data, tmp_path):
    table, _ = data
    write_relion(str(tmp_path / "first.star"), table)
    first = open_particles(ParticleSource(particles=str(tmp_path / "first.star")))
    downsample(first, DownsamplingOptions(out=str(tmp_path / "half.parquet"), box=12))
    half = open_particles(ParticleSource(particles=str(tmp_path / "half.parquet")))
    # From the parquet on: rows of the first STAR file, whose pixels are not those of the parquet.
    downsample(half, DownsamplingOptions(out=str(tmp_path / "quarter.star"), box=SMALL))
    again = open_particles(ParticleSource(particles=str(tmp_path / "quarter.star")))
    np.testing.assert_allclose(again.column("pixel_size_angstrom"), 3.0)
    np.testing.assert_array_equal(again.column("shift_angstrom"), table.column("shift_angstrom"))
    assert Path(again.stacks[0]).name == "quarter.mrcs"
