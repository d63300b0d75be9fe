"""Particles of several pixel sizes in the frame of one."""

import logging

import numpy as np
import pytest

from phantoms import table_of
from raydrgn.errors import InputError
from raydrgn.io.pixel_sizes import (
    log_pixel_sizes,
    pixel_size_factors,
    reference_pixel_size,
    several_pixel_sizes,
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


def test_groups_of_several_pixel_sizes_are_logged(caplog):
    table = table_with(np.repeat([3.0, 3.4], [12, 8]), optics_group=["krios"] * 12 + ["talos"] * 8)
    with caplog.at_level(logging.INFO):
        log_pixel_sizes(table)
    (record,) = caplog.records
    message = record.getMessage()
    assert "optics group krios has 3 Å (12 particles); optics group talos has 3.4 Å (8" in message
    assert "the frame of a map of 3 Å" in message


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
