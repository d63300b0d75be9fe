"""What ``bench volumes`` compares is the same volume."""

import pytest
import torch

from raydrgn.bench import volumes
from raydrgn.model.volume import decode_volumes


@pytest.mark.parametrize("box", [16, 18])
def test_half_of_the_ball_gives_the_volume_of_the_whole(box):
    state = volumes.decoder_state(box, width=24, layers=2)
    decoder = state.build(torch.device("cpu"))
    z = torch.from_numpy(volumes.latents(3, state.model.zdim))
    half = decode_volumes(decoder, z, box=box)
    whole = volumes.decode_whole_ball(decoder, z, box=box)
    assert half.std() > 0
    torch.testing.assert_close(half, whole, rtol=0, atol=1e-5 * float(half.std()))
