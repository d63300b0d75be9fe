"""Filling a shard: every particle once, prepared, and the bad ones named."""

import numpy as np
import pytest
import torch

from phantoms import images_of, table_of, write_mrc
from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import (
    bad_images_message,
    fill_store,
    prepared_blocks,
    shifts_px,
)
from raydrgn.data.preprocess import Preparation
from raydrgn.data.store import make_store
from raydrgn.geometry.lattice import half_disc
from raydrgn.io import storage

BOX = 8
CONFIG = ImageConfig(box=BOX, scale=3.0)
POINTS = len(half_disc(BOX))


@pytest.fixture
def images():
    return images_of(10, box=BOX)


def table_with(tmp_path, images, **changes):
    """Rows in random order of two stacks."""
    parts = (images[:6], images[6:])
    uris = [write_mrc(tmp_path / f"{i}.mrcs", part) for i, part in enumerate(parts)]
    order = np.random.default_rng(1).permutation(10)
    codes = (order >= 6).astype(int)
    table = table_of(
        10, stack=np.array(uris, dtype=object)[codes], slice=order - 6 * codes, **changes
    )
    return table, images[order]


def filled(table, config=CONFIG, kind="host", **options):
    store = make_store(
        kind, (len(table), POINTS, 2), precision=config.precision, device=torch.device("cpu")
    )
    bad = fill_store(store, prepared_blocks(table, config), **options)
    return store.read(torch.arange(len(table))), bad


@pytest.mark.parametrize("block_images", [1, 3, 100])
def test_every_particle_is_prepared_in_its_row(tmp_path, images, monkeypatch, block_images):
    monkeypatch.setattr("raydrgn.data.source.BLOCK_BYTES", block_images * 4 * BOX * BOX)
    table, in_order = table_with(tmp_path, images)
    found, bad = filled(table)
    expected = Preparation(CONFIG)(in_order, shifts_px(table))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert bad.size == 0


def test_all_stores_hold_the_same_bits(tmp_path, images):
    table, _ = table_with(tmp_path, images)
    expected, _ = filled(table)
    for kind in ("device", "disk"):
        assert torch.equal(filled(table, kind=kind)[0], expected)


def test_half_precision_rounds_once(tmp_path, images):
    table, _ = table_with(tmp_path, images)
    whole, _ = filled(table)
    half, _ = filled(table, ImageConfig(box=BOX, scale=3.0, precision="float16"))
    assert torch.equal(half, whole.half().float())


def test_stacks_elsewhere_give_the_same_particles(tmp_path, images):
    table, _ = table_with(tmp_path, images)
    places = []
    for i, uri in enumerate(table.stacks):
        places.append(f"memory://ingest/{i}.mrcs")
        storage.write_bytes(places[-1], storage.read_bytes(uri))
    moved = table.with_columns({"stack": np.array(places, dtype=object)[table.stack_codes]})
    assert torch.equal(filled(moved)[0], filled(table)[0])


def test_shifts_in_pixels_are_those_of_the_image(tmp_path):
    shifts = np.array([[3.0, -1.5], [0, 0.75]])
    table = table_of(2, shift_angstrom=shifts, pixel_size_angstrom=[1.5, 0.75])
    np.testing.assert_allclose(shifts_px(table), [[2, -1], [0, 1]])


def test_bad_images_are_zero_named_and_harm_no_other(tmp_path, images):
    broken = images.copy()
    broken[2, 1, 1] = np.nan
    broken[8] = 4.0
    table, _ = table_with(tmp_path, images)
    expected, _ = filled(table)
    table, in_order = table_with(tmp_path, broken)
    found, bad = filled(table)
    rows = np.flatnonzero(~np.isfinite(in_order).all((1, 2)) | (np.ptp(in_order, (1, 2)) == 0))
    assert len(rows) == 2
    np.testing.assert_array_equal(bad, rows)
    assert not found[rows].any()
    good = np.delete(np.arange(10), rows)
    assert torch.equal(found[good], expected[good])


def test_progress_counts_particles(tmp_path, images, monkeypatch):
    monkeypatch.setattr("raydrgn.data.source.BLOCK_BYTES", 4 * 4 * BOX * BOX)
    table, _ = table_with(tmp_path, images)
    done = []
    filled(table, progress=done.append)
    assert done == [4, 8, 10]


def test_bad_images_are_named_by_number_and_place_with_the_way_out(tmp_path):
    table = table_of(50, stacks=(str(tmp_path / "a.mrcs"),), box=BOX)
    message = bad_images_message(table.select(np.array([3, 17])))
    assert message.startswith("2 images have pixels that are not finite, or are constant")
    place = f"image 4 of {tmp_path}"
    assert f"particles 3, 17 (numbers from 0; the first is {place}" in message
    assert message.endswith("Leave them out with --drop-bad.")
    one = bad_images_message(table.select(np.array([17])))
    assert one.startswith(f"Particle 17 (from 0), image 18 of {tmp_path}")
    many = bad_images_message(table)
    assert "50 images" in many
    assert "18, 19, … (" in many
