"""What ``raydrgn info`` finds, and what it thinks looks wrong."""

import fsspec
import numpy as np
import pytest
import torch

from finished_run import make_run
from phantoms import cs_rows, write_cs, write_mrc
from raydrgn.errors import InputError, StorageError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import write_volume
from raydrgn.io.mrc_stacks import StackWriter
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.workflows import info

COUNT, BOX = 10, 8


@pytest.fixture
def stack(tmp_path):
    images = np.random.default_rng(0).normal(size=(COUNT, BOX, BOX)).astype(np.float32)
    return write_stack(tmp_path / "p.mrcs", images)


def write_stack(path, images, pixel_size=2.0):
    with StackWriter.open(
        str(path), len(images), box=images.shape[-1], pixel_size_angstrom=pixel_size
    ) as writer:
        writer.append(images)
    return str(path)


def facts(uri, **options):
    found = info.run(info.InfoSettings(path=str(uri), **options))
    return dict(found.facts), " ".join(found.concerns)


def test_a_stack_says_count_box_pixel_size_and_mode(stack):
    found, concerns = facts(stack)
    assert found["slices"] == "10"
    assert found["box (px)"] == "8"
    assert found["pixel size (Å)"] == "2"
    assert found["pixels"] == "float32 (mode 2)"
    assert concerns == ""


def test_a_stack_with_bad_images_and_no_pixel_size_looks_wrong(tmp_path):
    images = np.random.default_rng(0).normal(size=(COUNT, BOX, BOX)).astype(np.float32)
    images[3], images[5, 0, 0] = 1, np.nan
    _, concerns = facts(write_stack(tmp_path / "p.mrcs", images, pixel_size=0.0))
    assert "header has no pixel size" in concerns
    assert "2 of 10 images" in concerns
    assert "1 values are not finite" in concerns


@pytest.mark.parametrize("shape", [(10, 9, 9), (10, 8, 9), (10, 9, 12)])
def test_images_of_odd_or_unequal_sides_are_described(tmp_path, shape):
    write_mrc(tmp_path / "p.mrcs", np.random.default_rng(0).normal(size=shape).astype("f4"))
    found, concerns = facts(tmp_path / "p.mrcs")
    assert found["slices"] == "10"
    assert ("odd" in concerns) is (shape[2] % 2 == 1)
    assert ("not square" in concerns) is (shape[1] != shape[2])


def test_a_map_says_its_origin(tmp_path):
    volume = np.random.default_rng(0).normal(size=[BOX] * 3).astype(np.float32)
    write_volume(
        str(tmp_path / "m.mrc"), volume, pixel_size_angstrom=3.0, origin_angstrom=(1.0, 2.0, 3.0)
    )
    found, concerns = facts(tmp_path / "m.mrc")
    assert found["origin (Å)"] == "1, 2, 3"
    assert concerns == ""


def test_a_map_of_inverted_contrast_is_named_with_its_remedy(tmp_path):
    ticks = np.indices([16] * 3) - 8
    ball = (np.sqrt((ticks**2).sum(axis=0)) < 4).astype(np.float32)
    for name, sign in (("right", 1), ("wrong", -1)):
        write_volume(str(tmp_path / f"{name}.mrc"), sign * ball, pixel_size_angstrom=3.0)
    found, concerns = facts(tmp_path / "right.mrc")
    assert float(found["skewness of the density"]) > 1
    assert concerns == ""
    found, concerns = facts(tmp_path / "wrong.mrc")
    assert float(found["skewness of the density"]) < -1
    assert "raydrgn invert MAP" in concerns


STAR = (
    "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n_rlnImageSize\n_rlnVoltage\n"
    "_rlnSphericalAberration\n_rlnAmplitudeContrast\n1 2.0 8 300 2.7 0.1\n2 2.0 8 300 2.7 0.1\n\n"
    "data_particles\n\nloop_\n_rlnImageName\n_rlnDefocusU\n_rlnDefocusV\n_rlnDefocusAngle\n"
    "_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n_rlnOriginXAngst\n_rlnOriginYAngst\n"
    "_rlnOpticsGroup\n"
)


def write_star(path, *, defocus=15_000, shift=1.0, tilt=20.0, stack="p.mrcs"):
    rows = [
        f"{i + 1}@{stack} {defocus} {defocus} 0 {10 * i} {tilt} 0 {shift} 0 {1 + i % 2}"
        for i in range(COUNT)
    ]
    path.write_text(STAR + "\n".join(rows) + "\n")
    return path


def test_a_star_file_says_groups_poses_and_ranges(stack, tmp_path):
    found, concerns = facts(write_star(tmp_path / "p.star"))
    assert found["particles"] == "10"
    assert found["optics groups"] == "1: 5, 2: 5"
    assert found["poses"] == "yes"
    assert found["shift x (Å)"] == "1"
    assert found["defocus U (Å)"] == "15000"
    assert found["pixels"] == "float32 (mode 2): 1"
    assert concerns == ""


@pytest.mark.parametrize(
    ("changes", "concern"),
    [
        ({"defocus": 1.5}, "defocus U (Å) is outside 1000 … 60000 for 10 rows"),
        ({"shift": 7.0}, "10 shifts are larger than a quarter of the box"),
        ({"stack": "gone.mrcs"}, "gone.mrcs, which is at none of"),
        ({"shift": 70.0}, "is larger than the box"),
    ],
)
def test_what_looks_wrong_in_a_star_file_is_said(changes, concern, stack, tmp_path):
    found, concerns = facts(write_star(tmp_path / "p.star", **changes))
    assert concern in concerns
    if "stack" in changes:
        assert found["particles"] == "10"  # what can be read is shown


