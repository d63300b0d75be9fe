"""Pictures of isosurfaces: outlines, what hides what, light, and movies."""

import numpy as np
import pytest
from PIL import Image

from raydrgn.decoding.volume_sets import VolumeSet, preview
from raydrgn.io.mrc import write_volume
from raydrgn.latent.volume_surfaces import surface_sheet, surfaces, write_path_movie
from raydrgn.reporting.isosurface import BACKGROUND, SIZE, render, write_movie

BOX = 32
Z, Y, X = np.indices((BOX,) * 3) - BOX // 2


def ball(radius, z=0, y=0, x=0):
    """Return a soft ball, 1 at its centre and 0.5 at its radius."""
    distance = np.sqrt((Z - z) ** 2 + (Y - y) ** 2 + (X - x) ** 2)
    return (1 / (1 + np.exp(distance - radius))).astype(np.float32)


def shown(picture):
    return (picture != BACKGROUND).any(axis=-1)


def test_the_outline_of_a_ball_is_a_disc_of_its_radius():
    for picture in render(ball(8), level=0.5).values():
        area = shown(picture).sum() * (BOX / SIZE) ** 2
        assert area == pytest.approx(np.pi * 8**2, rel=0.03)
        assert picture.shape == (SIZE, SIZE, 3)


def test_rows_go_up_and_columns_to_the_right():
    found = render(ball(4, z=3, y=6, x=-8), level=0.5)
    for view, (row, column) in (("from z", (6, -8)), ("from y", (3, -8))):
        centre = np.argwhere(shown(found[view])).mean(axis=0)
        np.testing.assert_allclose(
            centre, SIZE / BOX * (np.array([row, column]) + BOX / 2), atol=1.5
        )


def test_light_comes_from_the_upper_left():
    picture = render(ball(10), level=0.5)["from z"].sum(axis=-1)
    half = SIZE // 2
    upper_left, lower_right = picture[half + 20, half - 20], picture[half - 20, half + 20]
    assert upper_left > 1.2 * lower_right


def test_what_lies_behind_is_hidden():
    plate = np.where(np.abs(Z + 8) < 2, 1.0, 0.0) * (np.hypot(Y, X) < 11)
    with_ball = plate + ball(4, z=6)
    first, second = (
        render(volume.astype(np.float32), level=0.5)["from z"] for volume in (plate, with_ball)
    )
    assert (shown(first) == shown(second)).all()
    from_y = [render(v.astype(np.float32), level=0.5)["from y"] for v in (plate, with_ball)]
    assert shown(from_y[1]).sum() > shown(from_y[0]).sum()


def test_above_the_highest_density_there_is_nothing():
    assert not shown(render(ball(8), level=2.0)["from z"]).any()


def test_a_movie_goes_there_and_back(tmp_path):
    frames = [render(ball(radius), level=0.5)["from z"] for radius in (4, 7, 10)]
    write_movie(str(tmp_path / "movie.gif"), frames)
    with Image.open(tmp_path / "movie.gif") as movie:
        assert (movie.n_frames, movie.size) == (4, (SIZE, SIZE))
        areas = []
        for number in range(4):
            movie.seek(number)
            areas.append((np.asarray(movie.convert("L")) < 250).sum())
    assert areas[0] < areas[1] < areas[2]
    assert areas[1] == areas[3]


def test_volumes_of_a_set_have_one_level_and_one_frame(tmp_path):
    volumes = [ball(6), 0.4 * ball(6), ball(6, x=5)]
    for number, volume in enumerate(volumes):
        write_volume(str(tmp_path / f"vol_{number:03d}.mrc"), volume, pixel_size_angstrom=2.0)
    of_set = VolumeSet(
        name="path",
        folder=str(tmp_path),
        z=np.zeros((3, 2), np.float32),
        colours=["#aa3322"] * 3,
        titles=["a", "b", "c"],
    )
    found = surfaces(of_set, [preview(volume) for volume in volumes])
    assert [title for title, _ in found] == ["a", "b", "c"]
    pictures = [views["from z"] for _, views in found]
    assert {picture.shape for picture in pictures} == {(SIZE, SIZE, 3)}
    # the frame reaches to the farthest surface of all, 11 voxels, and 2 more
    assert shown(pictures[0]).sum() == pytest.approx(np.pi * (6 * SIZE / 26) ** 2, rel=0.1)
    assert shown(pictures[0]).any()
    assert not shown(pictures[1]).any()  # a weak one has no density of the common level
    assert len(surface_sheet(found).axes[0].images) == 6
    write_path_movie(found, of_set)
    assert (tmp_path / "movie.gif").stat().st_size > 1000
    some = surfaces(of_set, [preview(volumes[0]), None, None])
    assert [title for title, _ in some] == ["a"]
    assert surfaces(of_set, [None, None, None]) == []
