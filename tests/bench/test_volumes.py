"""What ``bench volumes`` compares is the same volume."""

import pytest
import torch

from raydrgn.bench import step, volumes
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


@pytest.fixture
def whole_balls(monkeypatch):
    """Return how many volumes are decoded at each time of the whole ball."""
    monkeypatch.setattr(step, "ROUND_SECONDS", 1e-6)
    monkeypatch.setattr(step, "LIMIT_SIZE", {"cpu": 16})
    decode, counts = volumes.decode_whole_ball, []

    def counted(decoder, z, *, box):
        counts.append(len(z))
        return decode(decoder, z, box=box)

    monkeypatch.setattr(volumes, "decode_whole_ball", counted)
    return counts


@pytest.mark.parametrize(("box", "batch"), [(16, 8), (20, 4), (64, 1)])
def test_the_whole_ball_is_decoded_twice_and_of_a_large_box_for_one_volume(
    whole_balls, monkeypatch, box, batch
):
    monkeypatch.setattr(volumes, "WHOLE_BATCH_BOX", 16)
    state = volumes.decoder_state(box, width=8, layers=1)
    whole = volumes.compare_whole(state, device=torch.device("cpu"))
    assert whole_balls == [batch, batch]
    assert whole.half_of_full > 0
    assert whole.difference < 1e-4


def test_rates_of_decoding_need_no_whole_ball(whole_balls):
    state = volumes.decoder_state(16, width=8, layers=1)
    rates = volumes.measure(state, device=torch.device("cpu"))
    assert rates.volumes_per_s > 0
    assert not whole_balls
