"""The folder of the classes: maps of their particles beside their decoded volumes."""

import numpy as np
import pytest

from finished_run import make_run
from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.io.mrc import read_volume
from raydrgn.io.sources import read_metadata
from raydrgn.protocol import class_folder
from raydrgn.protocol.class_differences import in_box
from raydrgn.remote.executor import IN_PROCESS
from raydrgn.remote.progress import silent
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation

BOX, SMALL = 32, 20


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Classes for each hand, and their folder; decoded volumes are the truth in a small box."""
    folder = tmp_path_factory.mktemp("classes")
    simulate(str(folder), Simulation(num_particles=400, box=BOX, snr=5.0, seed=2))
    shown = np.load(folder / "truth" / "shown.npy")
    volumes = [read_volume(str(folder / "truth" / f"vol_{k:03d}.mrc")) for k in np.unique(shown)]
    decoded = np.stack([in_box(volume, SMALL) for volume, _ in volumes])
    pixel_size = volumes[0][1].pixel_size_angstrom * BOX / SMALL
    latents = np.random.default_rng(0).normal(size=(len(shown), 2))
    run = make_run(folder / "run", latents, box=SMALL, pixel_size=pixel_size)
    members = {f"S{k}": np.flatnonzero(shown == k) for k in np.unique(shown)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_folder, "_decoded", lambda *_: decoded)
        found = {
            flip: class_folder.make_classes(
                run,
                1,
                members,
                table=read_metadata(str(folder / "particles.star")),
                out=str(folder / f"flip-{flip}"),
                options=BackprojectionOptions(flip=flip),
                executor=IN_PROCESS,
                progress=silent,
            )
            for flip in (False, True)
        }
    return folder, found


def test_classes_are_supported_whatever_the_hand_of_the_files(made):
    _, found = made
    assert all(entry.is_supported for entry in found[False] if entry.particles >= 40)
    assert found[True] == found[False]


@pytest.mark.parametrize("name", ["decoded.mrc", "map.mrc", "half_map_a.mrc", "mask.mrc"])
def test_the_files_are_reversed_in_z(made, name):
    folder, _ = made
    plain, turned = (
        read_volume(str(folder / f"flip-{flip}" / "S0" / name))[0] for flip in (False, True)
    )
    np.testing.assert_array_equal(turned, plain[::-1])
