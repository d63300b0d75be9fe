"""Volumes on the page and in saved files: their hand, and their pixel size."""

import numpy as np
import pytest

from explorer_server import running_server
from latents import finished_run
from raydrgn.io.mrc import read_volume
from raydrgn.workflows.explore import ExploreSettings, open_explorer


def test_volumes_have_the_hand_and_the_pixel_size_that_are_given(tmp_path):
    run = finished_run(tmp_path)
    order = {"epoch": 1, "page": "p", "number": 1, "rows": [5], "size": "full"}
    made = {}
    for flip, size in ((False, None), (True, 3.2)):
        settings = ExploreSettings(run=str(run), flip=flip, pixel_size_angstrom=size)
        with running_server(open_explorer(settings)) as server:
            found = server.arrays("/api/volumes", order)
            made[flip] = found["volumes"] * found["scale"][0]
            assert size in (None, found["pixel_size"])
            name = f"flip_{flip}"
            asked = {"epoch": 1, "rows": [5], "name": name, "level_sd": 3.0, "colours": ["#0072b2"]}
            server.json("/api/save-volumes", asked)
            saved, header = read_volume(f"{run}/explore/volumes/{name}/vol_000.mrc")
            np.testing.assert_allclose(saved, made[flip][0], atol=1e-3 * np.abs(saved).max())
            assert size in (None, pytest.approx(header.pixel_size_angstrom))
    np.testing.assert_allclose(made[True], made[False][:, ::-1], atol=1e-3)
