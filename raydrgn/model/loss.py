"""Terms of the objective, one value per particle."""

from torch import Tensor

from raydrgn.shapes import Float


def reconstruction_error(
    predicted: Float[Tensor, "b n 2"], observed: Float[Tensor, "b n 2"]
) -> Float[Tensor, " b"]:
    """Return the mean over points of |predicted − observed|².

    Over a half disc this is the mean squared difference of the Hartley values of the whole disc:
    (ΔRe − ΔIm)² + (ΔRe + ΔIm)² = 2|ΔF|².
    """
    return (predicted - observed).square().sum(-1).mean(-1)


def kl_divergence(
    mean: Float[Tensor, "b zdim"], logvar: Float[Tensor, "b zdim"]
) -> Float[Tensor, " b"]:
    """Return KL(N(mean, exp logvar) ‖ N(0, 1)) = −½ Σ (1 + logvar − mean² − exp logvar).

    References:
        Kingma & Welling (2014), arXiv:1312.6114, appendix B.
    """
    return -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(-1)
