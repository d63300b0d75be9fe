"""A grid in a file, of which slabs are read: what is taken and fitted is the same to the bit."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import plain_em
from raydrgn.errors import StorageError
from raydrgn.halves.components import _sample
from raydrgn.io import scratch
from raydrgn.mfa import blocks, held_out
from raydrgn.mfa.grids import VolumeGrids
from raydrgn.mfa.interpolation import gather, gather_tangents
from raydrgn.mfa.memory import fit_bytes, grid_bytes, grid_file_where_needed
from raydrgn.mfa.slice_grid import PADDING, SliceGridFile
from raydrgn.run.config import RunConfig
from raydrgn.run.mixture import read_mixture
from raydrgn.run.reader import RunReader, open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training import memory

CPU = torch.device("cpu")
BOX, VOLUMES = 24, 3


@pytest.fixture
def grid_file(tmp_path) -> SliceGridFile:
    return SliceGridFile(tmp_path, box=BOX, num_volumes=VOLUMES)


@pytest.mark.parametrize("radius", [3, 7, BOX / 2])
def test_slabs_have_what_the_whole_grid_has(grid_file, radius):
    generator = torch.Generator().manual_seed(1)
    volumes = torch.randn(VOLUMES, BOX, BOX, BOX, generator=generator)
    whole = VolumeGrids(BOX, device=CPU).for_slices(volumes, radius=radius)
    grids = VolumeGrids(BOX, device=CPU, grid_file=grid_file)
    assert grids.for_passes(volumes, radius=radius) is grid_file
    turns = Rotation.random(40, random_state=2).as_matrix().astype(np.float32)
    turns[:3] = Rotation.from_euler("x", [[0], [90], [90.001]], degrees=True).as_matrix()
    lattice = [(x, y) for x in range(BOX // 2) for y in range(-BOX // 2, BOX // 2)]
    points = torch.tensor([p for p in lattice if np.hypot(*p) < radius]).float() * PADDING
    factors = torch.randn(len(turns), len(points), generator=generator)
    place = torch.from_numpy(turns), points, factors
    moments = torch.randn(len(turns), VOLUMES, generator=generator)
    slices = tangents = None
    for slab in grid_file.slabs():
        slices = gather(slab, *place, slices)
        tangents = gather_tangents(slab, *place, moments, tangents)
    assert torch.equal(slices, gather(whole, *place))
    assert torch.equal(tangents, gather_tangents(whole, *place, moments))


def test_slabs_are_small_and_each_is_read_once(tmp_path):
    box = 96
    file = SliceGridFile(tmp_path, box=box, num_volumes=1)
    grids = VolumeGrids(box, device=CPU, grid_file=file)
    grids.for_passes(torch.zeros(1, box, box, box), radius=48)
    sizes, cells = [], []
    for slab in file.slabs():
        sizes.append(slab.values.nbytes)
        cells += slab.cells
    assert cells == list(range(box))
    assert file.num_bytes == grid_bytes(box, 0)
    assert max(sizes) < file.num_bytes / 7


def test_a_fit_in_slabs_ends_with_the_same_bits(tmp_path, monkeypatch):
    """With everything that is estimated, and several batches to each block."""
    options = {"contrast_sd": 0.15, "angle_error_deg": 3.0, "shift_error_px": 0.4, "junk": 0.1}
    simulate(str(tmp_path), Simulation(num_particles=400, box=24, snr=0.5, seed=3, **options))
    star, small = tmp_path / "particles.star", plain_em.SMALL | {"train__epochs": 4}
    ends = []
    monkeypatch.setattr(blocks, "particles_of_block", lambda *_, **__: 250)
    for name, free in (
        ("whole", fit_bytes(24, 4, device=CPU)),
        ("slabs", in_slabs(24, 4)),
    ):
        monkeypatch.setattr(memory, "free_memory", lambda *_, free=free: free)
        run = plain_em.prepare(star, tmp_path / name, **small)
        assert plain_em.fit(run)
        assert ("Memory has no room" in (tmp_path / name / "run.log").read_text()) == (
            name == "slabs"
        )
        ends.append(plain_em.tensors(tmp_path / name, 4))
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name
    latents = [(tmp_path / name / "z.4.pkl").read_bytes() for name in ("whole", "slabs")]
    assert latents[0] == latents[1]
    assert_same_likelihoods(open_run(str(tmp_path / "whole")), monkeypatch)


def assert_same_likelihoods(run: RunReader, monkeypatch) -> None:
    """Compare those that `halves` takes of a fit."""
    config = RunConfig.read(run.files.config)
    sample = _sample(run, config, sorted(set(run.particles().optics_groups())))
    model = read_mixture(run, run.epoch(None))
    found, files = [], []
    found.append(held_out.image_likelihoods(model, *sample, has_contrast=True))
    monkeypatch.setattr(held_out, "free_memory", lambda _: 0)

    def in_file(*arguments, **others):
        files.append(grid_file_where_needed(*arguments, **others))
        return files[-1]

    monkeypatch.setattr(held_out, "grid_file_where_needed", in_file)
    found.append(held_out.image_likelihoods(model, *sample, has_contrast=True))
    assert isinstance(files[0], SliceGridFile)
    assert torch.equal(found[0].precision, found[1].precision)
    np.testing.assert_array_equal(found[0].by_components, found[1].by_components)


def test_a_gpu_takes_no_grid_from_a_file():
    assert grid_file_where_needed(24, 4, device=torch.device("cuda"), free=0) is None


def test_the_memory_that_is_named_holds_a_slab_and_a_block():
    box, components = 512, 10
    count, points = components + 1, round(np.pi / 2 * (box / 2) ** 2)
    grid = grid_bytes(box, components)
    particles = blocks.particles_of_block(grid, num_volumes=count, num_points=points)
    assert 200 < particles < 400
    block = 4 * particles * points * (2 * count + blocks.HELD)
    volumes, sums = 4 * count * box**3, 8 * count * (box // 2 + 1) * (box + 1) ** 2
    assert block + grid / 12 + sums + volumes < in_slabs(box, components) < grid + sums + volumes


def in_slabs(box: int, components: int) -> int:
    return fit_bytes(box, components, device=CPU, is_in_slabs=True)


def test_a_disk_without_room_is_missed_before_particles_are_read(tmp_path, monkeypatch):
    simulate(str(tmp_path), Simulation(num_particles=60, box=24, seed=1))
    run = plain_em.prepare(tmp_path / "particles.star", tmp_path / "run", **plain_em.SMALL)
    free = in_slabs(24, 4)
    monkeypatch.setattr(memory, "free_memory", lambda *_: free)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: usage(0, 0, 1000))
    text = r"has .* free, but the Fourier grid of the components, .* needs .* MB there"
    with pytest.raises(StorageError, match=text + ".*TMPDIR.*--components"):
        plain_em.fit(run)
