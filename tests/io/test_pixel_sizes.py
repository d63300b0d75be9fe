"""Particles of several pixel sizes in the frame of one."""

import logging

import numpy as np
import pytest

from phantoms import table_of
from raydrgn.errors import InputError
from raydrgn.io.pixel_sizes import (
    FRAME,
    log_pixel_sizes,
    pixel_size_factors,
    reference_pixel_size,
    several_pixel_sizes,
    with_frame,
)


def table_with(sizes, **columns):
    return table_of(len(sizes), pixel_size_angstrom=sizes, **columns)


def test_one_pixel_size_is_returned_as_it_is(caplog):
    table = table_with([1.25] * 5)
    assert reference_pixel_size(table) == 1.25
    np.testing.assert_array_equal(pixel_size_factors(table, 1.25), np.ones(5, np.float32))
    log_pixel_sizes(table)
    assert not caplog.records


def test_pixel_sizes_that_were_rounded_are_one():
    table = table_with([1.06, 1.06, 1.06005])
    assert reference_pixel_size(table) == pytest.approx(1.06)
    assert (pixel_size_factors(table, 1.06) == 1).all()
    assert several_pixel_sizes(table) is None


@pytest.mark.parametrize(("counts", "expected"), [((12, 8), 3.0), ((8, 12), 3.4), ((10, 10), 3.0)])
def test_the_reference_is_the_pixel_size_of_most(counts, expected):
    table = table_with(np.repeat([3.0, 3.4], counts))
    assert reference_pixel_size(table) == pytest.approx(expected)
    wanted = np.repeat([expected / 3.0, expected / 3.4], counts)
    np.testing.assert_allclose(pixel_size_factors(table, expected), wanted, rtol=1e-6)


def test_selections_have_the_frame_of_all_particles_of_their_file():
    table = with_frame(table_with(np.repeat([3.0, 3.4], [12, 8]), optics_group=["a"] * 20))
    coarse = table.select(np.arange(10, 20))
    assert reference_pixel_size(coarse) == pytest.approx(3.0)
    assert reference_pixel_size(with_frame(coarse)) == pytest.approx(3.0)  # a table that was read
    assert reference_pixel_size(coarse.slice_rows(5, 10)) == pytest.approx(3.0)
    box = table.single_box()
    columns = {"box": np.full(10, box // 2), "pixel_size_angstrom": np.full(10, 6.8)}
    assert reference_pixel_size(coarse.with_columns(columns)) == pytest.approx(6.0)


def test_no_frame_is_noted_of_one_pixel_size_or_of_sizes_for_two_maps():
    for sizes in ([3.0] * 4, [3.0, 3.0, 3.0, 4.0]):
        assert with_frame(table_with(sizes)).metadata.get(FRAME) is None
    alone = with_frame(table_with([3.0, 3.0, 3.0, 4.0])).select(np.array([3]))
    assert reference_pixel_size(alone) == pytest.approx(4.0)


@pytest.mark.parametrize("noted", ["", "wide", "nan", "1e9", "-3"])
def test_a_frame_that_is_none_is_left_out(noted):
    table = table_with(np.repeat([3.0, 3.4], [12, 8])).with_metadata(FRAME, noted)
    assert reference_pixel_size(table) == pytest.approx(3.0)


def test_pixel_sizes_of_pickles_replace_those_of_the_file():
    table = with_frame(table_with(np.repeat([3.0, 3.4], [12, 8])))
    assert reference_pixel_size(with_frame(table, np.repeat([3.0, 3.4], [8, 12]))) == 3.4
    assert FRAME not in with_frame(table, np.full(20, 3.0)).metadata


def test_groups_of_several_pixel_sizes_are_logged(caplog):
    table = table_with(np.repeat([3.0, 3.4], [12, 8]), optics_group=["krios"] * 12 + ["talos"] * 8)
    with caplog.at_level(logging.INFO):
        log_pixel_sizes(table)
    (record,) = caplog.records
    message = record.getMessage()
    assert "optics group krios has 3 Å (12 particles); optics group talos has 3.4 Å (8" in message
    assert "the frame of a map of 3 Å" in message


def test_they_are_logged_once_by_a_command_of_several_steps(caplog):
    names = ["epu"] * 12 + ["serial"] * 8 + ["third"] * 5
    table = with_frame(table_with(np.repeat([3.0, 3.4, 3.2], [12, 8, 5]), optics_group=names))
    half = {"box": np.full(25, table.single_box() // 2), "pixel_size_angstrom": 2 * table.column(
        "pixel_size_angstrom")}  # fmt: skip
    with caplog.at_level(logging.INFO):
        for step in (table, table.select(np.arange(20)), table.with_columns(half), table):
            log_pixel_sizes(step)
        assert len(caplog.records) == 1
        other = table_with(np.repeat([3.0, 3.5], [12, 8]), optics_group=names[:20])
        log_pixel_sizes(other)
    assert "serial has 3.5 Å" in caplog.records[1].getMessage()


def test_pixel_sizes_rounded_in_many_ways_are_counted_as_one():
    sizes = np.concatenate([3.0 + 1e-6 * np.arange(12), np.full(8, 3.4)])
    table = table_with(sizes)
    assert reference_pixel_size(table) == pytest.approx(3.0, abs=1e-5)
    assert "sizes: 3 Å (12 particles); 3.4 Å (8 particles)." in several_pixel_sizes(table)


def test_pixel_sizes_that_are_too_different_are_refused():
    table = table_with(np.repeat([3.0, 3.7], [12, 8]), optics_group=["a"] * 12 + ["b"] * 8)
    with pytest.raises(InputError) as caught:
        reference_pixel_size(table)
    message = str(caught.value)
    assert "from 3 to 3.7 Å" in message
    assert "optics group a has 3 Å (12 particles); optics group b has 3.7 Å (8" in message
    assert "downsample" in message


def test_many_groups_are_listed_in_part():
    sizes = np.linspace(3.0, 4.0, 40)
    table = table_with(sizes, optics_group=[f"g{i}" for i in range(40)])
    with pytest.raises(InputError, match="and 28 more groups"):
        reference_pixel_size(table)


def test_without_optics_groups_pixel_sizes_are_counted():
    table = table_with(np.repeat([3.0, 4.4], [12, 8]))
    with pytest.raises(InputError, match=r": 3 Å \(12 particles\); 4\.4 Å \(8 particles\)\."):
        reference_pixel_size(table)
