"""Back-projection: against known maps, and what its verdict says of wrong inputs."""

import csv

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from raydrgn.ctf import CTFParameters, contrast_transfer
from raydrgn.data.preprocess import ImageCorrection
from raydrgn.errors import ConfigError, InputError
from raydrgn.fourier.shells import shell_correlation, shell_index
from raydrgn.fourier.slices import SliceSampler
from raydrgn.fourier.transforms import fft_centred, ifft_centred, images_from_disc
from raydrgn.geometry.lattice import half_disc, plane_coordinates
from raydrgn.geometry.rotations import random_rotations, to_euler
from raydrgn.inputs import backprojection, reconstruction
from raydrgn.inputs.backprojection import back_project, split_rows
from raydrgn.inputs.diagnosis import find_pixel_size_factor, find_shift_factor
from raydrgn.inputs.downsampling import downsample
from raydrgn.inputs.fourier_accumulator import PADDING, FourierAccumulator
from raydrgn.inputs.options import BackprojectionOptions, DownsamplingOptions
from raydrgn.inputs.report import check_folder, write_backprojection
from raydrgn.io.mrc import StackWriter, read_header, read_slices, read_volume, write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS, ParticleTable
from raydrgn.io.sources import open_particles
from raydrgn.remote.executor import Executor
from raydrgn.simulation.ensemble import Ensemble
from raydrgn.simulation.images import ForwardModel, draw_acquisition

BOX = 32
PIXEL_SIZE = 6.0


