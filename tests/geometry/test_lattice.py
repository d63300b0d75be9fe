"""Half discs and half balls: counts of another program, one of each pair, order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raydrgn.errors import ConfigError
from raydrgn.geometry.box import check_box
from raydrgn.geometry.lattice import half_ball, half_disc, plane_coordinates

boxes = st.integers(2, 12).map(lambda half: 2 * half)


def as_set(points):
    return set(map(tuple, points.tolist()))


@pytest.mark.parametrize(("box", "count"), [(30, 708), (64, 3208), (128, 12_852), (256, 51_432)])
def test_a_disc_has_as_many_points_as_that_of_cryodrgn(box, count):
    # conventions.md, 2.9: points of the circular mask without DC, for R = D/2
    assert 2 * len(half_disc(box)) == count


@given(box=boxes)
def test_the_half_disc_has_one_of_each_pair_within_nyquist(box):
    points = as_set(half_disc(box))
    mates = {(-x, -y) for x, y in points}
    assert not points & mates
    ticks = range(-box // 2, box // 2 + 1)
    disc = {(x, y) for x in ticks for y in ticks if 0 < x * x + y * y <= (box / 2) ** 2}
    assert points | mates == disc


@given(box=boxes)
def test_the_half_disc_is_the_first_half_of_the_disc_row_by_row(box):
    ticks = torch.arange(-(box // 2), box // 2 + 1)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    whole = torch.stack([x, y], -1).reshape(-1, 2)
    radius2 = whole.square().sum(-1)
    disc = whole[(radius2 > 0) & (radius2 <= (box // 2) ** 2)]
    half = half_disc(box)
    assert torch.equal(torch.cat([half, -half.flip(0)]), disc)


@given(box=boxes, share=st.floats(0.2, 2))
def test_the_half_ball_has_the_origin_and_one_of_each_pair(box, share):
    points = half_ball(box, radius=share * box)
    found = as_set(points)
    mates = {(-x, -y, -z) for x, y, z in found}
    assert len(found) == len(points)
    assert found & mates == {(0, 0, 0)}
    ticks = range(-box // 2, box // 2 + 1)
    ball = {
        (x, y, z)
        for x in ticks
        for y in ticks
        for z in ticks
        if x * x + y * y + z * z <= (share * box) ** 2
    }
    assert found | mates == ball


def test_the_ball_s_central_plane_is_the_disc():
    ball = half_ball(16)
    plane = ball[ball[:, 2] == 0]
    assert torch.equal(plane[:-1, :2], half_disc(16))  # the origin comes last
    assert plane[-1].tolist() == [0, 0, 0]


def test_the_ball_reaches_nyquist_if_nothing_else_is_said():
    assert half_ball(12).square().sum(-1).max() == 36
    assert torch.equal(half_ball(12), half_ball(12, radius=6.0))


def test_points_lie_in_the_image_plane_in_cycles_per_pixel():
    coordinates = plane_coordinates(torch.tensor([[-4, 0], [3, -2]]), 8)
    assert coordinates.tolist() == [[-0.5, 0, 0], [0.375, -0.25, 0]]


@pytest.mark.parametrize("box", [-2, 0, 2, 5, 129])
@pytest.mark.parametrize("function", [check_box, half_disc, half_ball])
def test_odd_and_tiny_boxes_are_refused(function, box):
    with pytest.raises(ConfigError, match=f"even number of pixels, at least 4; got {box}"):
        function(box)
