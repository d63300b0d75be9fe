"""Back-projection: against known maps."""

import csv

import numpy as np
import pytest
import torch

from known_map import BOX, PIXEL_SIZE, blobs, particle_table, write_images
from raydrgn.errors import ConfigError, StorageError
from raydrgn.fourier.shells import shell_correlation, shell_index
from raydrgn.fourier.transforms import fft_centred
from raydrgn.geometry.lattice import half_disc
from raydrgn.inputs import backprojection, reconstruction
from raydrgn.inputs.backprojection import back_project, split_rows
from raydrgn.inputs.fourier_accumulator import PADDING, FourierAccumulator
from raydrgn.inputs.insertion import Partition, insert_partition
from raydrgn.inputs.options import BackprojectionOptions
from raydrgn.inputs.report import check_folder, write_backprojection
from raydrgn.io.half_sets import half_of_particles
from raydrgn.io.mrc import read_header, read_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.remote.executor import Executor
from raydrgn.simulation.acquisition import draw_acquisition
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.ensemble import Ensemble
from raydrgn.simulation.images import ForwardModel
from raydrgn.simulation.options import Simulation
from raydrgn.workflows import backproject


def shell_power(volume):
    box = volume.shape[-1]
    power = fft_centred(torch.from_numpy(volume), ndim=3).abs().square().double()
    return torch.bincount(shell_index(box).flatten(), power.flatten())[: box // 2].numpy()


def test_a_point_of_the_grid_gets_all_and_its_neighbours_nothing():
    sums = FourierAccumulator.empty(8)
    places = torch.tensor([[[2.0, -1.0, 3.0]]])
    sums.insert(places, torch.tensor([[4 + 2j]]), torch.tensor([[0.5]]))
    centre = sums.values.shape[2] - 1
    z, y, x = centre + 3 * PADDING, centre - 1 * PADDING, 2 * PADDING
    assert sums.values[z, y, x] == 2 + 1j
    assert sums.weights[z, y, x] == 0.25
    assert int((sums.weights != 0).sum()) == 1


def test_a_point_between_is_shared_out_whole():
    sums = FourierAccumulator.empty(8)
    sums.insert(
        torch.tensor([[[1.1, 0.37, -0.2]]]), torch.tensor([[1 + 0j]]), torch.tensor([[1.0]])
    )
    assert float(sums.weights.sum()) == pytest.approx(1, abs=1e-6)
    z, y, x = torch.meshgrid(*(torch.arange(n).float() for n in sums.weights.shape), indexing="ij")
    centre = sums.values.shape[2] - 1
    for axis, expected in ((x, 2.2), (y, 0.74 + centre), (z, -0.4 + centre)):
        assert float((axis * sums.weights).sum()) == pytest.approx(expected, abs=1e-5)


def test_a_point_and_its_mate_say_the_same(generator):
    places = 4 * (2 * torch.rand(1, 50, 3, generator=generator) - 1) / 3**0.5
    places[0, :5, 0] = 0.0  # on the plane that holds both
    values = torch.randn(1, 50, generator=generator, dtype=torch.complex64)
    transfer = torch.randn(1, 50, generator=generator)
    own, mates = FourierAccumulator.empty(8), FourierAccumulator.empty(8)
    own.insert(places, values, transfer)
    mates.insert(-places, values.conj(), transfer)
    torch.testing.assert_close(own.completed().values, mates.completed().values)
    torch.testing.assert_close(own.completed().weights, mates.completed().weights)


def test_noise_free_projections_give_the_map_back(known, consensus):
    volume, _ = known
    curve = shell_correlation(torch.from_numpy(consensus.full), torch.from_numpy(volume))
    ratio = np.sqrt(shell_power(consensus.full) / shell_power(volume))
    to_09_nyquist = slice(1, int(0.9 * BOX / 2) + 1)
    assert float(curve[to_09_nyquist].min()) >= 0.99
    assert np.abs(ratio[to_09_nyquist] - 1).max() <= 0.1


def test_slices_of_one_direction_give_the_exact_projection(generator):
    # Points of an untilted slice are grid points: the plane z = 0 is the image, nothing is shared.
    box = 16
    image = torch.randn(box, box, generator=generator)
    points = torch.cat([half_disc(box), torch.zeros(1, 2, dtype=torch.int64)])
    spectrum = fft_centred(image, ndim=2)
    values = spectrum[points[:, 1] + box // 2, points[:, 0] + box // 2]
    sums = FourierAccumulator.empty(box)
    sums.insert(
        torch.nn.functional.pad(points.float(), (0, 1))[None],
        values[None],
        torch.ones(1, len(points)),
    )
    done = sums.completed()
    centre = done.values.shape[2] - 1
    for (x, y), value in zip(points.tolist(), values, strict=True):
        x, y, value = (x, y, value) if x >= 0 else (-x, -y, value.conj())
        at = (centre, centre + PADDING * y, PADDING * x)
        torch.testing.assert_close(done.values[at] / done.weights[at], value)


def test_with_noise_and_ctf_it_is_at_least_the_plain_weighted_average(tmp_path):
    generator = np.random.default_rng(5)
    volume = blobs(BOX, generator=generator)
    count = 1500
    ensemble = Ensemble(
        volumes=volume[None],
        pixel_size_angstrom=PIXEL_SIZE,
        labels=np.zeros(count, dtype=np.int64),
        shown=np.zeros(count, dtype=np.int64),
        state_names=["one"],
    )
    acquisition = draw_acquisition(count, generator=generator)
    model = ForwardModel(ensemble, acquisition)
    noise = model.noise_sd(0.1)
    images = np.concatenate(list(model.noisy(noise_sd=noise, generator=generator)))
    table = particle_table(
        tmp_path / "p.mrcs",
        images,
        acquisition.rotations,
        acquisition.shifts_fraction * BOX,
        ctf=acquisition.ctf,
    )
    kept = {}
    full_map = reconstruction.full_map

    def keep(even, odd, *, correlation):
        whole = (even + odd).completed()
        # The plain average: weighted sums over weights, and next to nothing added to them.
        kept["plain"] = reconstruction.reconstruct(
            whole, terms=1e-6 * reconstruction.mean_weights(whole)
        )
        return full_map(even, odd, correlation=correlation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raydrgn.inputs.backprojection.full_map", keep)
        found = back_project(table, BackprojectionOptions())
    centred = volume - volume.mean()  # these images have no sum

    def error(candidate):
        return float(
            np.square(candidate - candidate.mean() - centred).sum() / np.square(centred).sum()
        )

    def mean_correlation(candidate):
        curve = shell_correlation(torch.from_numpy(candidate), torch.from_numpy(volume))
        return float(curve[2:].mean())

    assert error(found.full) < error(kept["plain"])
    assert mean_correlation(found.full) > mean_correlation(kept["plain"]) - 0.002
    assert mean_correlation(found.full) > 0.75
    assert not found.verdict.problems


def test_half_maps_are_of_even_and_odd_particles(known):
    _, table = known
    # Odd particles that show nothing leave nothing in the second half map.
    size = (len(table), BOX, BOX)
    empty = np.random.default_rng(0).normal(size=size).astype(np.float32) * 1e-6
    stack = write_images(_beside(table, "empty.mrcs"), empty)
    odd = np.arange(len(table)) % 2 == 1
    mixed = table.with_columns(
        {
            "stack": np.where(odd, stack, table.stacks[0]).astype(object),
            "slice": np.where(odd, np.arange(len(table)), table.column("slice")),
        }
    )
    first, second = back_project(mixed, BackprojectionOptions()).halves
    assert np.square(second).sum() < 1e-6 * np.square(first).sum()


@pytest.mark.parametrize("times", ["in turn", "one after another"])
def test_rows_of_one_image_are_in_one_half(known, times):
    """As symmetry expansion makes them: noise in both half maps would agree with itself."""
    _, table = known
    rows = np.arange(len(table))
    expanded = np.repeat(rows, 2) if times == "in turn" else np.tile(rows, 2)
    half = half_of_particles(table.select(expanded))
    np.testing.assert_array_equal(half, expanded % 2)


def test_particles_are_read_from_their_own_stacks_and_none_leave_nothing(known):
    _, table = known
    other = write_images(_beside(table, "other.mrcs"), np.zeros((1, BOX, BOX), np.float32))
    stacks = np.array([table.stacks[0]] * (len(table) - 1) + [other], dtype=object)
    slices = np.append(table.column("slice")[:-1], 0)
    mixed = table.with_columns({"stack": stacks, "slice": slices})
    part = Partition.of(mixed, np.arange(3), map_pixel_size_angstrom=PIXEL_SIZE)
    assert [header.uri for header in part.source.headers] == table.stacks
    none = Partition.of(mixed, np.arange(0), map_pixel_size_angstrom=PIXEL_SIZE)
    bad, sums = insert_partition(none, invert=False)
    assert not len(bad)
    assert not sums.weights.any()
    assert sums.weights.shape == FourierAccumulator.empty(BOX).weights.shape


def _beside(table, name):
    return f"{table.stacks[0].rsplit('/', 1)[0]}/{name}"


@pytest.mark.parametrize("count", [2, 3, 10, 101, 5_001, 200_001, 5_000_000])
def test_every_particle_is_in_one_partition_of_its_half(count):
    partitions = split_rows(np.arange(count) % 2)
    rows = np.concatenate([partition.rows for partition in partitions])
    np.testing.assert_array_equal(np.sort(rows), np.arange(count))
    assert all((part.rows % 2 == part.half).all() for part in partitions)
    assert max(len(part.rows) for part in partitions) <= 25_001


def test_everything_is_written_with_the_right_pixel_size(consensus, tmp_path):
    out = str(tmp_path / "out")
    check_folder(out, box=BOX)
    write_backprojection(consensus, out)
    names = {"map.mrc", "half_map_a.mrc", "half_map_b.mrc", "mask.mrc", "fsc.csv", "fsc.png"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names | {
        "verdict.txt",
        "backproject.png",
    }
    for name in ("map", "half_map_a", "half_map_b"):
        header = read_header(str(tmp_path / f"out/{name}.mrc"))
        assert header.pixel_size_angstrom == pytest.approx(PIXEL_SIZE)
        assert header.is_volume
    written, _ = read_volume(str(tmp_path / "out/map.mrc"))
    np.testing.assert_array_equal(written, consensus.full)
    with (tmp_path / "out/fsc.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == BOX // 2
    assert float(rows[8]["frequency_per_angstrom"]) == pytest.approx(8 / (BOX * PIXEL_SIZE), 1e-4)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        check_folder(str(tmp_path / "out"), box=BOX)


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    simulate(str(tmp_path / "data"), Simulation(num_particles=8, box=16, seed=1))
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "maps")
    monkeypatch.setattr(backprojection, "back_project", None)
    source = ParticleSource(particles=str(tmp_path / "data" / "particles.star"))
    with pytest.raises(StorageError, match=rf"{tmp_path}/file cannot be written"):
        backproject.run(backproject.BackprojectSettings(source=source, out=out))


@pytest.mark.ray
def test_maps_are_the_same_to_the_bit_for_any_number_of_workers(ray_session, known, monkeypatch):
    monkeypatch.setattr(backprojection, "FEWEST_PARTICLES", len(known[1]) // 12)
    seen = []

    def maps(workers):
        with Executor(workers=workers) as executor:
            found = back_project(
                known[1],
                BackprojectionOptions(),
                executor=executor,
                progress=lambda what, done, total, **_: seen.append((done, total)),
            )
        return [found.full.tobytes(), *(half.tobytes() for half in found.halves)]

    assert len(split_rows(np.arange(len(known[1])) % 2)) > 8
    assert maps(1) == maps(2) == maps(3)
    assert seen[-1] == (len(known[1]), len(known[1]))
