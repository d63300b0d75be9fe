"""A checkpoint: everything comes back to the bit, and nothing can run."""

import io

import numpy as np
import pytest
import torch

from phantoms import hostile_archive
from raydrgn.errors import RunDirectoryError
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.directory import Position


@pytest.fixture
def checkpoint(generator):
    """The checkpoint of a small fit after a few steps of Adam."""
    model = torch.nn.Linear(4, 3)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        model(torch.randn(5, 4, generator=generator)).square().sum().backward()
        optimiser.step()
    return Checkpoint(
        position=Position(2, 7),
        model=model.state_dict(),
        optimiser=optimiser.state_dict(),
        sums=[0.1, 1 / 3, 1e300],
    )


def same(first, second):
    """Compare nested values, tensors bit by bit."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def test_everything_comes_back_to_the_bit(checkpoint):
    again = Checkpoint.from_bytes(checkpoint.to_bytes())
    assert again.position == checkpoint.position
    assert again.sums == checkpoint.sums
    assert same(again.model, checkpoint.model)
    assert same(again.optimiser, checkpoint.optimiser)


def test_a_fit_goes_on_as_if_it_had_not_stopped(checkpoint, generator):
    batch = torch.randn(5, 4, generator=generator)

    def one_more_step(start):
        model = torch.nn.Linear(4, 3)
        model.load_state_dict(start.model)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        optimiser.load_state_dict(start.optimiser)
        model(batch).square().sum().backward()
        optimiser.step()
        return model.weight

    again = Checkpoint.from_bytes(checkpoint.to_bytes())
    assert torch.equal(one_more_step(checkpoint), one_more_step(again))


def test_weights_are_laid_out_as_cryodrgn_s(checkpoint):
    raw = torch.load(io.BytesIO(checkpoint.weights_bytes()), weights_only=True)
    assert set(raw) == {"epoch", "model_state_dict", "optimizer_state_dict"}
    assert raw["epoch"] == 1  # the epoch that is finished, of which the file has its number
    assert same(raw["model_state_dict"], checkpoint.model)
    assert set(raw["optimizer_state_dict"]["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}


def test_a_later_format_is_refused(checkpoint):
    raw = torch.load(io.BytesIO(checkpoint.to_bytes()), weights_only=True)
    stream = io.BytesIO()
    torch.save(raw | {"format": 99}, stream)
    with pytest.raises(
        RunDirectoryError, match="has format 99; this version of raydrgn reads 1 and 2"
    ):
        Checkpoint.from_bytes(stream.getvalue())


def test_nothing_of_a_malicious_checkpoint_runs(tmp_path):
    uri, mark = hostile_archive(tmp_path, "1.0.pt")
    content = np.fromfile(uri, dtype=np.uint8).tobytes()
    with pytest.raises(Exception, match=r"(?s)Weights only load failed.*posix\.system"):
        Checkpoint.from_bytes(content)
    assert not mark.exists()
