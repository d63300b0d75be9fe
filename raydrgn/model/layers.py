"""Residual multilayer perceptrons, with the parameter names that cryoDRGN gives them."""

import itertools

import torch
from torch import Tensor, nn

from raydrgn.model.config import Activation
from raydrgn.shapes import Float


class Linear(nn.Linear):
    """A plain affine layer, y = Wx + b."""

    def matrix(self) -> Float[Tensor, "out in"]:
        """Return the matrix that multiplies the input."""
        return self.weight


class ResidualLinear(nn.Module):
    """An affine layer with a skip connection, y = Wx + b + x = (W + 1)x + b."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.register_buffer("_identity", torch.eye(width), persistent=False)

    def matrix(self) -> Float[Tensor, "out in"]:
        """Return W + 1: one matrix product, instead of a product and a pass over memory."""
        return self.linear.weight + self.get_buffer("_identity")

    @property
    def bias(self) -> Float[Tensor, " out"]:
        """The bias of the affine part."""
        return self.linear.bias

    def forward(self, values: Float[Tensor, "*b in"]) -> Float[Tensor, "*b out"]:
        """Apply the layer."""
        return nn.functional.linear(values, self.matrix(), self.bias)


class ResidualMLP(nn.Module):
    """One affine layer, ``num_layers`` residual ones, and an affine layer to the outputs.

    An activation follows every layer but the last. ``main`` holds the layers at even places and
    the activations between them, which gives the parameters cryoDRGN's names. A first layer whose
    input is as wide as the rest is residual, as it is there.
    """

    def __init__(
        self, num_inputs: int, num_layers: int, width: int, num_outputs: int, activation: Activation
    ) -> None:
        super().__init__()
        sizes = [num_inputs, *[width] * (num_layers + 1), num_outputs]
        modules: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise(sizes)):
            last = i == len(sizes) - 2
            residual = before == after and not last
            modules.append(ResidualLinear(before) if residual else Linear(before, after))
            if not last:
                modules.append(_activation(activation))
        self.main = nn.Sequential(*modules)
        self._activate = torch.relu if activation == "relu" else nn.functional.leaky_relu

    def forward(self, values: Float[Tensor, "*b in"]) -> Float[Tensor, "*b out"]:
        """Apply all layers."""
        return self.main(values)

    def split(
        self, fixed: Float[Tensor, "*b n f"], varying: Float[Tensor, "b z"]
    ) -> Float[Tensor, "b n out"]:
        """Apply all layers to the inputs [fixed, varying], the second one the same at every point.

        The first layer's product with ``varying`` is made once per batch row, not once per point.
        """
        first = self.main[0]
        assert isinstance(first, Linear | ResidualLinear)
        matrix = first.matrix()
        width = fixed.shape[-1]
        once = nn.functional.linear(varying, matrix[:, width:], first.bias)  # (b h)
        hidden = nn.functional.linear(fixed, matrix[:, :width]) + once[:, None]  # (b n h)
        shape = hidden.shape[:2]
        # Rows of a matrix, not a batch of matrices. They are a view, of which an activation in
        # place would have autograd copy the gradient three times.
        hidden = self._activate(hidden.flatten(0, 1))
        return self.main[2:](hidden).unflatten(0, shape)


def _activation(name: Activation) -> nn.Module:
    # In place: the layer before it needs its input for the gradient, not its output.
    return nn.ReLU(inplace=True) if name == "relu" else nn.LeakyReLU(inplace=True)
