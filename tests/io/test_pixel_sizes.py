"""One pixel size for all particles."""

import logging

import numpy as np
import pytest

from phantoms import table_of
from raydrgn.errors import InputError
from raydrgn.io.pixel_sizes import single_pixel_size


def test_one_pixel_size_is_returned_as_it_is(caplog):
    assert single_pixel_size(table_of(5, pixel_size_angstrom=[1.25] * 5)) == 1.25
    assert not caplog.records


def test_optics_groups_of_several_pixel_sizes_are_listed():
    table = table_of(
        20,
        pixel_size_angstrom=np.repeat([3.0, 3.4], [12, 8]),
        optics_group=["krios"] * 12 + ["talos"] * 8,
    )
    with pytest.raises(InputError) as caught:
        single_pixel_size(table)
    message = str(caught.value)
    assert "from 3 to 3.4 Å" in message
    assert "optics group krios has 3 Å (12 particles); optics group talos has 3.4 Å (8" in message
    assert "downsample" in message


def test_many_groups_are_listed_in_part():
    sizes = np.linspace(3.0, 4.0, 40)
    table = table_of(40, pixel_size_angstrom=sizes, optics_group=[f"g{i}" for i in range(40)])
    with pytest.raises(InputError, match="and 28 more groups"):
        single_pixel_size(table)


def test_without_optics_groups_pixel_sizes_are_counted():
    table = table_of(20, pixel_size_angstrom=np.repeat([3.0, 3.4], [12, 8]))
    with pytest.raises(InputError, match=r": 3 Å \(12 particles\); 3\.4 Å \(8 particles\)\."):
        single_pixel_size(table)


def test_a_small_difference_is_a_warning(caplog):
    table = table_of(10, pixel_size_angstrom=np.repeat([3.0, 3.02], [8, 2]))
    with caplog.at_level(logging.WARNING):
        assert single_pixel_size(table) == 3.0
    assert "from 3 to 3.02 Å; all are taken as 3 Å" in caplog.text
