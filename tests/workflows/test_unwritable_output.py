"""Folders that cannot be written are refused before images are read and latents are clustered."""

import numpy as np
import pytest

from finished_run import make_run
from raydrgn.clustering import clusters
from raydrgn.data import image_statistics
from raydrgn.errors import ConfigError, StorageError
from raydrgn.inputs import map_pairs
from raydrgn.io.mrc import write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.landscape import masked_volumes
from raydrgn.latent.paths import NeighbourGraph
from raydrgn.latent.selection import ParticleSelection
from raydrgn.occupancy import scored_volumes
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.workflows import (
    backproject,
    downsample,
    embed,
    maps,
    occupancy_pca,
    occupancy_score,
    traverse,
)
from raydrgn.workflows import filter as filter_workflow
from raydrgn.workflows.backproject import BackprojectSettings
from raydrgn.workflows.downsample import DownsampleSettings
from raydrgn.workflows.embed import EmbedSettings
from raydrgn.workflows.filter import FilterSettings
from raydrgn.workflows.maps import FscSettings
from raydrgn.workflows.occupancy_pca import PcaSettings
from raydrgn.workflows.occupancy_score import OccupancyScoreSettings
from raydrgn.workflows.traverse import TraverseGraphSettings
from subunit_files import BOX, write_maps, write_subunits


@pytest.fixture
def out(tmp_path):
    """A folder that cannot be made: there is a file where the folder above it should be."""
    (tmp_path / "file").write_text("of something else")
    return str(tmp_path / "file" / "out")


@pytest.fixture
def run(tmp_path):
    latents = np.random.default_rng(0).normal(size=(60, 2))
    return make_run(tmp_path / "run", latents, box=BOX).root


@pytest.fixture
def forbid(monkeypatch):
    """Let a test fail that comes to the long work."""

    def forbid(place, name):
        monkeypatch.setattr(place, name, lambda *_, **__: pytest.fail(f"{name} was called"))

    return forbid


def refused(workflow, settings, error=StorageError, match="/file"):
    with pytest.raises(error, match=match):
        workflow(settings)


@pytest.fixture
def particles(tmp_path):
    simulate(str(tmp_path / "data"), Simulation(num_particles=20, box=16))
    return ParticleSource(particles=str(tmp_path / "data" / "particles.star"))


def test_all_images_are_read_for_bad_ones_only_when_the_results_can_be_written(
    particles, out, tmp_path, forbid
):
    table = particles.particles
    run = make_run(tmp_path / "run", np.zeros((20, 2)), box=16, pixel_size=340 / 16).root
    forbid(image_statistics, "leave_out_bad")
    common = {"source": particles, "out": out, "drop_bad": True}
    refused(embed.run, EmbedSettings(run=run, **common))
    refused(backproject.run, BackprojectSettings(**common))
    small = {**common, "out": f"{out}/small.star"}
    refused(downsample.run, DownsampleSettings(box=8, **small))
    refused(downsample.run, DownsampleSettings(box=32, **small), ConfigError, "larger than")
    over = {**common, "out": table}
    refused(downsample.run, DownsampleSettings(box=8, **over), ConfigError, "which is read")


def test_particles_are_selected_and_paths_found_only_when_the_results_can_be_written(
    run, out, forbid
):
    forbid(ParticleSelection, "methods")
    forbid(ParticleSelection, "groups")
    refused(filter_workflow.run, FilterSettings(run=run, out=out, where="z0 > 0"))
    refused(filter_workflow.run_groups, FilterSettings(run=run, out=out, gmm=3))
    forbid(NeighbourGraph, "__init__")
    refused(traverse.run, TraverseGraphSettings(run=run, out=out, anchors="0,17"))


def test_volumes_are_compared_only_when_the_results_can_be_written(run, out, tmp_path, forbid):
    masks = str(write_subunits(tmp_path))
    volumes = str(write_maps(tmp_path / "maps", np.eye(3)))
    forbid(scored_volumes, "k_means")
    forbid(clusters, "k_means")
    refused(occupancy_score.run, OccupancyScoreSettings(run=run, masks=masks, ksample=3, out=out))
    mask = f"{masks}/Mask_m_chaina.mrc"
    forbid(masked_volumes, "volumes_of_clusters")
    refused(occupancy_pca.run, PcaSettings(run=run, mask=mask, ksample=3, out=out))
    forbid(masked_volumes, "read_voxels")
    refused(occupancy_pca.run, PcaSettings(volumes=volumes, mask=mask, out=out))


def test_maps_are_correlated_only_when_the_results_can_be_written(out, tmp_path, forbid):
    names = [str(tmp_path / name) for name in ("a.mrc", "b.mrc")]
    volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    for name in names:
        write_volume(name, volume, pixel_size_angstrom=1.0)
    forbid(map_pairs, "correlate")
    refused(maps.run_fsc, FscSettings(first=names[0], second=names[1], out=out))
