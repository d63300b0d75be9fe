"""Images of any rows of a table: the right ones, in order, with few reads."""

import numpy as np
import pytest

from phantoms import images_of, table_of, write_mrc
from raydrgn.data import source as source_module
from raydrgn.data.source import ImageSource, block_ends
from raydrgn.io import mrc, storage
from raydrgn.io.particles import ParticleTable


@pytest.fixture(params=["local", "memory"])
def shuffled(request, tmp_path):
    """Twelve particles of two stacks in random order, one of them twice, and their images."""
    rng = np.random.default_rng(0)
    first, second = images_of(7), images_of(6, seed=1).astype(np.float16)
    uris = [
        write_mrc(tmp_path / "a.mrcs", first),
        write_mrc(tmp_path / "b.mrcs", second.astype(">f4")),
    ]
    if request.param == "memory":
        for i, uri in enumerate(uris):
            uris[i] = f"memory://source/{i}.mrcs"
            storage.write_bytes(uris[i], storage.read_bytes(uri))
    codes = np.array([0] * 6 + [1] * 5 + [0])
    slices = np.concatenate([rng.permutation(7)[:6], rng.permutation(6)[:5], [2]])
    order = rng.permutation(12)
    codes, slices = codes[order], slices[order]
    table = table_of(12, stack=np.array(uris, dtype=object)[codes], slice=slices)
    stacks = [first, second.astype(np.float32)]
    return table, np.stack([stacks[c][s] for c, s in zip(codes, slices, strict=True)])


def test_every_row_has_its_image(shuffled):
    table, images = shuffled
    np.testing.assert_array_equal(ImageSource.of(table).read(), images)


@pytest.mark.parametrize("rows", [[3], [11, 0, 0, 5], list(range(12))[::-1], []])
def test_some_rows_come_in_their_order(shuffled, rows):
    table, images = shuffled
    found = ImageSource.of(table).read(np.array(rows, dtype=np.int64))
    np.testing.assert_array_equal(found, images[rows])


@pytest.mark.parametrize(("start", "stop"), [(0, 12), (3, 9), (11, 12)])
def test_a_part_is_consecutive_rows_with_the_headers_it_needs(shuffled, start, stop):
    table, images = shuffled
    part = ImageSource.of(table).part(start, stop)
    np.testing.assert_array_equal(part.read(), images[start:stop])
    assert len(part.headers) == len(set(table.stack_codes[start:stop].tolist()))


def counted_reads(table, monkeypatch):
    """Return first slice and number of each request; local files are opened once."""
    calls = []
    for name in ("_read", "_fetched"):
        plain = getattr(mrc, name)

        def counting(*given, plain=plain):
            calls.append(given[-2:])
            return plain(*given)

        monkeypatch.setattr(mrc, name, counting)
    ImageSource.of(table).read()
    return calls


def test_a_stack_in_order_is_one_read(tmp_path, monkeypatch):
    uri = write_mrc(tmp_path / "a.mrcs", images_of(9))
    assert counted_reads(table_of(9, stacks=(uri,)), monkeypatch) == [(0, 9)]


def test_gaps_are_read_over_elsewhere_only(tmp_path, monkeypatch):
    local = write_mrc(tmp_path / "a.mrcs", images_of(9))
    storage.write_bytes("memory://gaps/a.mrcs", storage.read_bytes(local))
    every_second = np.arange(0, 9, 2)
    here = table_of(5, stacks=(local,), slice=every_second)
    there = table_of(5, stacks=("memory://gaps/a.mrcs",), slice=every_second)
    assert len(counted_reads(here, monkeypatch)) == 5
    assert counted_reads(there, monkeypatch) == [(0, 9)]


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (3, 10), (5, 5), (0, 1)])
def test_blocks_cover_all_rows_once(start, stop, monkeypatch):
    monkeypatch.setattr(source_module, "BLOCK_BYTES", 4 * 4 * 8 * 8)
    ends = block_ends(start, stop, box=8)
    assert [row for a, b in ends for row in range(a, b)] == list(range(start, stop))
    assert all(b - a <= 4 for a, b in ends)


def test_a_block_holds_one_image_at_least():
    assert block_ends(0, 2, box=20_000) == [(0, 1), (1, 2)]


def test_an_empty_table_has_no_images():
    table = table_of(3).select(np.array([], dtype=np.int64))
    assert isinstance(table, ParticleTable)
    assert block_ends(0, len(table), box=8) == []
