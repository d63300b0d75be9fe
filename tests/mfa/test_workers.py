"""More workers change the speed of a fit, and nothing else."""

import numpy as np
import pytest

import plain_em
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool
from raydrgn.run.reader import open_run


@pytest.mark.parametrize(("name", "world"), [("clean", 2), ("clean", 3), ("disturbed", 2)])
def test_any_number_of_workers_fits_the_same(request, tmp_path, name, world):
    folder = request.getfixturevalue(name)
    values = {**plain_em.SMALL, "train__epochs": 5}
    run = plain_em.prepare(folder / "particles.star", tmp_path / "run", **values)
    plain_em.fit_group(run, world)
    one, several = open_run(str(folder / "run")), open_run(str(tmp_path / "run"))
    latents = one.latents(5)
    volumes = []
    for opened in (one, several):
        with DecoderPool(opened.decoder(5), VolumeOptions()) as pool:
            volumes.append(pool.volumes(latents[::300]))
    assert difference(volumes[1], volumes[0]) < 1e-5
    assert difference(several.latents(5), latents) < 1e-5
    losses = [[row["total"] for row in opened.losses()[:5]] for opened in (one, several)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for column, values in one.estimates(5).items():
        difference_of = several.estimates(5)[column] - values
        assert np.sqrt(np.square(difference_of).mean()) < 1e-5
        if column.startswith("rotation"):
            assert np.abs(difference_of).max() < 1e-5  # of each image


def difference(found, expected):
    """Return the RMS difference over the SD."""
    return np.sqrt(np.square(found - expected).mean()) / expected.std()
