"""More workers change the speed of a fit, and nothing else."""

import numpy as np
import pytest

import plain_em
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import DecoderPool
from raydrgn.run.reader import open_run


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_workers_fits_the_same(clean, tmp_path, world):
    values = {**plain_em.SMALL, "train__epochs": 4}
    run = plain_em.prepare(clean / "particles.star", tmp_path / "run", **values)
    plain_em.fit_group(run, world)
    one, several = open_run(str(clean / "run")), open_run(str(tmp_path / "run"))
    volumes = []
    for opened in (one, several):
        with DecoderPool(opened.decoder(4), VolumeOptions()) as pool:
            volumes.append(pool.volumes(opened.latents(4)[::300]))
    scale = np.abs(volumes[0]).max()
    np.testing.assert_allclose(volumes[1], volumes[0], atol=1e-4 * scale)
    losses = [[row["total"] for row in opened.losses()[:4]] for opened in (one, several)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for name, values in one.estimates(4).items():
        np.testing.assert_allclose(several.estimates(4)[name], values, atol=2e-4)