def blobs(box, *, generator, count=40):
    """Return a map of Gaussian blobs in a ball, none of its mirror images alike."""
    radius = 0.28 * box
    centres = generator.normal(size=(count, 3))
    centres *= (radius * generator.uniform(0.2, 1, count) / np.linalg.norm(centres, axis=1))[
        :, None
    ]
    centres[: count // 2, 2] = np.abs(centres[: count // 2, 2])
    ticks = np.arange(-(box // 2), box // 2)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    grid = np.stack([x, y, z], axis=-1)
    return sum(np.exp(-((grid - centre) ** 2).sum(-1) / (2 * 1.0**2)) for centre in centres).astype(
        np.float32
    )


def write_images(path, images, *, pixel_size=PIXEL_SIZE):
    count, box, _ = images.shape
    with StackWriter.open(str(path), count, box=box, pixel_size_angstrom=pixel_size) as writer:
        writer.append(images)
    return str(path)


def project(volume, rotations, shifts_px):
    """Return noise-free projections, sum of pixels included, moved by minus the shifts."""
    box = volume.shape[-1]
    points = half_disc(box)
    places = plane_coordinates(points, box) @ torch.from_numpy(rotations).float() * box
    values = torch.view_as_complex(SliceSampler(torch.from_numpy(volume)).at(places))
    turns = torch.from_numpy(shifts_px).float() @ points.float().t() / box
    values = values * torch.polar(torch.ones_like(turns), 2 * np.pi * turns)
    images = images_from_disc(torch.view_as_real(values), points, box=box)
    return (images + volume.sum() / box**2).numpy()


def particle_table(path, images, rotations, shifts_px, *, ctf=None):
    count, box, _ = images.shape
    columns = {
        "index": np.arange(count),
        "stack": [write_images(path, images)] * count,
        "slice": np.arange(count),
        "box": np.full(count, box),
        "rotation": rotations.reshape(count, 9),
        "shift_angstrom": shifts_px * PIXEL_SIZE,
        "pixel_size_angstrom": np.full(count, PIXEL_SIZE),
    }
    if ctf is not None:
        columns |= {name: ctf[:, i] for i, name in enumerate(CTF_COLUMNS)}
    return ParticleTable.from_columns(columns)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A known map, and 1,500 noise-free particles of it with exact poses."""
    generator = np.random.default_rng(3)
    volume = blobs(BOX, generator=generator)
    rotations = random_rotations(1500, generator=generator).astype(np.float32)
    shifts = generator.uniform(-1.5, 1.5, (1500, 2)).astype(np.float32)
    images = project(volume, rotations, shifts)
    path = tmp_path_factory.mktemp("known") / "particles.mrcs"
    return volume, particle_table(path, images, rotations, shifts)


@pytest.fixture(scope="module")
def consensus(known):
    """The map of the known particles."""
    return back_project(known[1], BackprojectionOptions(out=""))


def shift_factor(table, volume):
    return find_shift_factor(
        table,
        torch.from_numpy(volume),
        pixel_size_angstrom=PIXEL_SIZE,
        invert=True,
        correction=ImageCorrection(),
    )


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
        found = back_project(table, BackprojectionOptions(out=""))
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
    empty = np.random.default_rng(0).normal(size=(1, BOX, BOX)).astype(np.float32) * 1e-6
    stack = write_images(_beside(table, "empty.mrcs"), empty)
    odd = np.arange(len(table)) % 2 == 1
    mixed = table.with_columns(
        {
            "stack": np.where(odd, stack, table.stacks[0]).astype(object),
            "slice": np.where(odd, 0, table.column("slice")),
        }
    )
    first, second = back_project(mixed, BackprojectionOptions(out="")).halves
    assert np.square(second).sum() < 1e-6 * np.square(first).sum()


def _beside(table, name):
    return f"{table.stacks[0].rsplit('/', 1)[0]}/{name}"


@pytest.mark.parametrize("count", [2, 3, 10, 101, 5_001, 200_001, 5_000_000])
def test_every_particle_is_in_one_partition_of_its_half(count):
    partitions = split_rows(count)
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


def verdict_with(known, tmp_path, reference=None, pixel_size=PIXEL_SIZE, table=None, **options):
    if reference is not None:
        place = str(tmp_path / "reference.mrc")
        write_volume(place, reference, pixel_size_angstrom=pixel_size)
        options["reference"] = place
    return back_project(table or known[1], BackprojectionOptions(out="", **options)).verdict


def test_right_inputs_have_no_problems(known, tmp_path):
    verdict = verdict_with(known, tmp_path, known[0])
    assert verdict.problems == []
    text = verdict.text()
    assert "Resolution: 12.00 Å" in text
    assert "density is positive" in text
    assert "matches the reference as is" in text


def test_inverted_contrast_is_said_with_its_flag(known, tmp_path):
    verdict = verdict_with(known, tmp_path, uninvert_data=True)
    [problem] = verdict.problems
    assert "inverted" in problem
    assert "leave out --uninvert-data" in problem
    dark = known[1]
    header = read_header(dark.stacks[0])
    images = -np.fromfile(dark.stacks[0], dtype="<f4", offset=header.data_start).reshape(
        -1, BOX, BOX
    )
    stack = write_images(tmp_path / "dark.mrcs", images)
    dark = dark.with_columns({"stack": [stack] * len(dark)})
    [problem] = verdict_with(known, tmp_path, table=dark).problems
    assert "use --uninvert-data" in problem


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_other_hand_is_said_with_its_flag(axis, known, tmp_path):
    mirrored = np.ascontiguousarray(np.flip(known[0], axis))
    [problem] = verdict_with(known, tmp_path, mirrored).problems
    assert "mirror image" in problem
    assert "Use --flip" in problem
    if axis == 0:
        assert verdict_with(known, tmp_path, mirrored, flip=True).problems == []


def test_leaving_out_flip_is_the_remedy_where_it_was_given(known, tmp_path):
    [problem] = verdict_with(known, tmp_path, known[0], flip=True).problems
    assert "Leave out --flip" in problem


def test_a_reference_of_another_box_and_pixel_size_is_found(known, tmp_path):
    # The same density at 5 Å/px in a box of 48: the field of view is 240 Å instead of 192 Å.
    coarse = known[0]
    wide = ndimage.affine_transform(
        coarse.astype(np.float64),
        np.full(3, 5.0 / PIXEL_SIZE),
        offset=16 - 24 * 5.0 / PIXEL_SIZE,
        output_shape=(48, 48, 48),
        order=3,
    ).astype(np.float32)
    verdict = verdict_with(known, tmp_path, wide, pixel_size=5.0)
    assert verdict.problems == []
    assert verdict.comparison.score > 0.9


def test_a_reference_of_something_else_does_not_match(known, tmp_path):
    other = blobs(BOX, generator=np.random.default_rng(99))
    [problem] = verdict_with(known, tmp_path, other).problems
    assert "does not match" in problem
    assert "--half-size-shifts" in problem


def test_a_reference_of_other_composition_is_no_fault_of_the_pixel_size(known, tmp_path):
    # Two thirds of the density are the particles'; the rest only the reference has.
    more = 1.3 * blobs(BOX, generator=np.random.default_rng(7))
    verdict = verdict_with(known, tmp_path, known[0] + more)
    assert verdict.problems == []
    assert verdict.comparison.resolution_angstrom > 6 * PIXEL_SIZE
    assert "composition or conformation" in verdict.text()
    assert "check the pixel size" not in verdict.text()


@pytest.mark.parametrize("stated", [5.4, 6.6, 12.0])
def test_a_reference_with_a_wrong_pixel_size_is_measured(stated, known, consensus):
    factor = find_pixel_size_factor(
        consensus.full, known[0], consensus.resolution, reference_pixel_size_angstrom=stated
    )
    assert factor == pytest.approx(PIXEL_SIZE / stated, abs=0.015)


def test_the_right_pixel_size_has_no_better_one(known, consensus):
    factor = find_pixel_size_factor(
        consensus.full, known[0], consensus.resolution, reference_pixel_size_angstrom=PIXEL_SIZE
    )
    assert factor is None


@pytest.mark.parametrize(("given", "expected"), [(0.5, 2), (2, 0.5), (-1, -1), (1, None)])
def test_shifts_of_another_unit_or_sign_are_measured(given, expected, known):
    volume, table = known
    wrong = table.with_columns({"shift_angstrom": given * table.column("shift_angstrom")})
    assert shift_factor(wrong, volume) == expected


def test_shifts_of_images_that_are_centred_already_are_measured(known, tmp_path):
    volume, table = known
    few = table.slice_rows(0, 200)
    still = np.zeros((200, 2), dtype=np.float32)
    centred = particle_table(
        tmp_path / "c.mrcs", project(volume, few.rotations.astype(np.float32), still),
        few.rotations, few.column("shift_angstrom") / PIXEL_SIZE,
    )  # fmt: skip
    assert shift_factor(centred, volume) == 0


def test_shifts_of_half_the_unit_have_their_remedy(known, tmp_path):
    wrong = known[1].with_columns({"shift_angstrom": known[1].column("shift_angstrom") / 2})
    problems = verdict_with(known, tmp_path, known[0], table=wrong).problems
    assert any("twice as large" in p and "--half-size-shifts" in p for p in problems)


def test_a_negative_reference_is_named(known, tmp_path):
    problems = verdict_with(known, tmp_path, -known[0]).problems
    assert any("negative" in problem for problem in problems)


def test_a_moved_reference_is_named(known, tmp_path):
    moved = np.roll(known[0], 4, axis=2)
    [problem] = verdict_with(known, tmp_path, moved).problems
    assert "(-24.0, 0.0, 0.0) Å" in problem


def test_poses_of_other_particles_give_no_structure(known, tmp_path):
    table = known[1]
    mixed = np.random.default_rng(1).permutation(len(table))
    wrong = table.with_columns({"rotation": table.rotations[mixed].reshape(-1, 9)})
    problems = verdict_with(known, tmp_path, known[0], table=wrong).problems
    assert any("does not match" in p or "do not agree" in p for p in problems)


def test_a_reference_without_pixel_size_is_refused(known, tmp_path):
    with pytest.raises(InputError, match="no pixel size in its header"):
        verdict_with(known, tmp_path, known[0], pixel_size=0.0)


def test_particles_without_poses_are_refused(tmp_path):
    images = np.random.default_rng(0).normal(size=(4, BOX, BOX)).astype(np.float32)
    table = open_particles(ParticleSource(particles=write_images(tmp_path / "p.mrcs", images)))
    with pytest.raises(InputError, match="has no poses"):
        back_project(table, BackprojectionOptions(out=""))


def test_one_particle_makes_no_halves(known):
    with pytest.raises(InputError, match="two particles"):
        back_project(known[1].select(np.array([0])), BackprojectionOptions(out=""))


def test_bad_images_are_named(known, tmp_path):
    images = np.random.default_rng(0).normal(size=(6, BOX, BOX)).astype(np.float32)
    images[3, 0, 0] = np.inf
    eye = np.tile(np.eye(3, dtype=np.float32), (6, 1, 1))
    table = particle_table(tmp_path / "bad.mrcs", images, eye, np.zeros((6, 2), np.float32))
    with pytest.raises(InputError, match=r"particles 3 .*--drop-bad"):
        back_project(table, BackprojectionOptions(out=""))


@pytest.mark.ray
def test_maps_are_the_same_to_the_bit_for_any_number_of_workers(ray_session, known, monkeypatch):
    monkeypatch.setattr(backprojection, "FEWEST_PARTICLES", len(known[1]) // 12)
    seen = []

    def maps(workers):
        with Executor(workers=workers) as executor:
            found = back_project(
                known[1],
                BackprojectionOptions(out=""),
                executor=executor,
                progress=lambda what, done, total, **_: seen.append((done, total)),
            )
        return [found.full.tobytes(), *(half.tobytes() for half in found.halves)]

    assert len(split_rows(len(known[1]))) > 8
    assert maps(1) == maps(2) == maps(3)
    assert seen[-1] == (len(known[1]), len(known[1]))


POINT_ANGSTROM = np.array([15.0, -9.0, 6.0])


def _blob_images(rotations, shifts_px, pixel_sizes, box):
    """Return images of one Gaussian blob that lies at a point given in Å, as the formulas say."""
    centres = (rotations @ POINT_ANGSTROM)[:, :2] / pixel_sizes[:, None] - shifts_px
    ticks = np.arange(-(box // 2), box // 2)
    x, y = np.meshgrid(ticks, ticks)
    distance = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    width = 9.0 / pixel_sizes[:, None, None]  # Å
    return np.exp(-distance / (2 * width**2)).astype(np.float32)


def _write_star(path, stack, rotations, shifts_px, groups, group_sizes, box, *, in_angstrom):
    euler = to_euler(rotations)
    unit = "Angst" if in_angstrom else ""
    lines = ["data_optics", "", "loop_", "_rlnOpticsGroup", "_rlnImagePixelSize", "_rlnImageSize"]
    lines += [f"{i + 1} {size:.6f} {box}" for i, size in enumerate(group_sizes)]
    lines += ["", "data_particles", "", "loop_", "_rlnImageName", "_rlnAngleRot", "_rlnAngleTilt"]
    lines += ["_rlnAnglePsi", f"_rlnOriginX{unit}", f"_rlnOriginY{unit}", "_rlnOpticsGroup"]
    for i, (angles, shift, group) in enumerate(zip(euler, shifts_px, groups, strict=True)):
        moved = shift * (group_sizes[group] if in_angstrom else 1.0)
        numbers = " ".join(f"{v:.6f}" for v in [*angles, *moved])
        lines.append(f"{i + 1}@{stack.name} {numbers} {group + 1}")
    path.write_text("\n".join(lines) + "\n")


def _place_angstrom(star):
    result = back_project(
        open_particles(ParticleSource(particles=str(star))), BackprojectionOptions(out="")
    )
    box, size = result.full.shape[-1], result.resolution.pixel_size_angstrom
    # A blob at r has the phase −2πk·r / field: what is left of it at low frequencies, after that of
    # the point it should be at, is fitted by the offset.
    field, reach = box * size, 4
    spectrum = fft_centred(torch.from_numpy(result.full), ndim=3).numpy()
    window = (slice(box // 2 - reach, box // 2 + reach + 1),) * 3
    z, y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1]
    k = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    values = spectrum[window].ravel() * np.exp(2j * np.pi * (k @ POINT_ANGSTROM) / field)
    weights = np.abs(values) * (np.linalg.norm(k, axis=1) <= reach)
    offset, *_ = np.linalg.lstsq(
        k * weights[:, None], -np.angle(values) / (2 * np.pi) * weights, rcond=None
    )
    return POINT_ANGSTROM + offset * field, size


@pytest.mark.parametrize("offset", [0, 1000])
def test_hot_pixels_and_offsets_do_not_reach_the_map(known, consensus, tmp_path, offset, caplog):
    images = read_slices(read_header(known[1].stacks[0]), 0, len(known[1]))
    spread = images.std()
    images[[7, 900], 3, 4] = 1e6 * spread
    images = images + np.float32(offset * spread)
    stack = write_images(tmp_path / "hot.mrcs", images)
    table = known[1].with_columns({"stack": [stack] * len(images)})
    made = back_project(table, BackprojectionOptions(out=""))
    assert "7 (a pixel of" in caplog.text
    assert ("not normalised" in caplog.text) == (offset > 0)
    assert np.corrcoef(made.full.ravel(), consensus.full.ravel())[0, 1] > 0.99


FINE, COARSE = 3.0, 3.4  # Å
CENTRES_ANGSTROM = np.random.default_rng(8).normal(scale=12.0, size=(30, 3))


def _structure(freqs):
    """Return the transform of 30 Gaussian blobs of SD 2 Å, from its formula; at 1/Å."""
    phase = -2 * np.pi * freqs @ CENTRES_ANGSTROM.T
    return np.exp(1j * phase).sum(-1) * np.exp(-2 * (np.pi * 2.0) ** 2 * (freqs**2).sum(-1))


def _two_scales(path, sizes):
    """Return particles of the structure, each at its pixel size, with CTF and noise."""
    generator = np.random.default_rng(2)
    count = len(sizes)
    rotations = random_rotations(count, generator=generator)
    optics = np.tile([0, 0, 20.0, 300.0, 2.7, 0.1, 0.0], (count, 1))
    optics[:, :2] = generator.uniform(8000, 20000, (count, 1))
    points = half_disc(BOX)
    plane = plane_coordinates(points, BOX).numpy().astype(np.float64)
    freqs = plane / sizes[:, None, None]
    params = CTFParameters.from_columns(torch.from_numpy(optics.astype(np.float32)))
    ctf = contrast_transfer(torch.from_numpy(freqs[..., :2].astype(np.float32)), params).numpy()
    spectrum = -ctf * _structure(freqs @ rotations)
    values = torch.view_as_real(torch.from_numpy(spectrum.astype(np.complex64)))
    images = images_from_disc(values, points, box=BOX).numpy()
    noise = generator.standard_normal(images.shape) * images.std() * 2
    images = (images + noise).astype(np.float32)
    table = particle_table(path, images, rotations, np.zeros((count, 2)), ctf=optics)
    return table.with_columns({"pixel_size_angstrom": sizes})


def test_two_pixel_sizes_make_one_map_as_good_as_one_does(tmp_path, monkeypatch, caplog):
    ticks = np.arange(-(BOX // 2), BOX // 2) / (BOX * FINE)
    z, y, x = np.meshgrid(ticks, ticks, ticks, indexing="ij")
    freqs = np.stack([x, y, z], axis=-1)
    transform = torch.from_numpy(_structure(freqs).astype(np.complex64))
    truth = ifft_centred(transform, ndim=3).real
    count = 2000
    sizes = np.where(np.arange(count) % 4 < 2, FINE, COARSE)  # in both halves

    def fsc(table):
        made = back_project(table, BackprojectionOptions(out=""))
        assert made.resolution.pixel_size_angstrom == FINE
        curve = shell_correlation(truth, torch.from_numpy(made.full))
        return curve[3 : int(BOX / 2 * FINE / COARSE)].numpy()  # where both groups have points

    one = fsc(_two_scales(tmp_path / "one.mrcs", np.full(count, FINE)))
    mixed = _two_scales(tmp_path / "mixed.mrcs", sizes)
    with caplog.at_level("INFO"):
        two = fsc(mixed)
    assert "3 Å (1,000 particles); 3.4 Å (1,000 particles)" in caplog.text
    monkeypatch.setattr(
        "raydrgn.inputs.insertion.pixel_size_factors",
        lambda table, _: np.ones(len(table), np.float32),
    )
    unmodelled = fsc(mixed)
    assert one.min() > 0.9
    assert (two > one - 0.01).all()
    # measured: 0.94 at the last of these shells, and 0.69 where the groups are taken as one
    assert (1 - unmodelled > 3 * (1 - two)).all()


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking takes minutes and finds the smallest box
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**31),
    box=st.sampled_from([24, 28, 32]),
    small=st.sampled_from([12, 14, 16, 20]),
    pixel_size=st.floats(4.0, 7.0),
    other=st.floats(0.97, 1.03),
    in_angstrom=st.booleans(),
)
def test_a_map_stays_where_it_is_through_parsing_and_downsampling(
    seed, box, small, pixel_size, other, in_angstrom, tmp_path
):
    generator = np.random.default_rng(seed)
    count = 200
    rotations = random_rotations(count, generator=generator)
    shifts = generator.uniform(-2.5, 2.5, (count, 2))
    groups = generator.integers(0, 2, count)
    group_sizes = np.array([pixel_size, pixel_size * other])
    folder = tmp_path / str(seed)
    folder.mkdir(exist_ok=True)
    stack = folder / "particles.mrcs"
    write_images(
        stack, _blob_images(rotations, shifts, group_sizes[groups], box), pixel_size=pixel_size
    )
    star = folder / "particles.star"
    _write_star(star, stack, rotations, shifts, groups, group_sizes, box, in_angstrom=in_angstrom)
    place, size = _place_angstrom(star)
    assert np.abs(place - POINT_ANGSTROM).max() < 0.1 * size
    table = open_particles(ParticleSource(particles=str(star)))
    options = DownsamplingOptions(out=str(folder / "small.star"), box=small, overwrite=True)
    downsample(table, options)
    moved, new_size = _place_angstrom(folder / "small.star")
    assert new_size == pytest.approx(size * box / small, rel=1e-5)
    assert np.abs(moved - place).max() < 0.1 * size
