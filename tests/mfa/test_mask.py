"""The mask of a fit, shown beside the density, and the density that it cuts off."""

import numpy as np
import pytest
import torch

from raydrgn.errors import InputError
from raydrgn.io.mrc import read_volume, write_volume
from raydrgn.latent.mask_report import MASK
from raydrgn.mfa.support import ball, cut_off, read_support, support_of_mean
from raydrgn.run.reader import open_run
from raydrgn.workflows import analyze

CPU = torch.device("cpu")


def test_an_analysis_has_the_mask_as_a_file_that_train_takes(clean, tmp_path):
    settings = analyze.AnalyzeSettings(
        run=str(clean / "run"), out=str(tmp_path / "out"), ksample=2, pc=0, skip_umap=True
    )
    analyze.run(settings)
    mask, header = read_volume(str(tmp_path / "out" / MASK))
    assert header.pixel_size_angstrom == pytest.approx(
        open_run(str(clean / "run")).pixel_size_angstrom
    )
    assert 0.02 < (mask > 0.5).mean() < 0.5
    again = read_support(str(tmp_path / "out" / MASK), box=24, device=CPU).numpy()
    inside = ball(24, device=CPU).numpy() == 1  # the ball of any box has a soft edge
    np.testing.assert_allclose(again[inside], mask[inside], atol=1e-6)
    assert "Central slices: mean" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("box", "pixel_size", "remedy"),
    [
        (32, 2.0, "raydrgn downsample MAP --is-volume -D 16 -o SMALL.mrc` brings the map"),
        (32, 4.0, "Crop or pad it to 16 px"),
        (8, 8.0, "8 Å. Make the mask of a map"),  # nothing makes a map larger
        (32, 3.0, "3 Å. Make the mask of a map"),  # another pixel size, even in that box
    ],
)
def test_a_mask_of_another_box_is_refused_with_what_helps(tmp_path, box, pixel_size, remedy):
    path = str(tmp_path / "mask.mrc")
    write_volume(path, np.ones((box, box, box), np.float32), pixel_size_angstrom=pixel_size)
    with pytest.raises(InputError, match=remedy) as found:
        read_support(path, box=16, device=CPU, pixel_size_angstrom=4.0)
    assert "`raydrgn occupancy masks MAP --map MAP -o OUT`" in str(found.value)


def test_images_of_the_other_sign_have_the_same_mask():
    """So that the fit finds the negative of the density, and it is told by its sign."""
    ticks = np.indices((32,) * 3) - 16
    particle = 2.0 * (np.sqrt(((ticks - 3) ** 2).sum(axis=0)) < 5)
    mean = torch.from_numpy(particle + np.random.default_rng(0).normal(scale=0.3, size=(32,) * 3))
    found = support_of_mean(mean.float())
    assert 0.01 < float((found > 0.5).float().mean()) < 0.2
    torch.testing.assert_close(support_of_mean(-mean.float()), found)


@pytest.mark.parametrize(("inside", "outside", "share"), [(4.0, 0.0, 0.0), (4.0, 1.0, 0.25)])
def test_what_a_mask_cuts_off_is_a_share_of_what_it_keeps(inside, outside, share):
    torch.manual_seed(0)
    power = torch.randn(10, 32, 32, 32).square().sum(0)
    support = torch.zeros(32, 32, 32)
    support[12:20, 12:20, 12:20] = 1
    power[12:20, 12:20, 12:20] += 1000 * inside
    power[12:20, 12:20, 20:28] += 1000 * outside
    assert cut_off(power, support) == pytest.approx(share, abs=0.02)


def test_noise_outside_of_a_small_mask_is_not_taken_for_density():
    """A particle in a large box, and few components, whose squares have a long tail."""
    torch.manual_seed(1)
    power = torch.randn(3, 32, 32, 32).square().sum(0)
    support = torch.zeros(32, 32, 32)
    support[12:20, 12:20, 12:20] = 1
    power[12:20, 12:20, 12:20] += 20
    assert cut_off(power, support) == pytest.approx(0, abs=0.05)


def test_a_ball_cuts_off_nothing():
    assert cut_off(torch.ones(16, 16, 16), torch.ones(16, 16, 16)) == 0


@pytest.mark.parametrize("kind", ["inverted", "particle", "whole box", "beside the centre"])
def test_an_inverted_mask_is_warned_of(kind, tmp_path, caplog):
    box = 16
    mask = ball(box, device=CPU).numpy() * (np.indices((box,) * 3)[2] > 2)
    values = {"inverted": 1 - mask, "whole box": np.ones_like(mask)}.get(kind, mask)
    if kind == "beside the centre":
        values = mask * (np.indices((box,) * 3)[2] > 11)
    write_volume(str(tmp_path / "m.mrc"), values, pixel_size_angstrom=2.0)
    read_support(str(tmp_path / "m.mrc"), box=box, device=CPU)
    assert ("it looks inverted" in caplog.text) == (kind == "inverted")
