"""A prepared particle does not depend, to the bit, on which images it was prepared with."""

import numpy as np
import pytest
import torch

from raydrgn.data.config import ImageConfig
from raydrgn.data.preprocess import Preparation


@pytest.mark.parametrize("box", [16, 18, 32])
@pytest.mark.parametrize("size", [2, 7, 26])
def test_blocks_of_any_size_give_the_same_bits(box, size):
    # Tasks of Ray Data cut a stack as they like; training is to be the same whatever they do.
    generator = np.random.default_rng(0)
    images = generator.normal(size=(53, box, box)).astype(np.float32)
    shifts = generator.normal(size=(53, 2)).astype(np.float32)
    prepare = Preparation(ImageConfig(box=box, scale=2.0))
    whole = prepare(images, shifts)
    parts = [prepare(images[i : i + size], shifts[i : i + size]) for i in range(0, 52, size)]
    together = torch.cat(parts)[:52]
    assert torch.equal(together, whole[: len(together)])
