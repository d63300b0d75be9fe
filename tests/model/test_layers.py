"""Residual perceptrons: cryoDRGN's parameter names, split inputs, skip connections."""

import pytest
import torch

from raydrgn.model.layers import Linear, ResidualLinear, ResidualMLP


def test_entries_are_named_and_placed_as_in_cryodrgn():
    # conventions.md, 2.4: even entries are linear layers, residual ones in `.linear`
    mlp = ResidualMLP(10, 3, 8, 4, "relu")
    assert {name: tuple(p.shape) for name, p in mlp.named_parameters()} == {
        "main.0.weight": (8, 10),
        "main.0.bias": (8,),
        **{
            f"main.{i}.linear.{kind}": (8, 8) if kind == "weight" else (8,)
            for i in (2, 4, 6)
            for kind in ("weight", "bias")
        },
        "main.8.weight": (4, 8),
        "main.8.bias": (4,),
    }


def test_a_first_layer_as_wide_as_the_rest_is_residual():
    mlp = ResidualMLP(8, 1, 8, 8, "relu")
    kinds = [type(module) for module in mlp.main][::2]
    assert kinds == [ResidualLinear, ResidualLinear, Linear]


def test_a_residual_layer_adds_its_input(generator):
    layer = ResidualLinear(6)
    x = torch.randn(5, 6, generator=generator)
    expected = x @ layer.linear.weight.t() + layer.linear.bias + x
    torch.testing.assert_close(layer(x), expected)
    torch.nn.init.zeros_(layer.linear.weight)
    torch.nn.init.zeros_(layer.linear.bias)
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0)


def test_in_bfloat16_w_plus_one_errs_little_more_than_a_skip_beside_the_product(generator):
    """The 1 takes bits of W's diagonal alone; what goes in and out is rounded anyway."""
    width, depth = 128, 3
    mlp = ResidualMLP(width, depth - 1, width, 2, "relu")
    x = torch.randn(500, width, generator=generator)

    def with_a_skip(values):
        for layer in mlp.main[:-1]:
            is_residual = isinstance(layer, ResidualLinear)
            values = values + layer.linear(values) if is_residual else layer(values)
        return mlp.main[-1](values)

    expected = mlp(x)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        rounded, beside = mlp(x), with_a_skip(x)
    error, least = ((found - expected).square().mean().sqrt() for found in (rounded, beside))
    assert 0 < error < 1.8 * least  # × 1.44 was found; see docs/performance.md


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_the_whole_is_its_layers_one_by_one(generator, activation):
    mlp = ResidualMLP(5, 2, 7, 3, activation)
    parameters = dict(mlp.named_parameters())
    slope = 0.0 if activation == "relu" else 0.01  # torch's default

    def act(values):
        return torch.where(values > 0, values, slope * values)

    x = torch.randn(4, 5, generator=generator)
    hidden = act(x @ parameters["main.0.weight"].t() + parameters["main.0.bias"])
    for i in (2, 4):
        weight, bias = (parameters[f"main.{i}.linear.{k}"] for k in ("weight", "bias"))
        hidden = act(hidden @ weight.t() + bias + hidden)
    expected = hidden @ parameters["main.6.weight"].t() + parameters["main.6.bias"]
    torch.testing.assert_close(mlp(x), expected)


@pytest.mark.parametrize("width", [7, 8], ids=["plain first layer", "residual first layer"])
@pytest.mark.parametrize("sets", [1, 3], ids=["one set of points", "a set each"])
def test_split_inputs_are_their_concatenation(generator, width, sets):
    mlp = ResidualMLP(8, 2, width, 2, "relu").double()
    fixed = torch.randn(sets, 11, 5, generator=generator, dtype=torch.float64)
    varying = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    together = torch.cat([fixed.expand(3, -1, -1), varying[:, None].expand(-1, 11, -1)], dim=-1)
    torch.testing.assert_close(mlp.split(fixed, varying), mlp(together), rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_no_gradient_is_copied_because_an_activation_was_in_place_on_a_view(activation, generator):
    mlp = ResidualMLP(5, 2, 8, 2, activation)
    fixed, varying = torch.rand(1, 6, 3, generator=generator), torch.rand(4, 2, generator=generator)
    names, left = set(), [mlp.split(fixed, varying).grad_fn]
    while left:
        node = left.pop()
        names.add(node.name())
        left += [before for before, _ in node.next_functions if before is not None]
    assert any("Relu" in name for name in names)
    assert not {name for name in names if "CopySlices" in name or "AsStrided" in name}


def test_gradients_of_split_inputs_are_those_of_their_concatenation(generator):
    mlp = ResidualMLP(6, 1, 5, 2, "relu").double()
    fixed = torch.randn(2, 7, 4, generator=generator, dtype=torch.float64)
    varying = torch.randn(2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    together = torch.cat([fixed, varying[:, None].expand(-1, 7, -1)], dim=-1)
    wanted = (varying, *mlp.parameters())
    first = torch.autograd.grad(mlp.split(fixed, varying).square().sum(), wanted)
    second = torch.autograd.grad(mlp(together).square().sum(), wanted)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
