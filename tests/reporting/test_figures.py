"""Figures for print and for a page."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from raydrgn.reporting import figures


@pytest.fixture
def figure():
    found = Figure(figsize=(4, 3), layout="constrained")
    found.subplots().scatter(*np.random.default_rng(0).normal(size=(2, 50)))
    return found


def picture(png):
    return Image.open(io.BytesIO(png)).convert("L")


def test_the_picture_of_a_page_is_the_same_whether_the_figure_was_printed(
    figure, tmp_path, monkeypatch
):
    monkeypatch.setattr(figures, "PRINT_DPI", 300)
    drawn = picture(figures.to_png(figure))
    printed = tmp_path / "figure.png"
    figures.write_figure(str(printed), figure)
    shown = figures.to_png(figure)
    assert picture(printed.read_bytes()).size == (1200, 900)
    assert picture(shown).size == drawn.size == (440, 330)
    assert Image.open(io.BytesIO(shown)).info["dpi"][0] == pytest.approx(110, abs=0.1)
    difference = np.abs(np.asarray(picture(shown), float) - np.asarray(drawn, float))
    assert difference.mean() < 3  # of 255: edges alone


def test_a_figure_written_as_vectors_is_drawn_for_a_page(figure, tmp_path):
    figures.write_figure(str(tmp_path / "figure.svg"), figure)
    assert (tmp_path / "figure.svg").read_text().lstrip().startswith("<?xml")
    assert picture(figures.to_png(figure)).size == (440, 330)
