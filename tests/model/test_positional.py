"""Positional encodings: series, order of the features, wavelengths."""

import math

import pytest
import torch

from raydrgn.model.positional import axis_waves, projection_waves, series_frequencies

BOX, DIM = 16, 8  # conventions.md, 2.11: DD = 2 (L // 2) = 16, D2 = L // 2 = 8


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("geom_ft", lambda i, n: 16 * math.pi * (2 / 16) ** (i / (n - 1))),
        ("geom_full", lambda i, n: 16 * math.pi * (1 / (16 * math.pi)) ** (i / (n - 1))),
        ("geom_lowf", lambda i, n: 8 * (1 / 8) ** (i / (n - 1))),
        ("geom_nohighf", lambda i, n: 8 * (2 * math.pi / 8) ** (i / (n - 1))),
        ("linear_lowf", lambda i, n: 1.0 + i),
    ],
)
def test_series_are_those_of_the_formulas(kind, formula):
    found = series_frequencies(kind, BOX, DIM)
    expected = torch.tensor([formula(i, DIM) for i in range(DIM)])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_the_geometric_series_spans_two_pixels_to_the_box():
    # a phase of 2π per period: x in cycles per pixel times the frequency
    found = series_frequencies("geom_ft", 128, 64)
    assert found[0].item() == pytest.approx(128 * math.pi)
    assert found[-1].item() == pytest.approx(2 * math.pi)


def test_one_frequency_is_a_series():
    for kind in ("geom_ft", "geom_full", "geom_lowf", "geom_nohighf", "linear_lowf"):
        assert series_frequencies(kind, BOX, 1).isfinite().all()


def test_axis_waves_are_sines_then_cosines_axis_by_axis():
    point = torch.tensor([[0.1, -0.2, 0.3]])
    series = torch.tensor([1.0, 5.0])
    expected = [
        wave(c * f) for c in (0.1, -0.2, 0.3) for wave in (math.sin, math.cos) for f in (1.0, 5.0)
    ]
    torch.testing.assert_close(axis_waves(point, series)[0], torch.tensor(expected))


def test_projection_waves_are_all_sines_then_all_cosines():
    point, vectors = torch.tensor([[0.1, -0.2, 0.3]]), torch.tensor([[1.0, 2, 3], [0, -4, 2]])
    phases = [0.1 - 0.4 + 0.9, 0.8 + 0.6]
    expected = [*map(math.sin, phases), *map(math.cos, phases)]
    torch.testing.assert_close(projection_waves(point, vectors)[0], torch.tensor(expected))


@pytest.mark.parametrize("shape", [(4,), (2, 5)])
def test_batches_of_points_are_kept(shape, generator):
    points = torch.rand(*shape, 3, generator=generator)
    assert axis_waves(points, torch.arange(1.0, 5)).shape == (*shape, 24)
    assert projection_waves(points, torch.ones(7, 3)).shape == (*shape, 14)


def test_waves_of_half_precision_are_those_of_single_precision_rounded(generator):
    """Their phases, of several hundred radians, are in single precision."""
    points, half = torch.rand(6, 3, generator=generator), torch.bfloat16
    vectors, series = 500 * torch.rand(7, 3, generator=generator), torch.tensor([1.0, 300.0])
    for waves, frequencies in ((projection_waves, vectors), (axis_waves, series)):
        rounded = waves(points, frequencies).to(half)
        assert torch.equal(waves(points, frequencies, dtype=half), rounded)
