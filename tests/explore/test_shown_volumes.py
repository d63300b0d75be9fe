"""Volumes on the page and in saved files: their hand, and their pixel size."""

import numpy as np
import pytest

from explorer_server import running_server
from latents import finished_run
from raydrgn.explore import explorer
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
            asked = {"epoch": 1, "rows": [5], "name": name, "level": 3.0, "colours": ["#0072b2"]}
            server.json("/api/save-volumes", asked)
            saved, header = read_volume(f"{run}/explore/volumes/{name}/vol_000.mrc")
            np.testing.assert_allclose(saved, made[flip][0], atol=1e-3 * np.abs(saved).max())
            assert size in (None, pytest.approx(header.pixel_size_angstrom))
    np.testing.assert_allclose(made[True], made[False][:, ::-1], atol=1e-3)


def test_densities_of_a_smaller_box_are_those_of_the_run_s_own(tmp_path, monkeypatch):
    """A threshold that was chosen on a preview is one of the saved volumes."""
    run = finished_run(tmp_path)
    made = {}
    with running_server(open_explorer(ExploreSettings(run=str(run)))) as server:
        for number, size in enumerate(("full", "preview")):
            monkeypatch.setattr(explorer, "PREVIEW_BOX", 8)
            order = {"epoch": 1, "page": "p", "number": number, "rows": [5], "size": size}
            made[size] = server.arrays("/api/volumes", order)
    full, preview = ((m["volumes"] * m["scale"][0]).astype(np.float64) for m in made.values())
    assert preview.shape < full.shape
    assert preview.mean() == pytest.approx(full.mean(), rel=1e-2)
    for found, volume in ((made["full"], full), (made["preview"], preview)):
        assert found["sd"][0] == pytest.approx(volume.std(), rel=1e-2)