def test_pickles_are_told_apart(tmp_path):
    poses = np.tile(np.eye(3, dtype=np.float32), (COUNT, 1, 1))
    shifts = np.full((COUNT, 2), 0.01, dtype=np.float32)
    cryodrgn.write_poses(str(tmp_path / "poses.pkl"), cryodrgn.Poses(poses, shifts))
    found, concerns = facts(tmp_path / "poses.pkl")
    assert found["shift x (of the box)"] == "0.01"
    assert "All rotations are the same" in concerns

    ctf = np.tile(
        np.array([8, 2.0, 15_000, 15_000, 0, 300, 2.7, 0.1, np.nan], np.float32), (COUNT, 1)
    )
    cryodrgn.write_ctf(str(tmp_path / "ctf.pkl"), ctf)
    found, concerns = facts(tmp_path / "ctf.pkl")
    assert found["pixel size (Å)"] == "2"
    assert "phase shift (°) is not a number for 10 rows" in concerns

    cryodrgn.write_latents(str(tmp_path / "z.pkl"), np.zeros((COUNT, 3)), np.zeros((COUNT, 3)))
    found, _ = facts(tmp_path / "z.pkl")
    assert found["shape"] == "10 × 3, float32"
    assert found["parts"] == "means and log-variances"

    cryodrgn.write_indices(str(tmp_path / "ind.pkl"), np.array([5, 2, 2]))
    found, _ = facts(tmp_path / "ind.pkl")
    assert (found["numbers"], found["distinct"], found["ascending"]) == ("3", "2", "no")


def test_matrices_that_are_no_rotations_and_shifts_in_pixels_look_wrong(tmp_path):
    matrices = np.random.default_rng(0).normal(size=(COUNT, 3, 3))
    shifts = np.full((COUNT, 2), 3.0)
    cryodrgn.write_poses(str(tmp_path / "poses.pkl"), cryodrgn.Poses(matrices, shifts))
    _, concerns = facts(tmp_path / "poses.pkl")
    assert "10 matrices are not rotations" in concerns
    assert "are they in pixels?" in concerns


def test_what_is_not_there_or_unknown_is_refused(tmp_path):
    with pytest.raises(StorageError, match="does not exist"):
        facts(tmp_path / "none.star")
    (tmp_path / "a.doc").write_text("")
    with pytest.raises(InputError, match="unknown type"):
        facts(tmp_path / "a.doc")


def test_every_kind_of_file_is_read_from_where_it_is(stack, tmp_path):
    """A URL is opened as a URL: here by fsspec's file system in memory."""
    write_star(tmp_path / "p.star")
    table = open_particles(ParticleSource(particles=str(tmp_path / "p.star")))
    table.write(str(tmp_path / "p.parquet"))
    (tmp_path / "list.txt").write_text("p.mrcs\n")
    np.save(tmp_path / "numbers.npy", np.array([3, 1]))
    cryodrgn.write_indices(str(tmp_path / "ind.pkl"), np.array([3, 1]))
    torch.save({"epoch": 1}, tmp_path / "weights.pkl")
    write_volume(str(tmp_path / "m.mrc"), np.eye(8)[None].repeat(8, 0), pixel_size_angstrom=2.0)
    write_cs(tmp_path, cs_rows(4, path=b"p.mrcs"))
    make_run(tmp_path / "run", np.random.default_rng(0).normal(size=(30, 2)))
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "memory://info", recursive=True)
    names = ["p.star", "p.parquet", "list.txt", "numbers.npy", "ind.pkl", "weights.pkl", "m.mrc"]
    for name in [*names, "p.mrcs", "particles.cs", "run"]:
        near, near_concerns = facts(tmp_path / name)
        far, far_concerns = facts(f"memory://info/{name}")
        assert far == near, name
        same = far_concerns.replace("memory://info", str(tmp_path)) == near_concerns
        assert same or "stacks are missing" in far_concerns, name


def test_an_array_that_is_none_is_one_message(tmp_path):
    (tmp_path / "a.npy").write_text("no array")
    with pytest.raises(InputError, match="not a NumPy array"):
        facts(tmp_path / "a.npy")


def test_a_file_without_particles_is_shown(tmp_path):
    (tmp_path / "none.star").write_text(STAR)
    found, concerns = facts(tmp_path / "none.star")
    assert found == {"particles": "0"}
    assert "lists no particles" in concerns
    write_cs(tmp_path, cs_rows(0), name="none.cs")
    found, concerns = facts(tmp_path / "none.cs")
    assert found == {"particles": "0"}
    assert "lists no particles" in concerns


def test_two_pixel_sizes_look_wrong(stack, tmp_path):
    star = write_star(tmp_path / "p.star")
    star.write_text(star.read_text().replace("\n2 2.0 8", "\n2 2.2 8"))
    found, concerns = facts(star)
    assert found["pixel size (Å)"] == "2 … 2.2"
    assert "optics group 1 has 2 Å (5 particles)" in concerns
    assert "optics group 2 has 2.2 Å (5 particles)" in concerns


def test_a_hot_pixel_and_an_offset_look_wrong(tmp_path):
    images = np.random.default_rng(0).normal(size=(COUNT, BOX, BOX)).astype(np.float32)
    hot = images.copy()
    hot[7, 2, 3] = 1e6
    _, concerns = facts(write_stack(tmp_path / "hot.mrcs", hot))
    assert "1 of 10 images examined are outliers" in concerns
    assert "particles 7 (a pixel of 1e+06)" in concerns
    _, concerns = facts(write_stack(tmp_path / "raw.mrcs", images + 1000))
    assert "not normalised" in concerns
