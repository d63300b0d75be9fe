"""Runs that cryoDRGN trained: its volumes, its weights' names, its latents from its images.

The asset's README says how it was made.
"""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from phantoms import Hostile, hostile_archive
from raydrgn.ctf import CTFParameters, contrast_transfer
from raydrgn.data.config import ImageConfig
from raydrgn.data.ingest import shifts_px
from raydrgn.data.preprocess import Preparation
from raydrgn.data.source import ImageSource
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.errors import ConfigError, InputError, RunDirectoryError
from raydrgn.fourier.transforms import hartley_from_disc
from raydrgn.geometry.lattice import plane_coordinates
from raydrgn.io import cryodrgn
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import CTF_COLUMNS
from raydrgn.io.sources import open_particles
from raydrgn.model.vae import HeterogeneousVAE
from raydrgn.notebook import open_run as open_in_notebook
from raydrgn.run.listing import summarise
from raydrgn.run.reader import open_run

ASSETS = Path(__file__).parent.parent / "assets" / "cryodrgn"
LATENTS = np.array([[1.5, -0.5], [-2, 1]], dtype=np.float32)
PIXEL_SIZE = 21.25
CASES = {
    "plain": (LATENTS, VolumeOptions()),
    "box8": (LATENTS, VolumeOptions(box=8)),
    "flip_invert": (LATENTS[1:], VolumeOptions(flip=True, invert=True)),
    "low_pass": (LATENTS[1:], VolumeOptions(low_pass_angstrom=60.0)),
}

domains = pytest.mark.parametrize("domain", ["fourier", "hartley"])


@domains
@pytest.mark.parametrize("case", CASES)
def test_volumes_are_those_that_cryodrgn_made(domain, case):
    run = open_run(str(ASSETS / domain))
    latents, options = CASES[case]
    state = run.decoder(run.epoch(None), pixel_size_angstrom=PIXEL_SIZE)
    found = VolumeDecoder(state, options).decode(latents)
    expected = np.load(ASSETS / domain / f"{case}.npy")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())


@domains
def test_pixels_of_a_smaller_box_grow(domain):
    state = open_run(str(ASSETS / domain)).decoder(2, pixel_size_angstrom=PIXEL_SIZE)
    assert VolumeDecoder(state, VolumeOptions(box=8)).pixel_size_angstrom == 2 * PIXEL_SIZE


@domains
def test_what_a_run_of_cryodrgn_says_of_itself(domain):
    run = open_run(str(ASSETS / domain))
    assert run.is_foreign
    assert run.box == 16
    assert run.epoch(None) == 2
    assert run.model.zdim == 2
    assert run.latents(2).shape == (60, 2)
    expected = {"fourier": ("gaussian", "relu"), "hartley": ("geom_lowf", "leaky_relu")}
    assert (run.model.encoding, run.model.activation) == expected[domain]
    if domain == "hartley":
        assert (run.offset, run.scale) == (3.0, 70.0)  # --norm 3 70


@domains
def test_weights_have_the_names_and_shapes_of_our_network(domain):
    run = open_run(str(ASSETS / domain))
    raw = torch.load(run.files.weights(2), weights_only=True)
    theirs = raw["model_state_dict"]
    vae = HeterogeneousVAE(run.model, box=16, num_pixels=theirs["encoder.main.0.weight"].shape[1])
    ours = vae.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert raw["epoch"] == 2


def test_latents_of_its_images_are_those_that_cryodrgn_found():
    """From pixels to latents: window, sign, transform, shift, CTF and encoder."""
    run = open_run(str(ASSETS / "fourier"))
    table = open_particles(
        ParticleSource(
            particles=str(ASSETS / "particles.mrcs"),
            poses=str(ASSETS / "poses.pkl"),
            ctf=str(ASSETS / "ctf.pkl"),
        )
    )
    preparation = Preparation(ImageConfig(box=16, scale=run.scale))
    # cryoDRGN shifts by a fraction of the odd lattice's side, 17/16 of what it should (2.1)
    shifts = shifts_px(table) * np.float32(17 / 16)
    coefficients = preparation(ImageSource.of(table).read(), shifts)
    freqs = plane_coordinates(preparation.points, 16)[:, :2] / PIXEL_SIZE
    params = np.stack([table.column(name) for name in CTF_COLUMNS], axis=-1)
    transfer = contrast_transfer(
        freqs.expand(len(table), -1, -1), CTFParameters.from_columns(torch.from_numpy(params))
    )
    flipped = hartley_from_disc(coefficients * transfer.sign()[..., None])
    vae = HeterogeneousVAE(run.model, box=16, num_pixels=flipped.shape[1])
    vae.load_state_dict(torch.load(run.files.weights(2), weights_only=True)["model_state_dict"])
    with torch.inference_mode():
        mean, _ = vae.encoder.encode(flipped)
    expected = run.latents(2)[: len(table)]
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-4 * expected.std())


# Older layouts, moved folders, hostile files -------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """A copy of the run that tests may change."""
    folder = tmp_path / "run"
    shutil.copytree(ASSETS / "fourier", folder)
    return folder


def configuration(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


@pytest.mark.parametrize("place", ["absolute", "relative"])
def test_the_pixel_size_is_that_of_the_ctf_at_the_run_s_box(copy, place):
    shutil.copy(ASSETS / "ctf.pkl", copy)
    raw = configuration(copy)
    raw["dataset_args"]["ctf"] = str(copy / "ctf.pkl") if place == "absolute" else "ctf.pkl"
    (copy / "config.yaml").write_text(yaml.safe_dump(raw))
    assert open_run(str(copy)).pixel_size_angstrom == PIXEL_SIZE
    with (copy / "ctf.pkl").open("wb") as stream:  # as estimated at a box of 32 px of 10 Å
        pickle.dump(np.array([[32, 10, 1, 1, 1, 1, 1, 1, 1]], np.float32), stream)
    assert open_run(str(copy)).pixel_size_angstrom == 20


def test_a_pixel_size_that_is_lost_is_said_where_it_is_needed(copy, caplog):
    raw = configuration(copy)
    raw["dataset_args"]["ctf"] = str(copy / "gone.pkl")
    (copy / "config.yaml").write_text(yaml.safe_dump(raw))
    run = open_run(str(copy))
    assert run.pixel_size_angstrom == 0
    assert run.decoder(2).pixel_size_angstrom == 1
    assert "is not known, and the command was given none; 1 Å is taken" in caplog.text
    assert run.decoder(2, pixel_size_angstrom=2.5).pixel_size_angstrom == 2.5


def test_the_pickled_configuration_of_cryodrgn_before_1_0_is_read(copy):
    raw = configuration(copy)
    del raw["model_args"]["activation"], raw["model_args"]["feat_sigma"]
    raw["dataset_args"]["norm"] = (np.float32(0), np.float64(2.5))
    # two pickles one after the other: the configuration, then where it comes from
    origin = {name: raw.pop(name) for name in ("time", "cmd", "version")}
    content = pickle.dumps(raw, protocol=3) + pickle.dumps(origin, protocol=3)
    (copy / "config.yaml").unlink()
    (copy / "config.pkl").write_bytes(content)
    run = open_run(str(copy))
    assert run.scale == 2.5
    assert run.model.encoding_sigma == 0.5
    assert run.decoder(2).build(torch.device("cpu")) is not None


def test_epochs_of_cryodrgn_0_3_count_from_0(copy):
    for kind in ("weights", "z"):
        (copy / f"{kind}.2.pkl").rename(copy / f"{kind}.0.pkl")
    run = open_run(str(copy))
    assert run.files.epochs() == [0]
    assert run.epoch(None) == 0
    assert run.epoch(0) == 0


def test_weights_that_cryodrgn_wrote_from_several_gpus_are_read(copy):
    """In 2022 names had the prefix of DataParallel (cryoDRGN's pull request 190)."""
    raw = torch.load(copy / "weights.2.pkl", weights_only=True)
    raw["model_state_dict"] = {f"module.{k}": v for k, v in raw["model_state_dict"].items()}
    torch.save(raw, copy / "weights.2.pkl")
    state = open_run(str(copy)).decoder(2, pixel_size_angstrom=PIXEL_SIZE)
    found = VolumeDecoder(state, VolumeOptions()).decode(LATENTS)
    expected = np.load(ASSETS / "fourier" / "plain.npy")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())


def test_a_run_with_its_last_weights_only(copy):
    for kind in ("weights", "z"):
        (copy / f"{kind}.2.pkl").rename(copy / f"{kind}.pkl")
    run = open_run(str(copy))
    assert run.epoch(None) is None
    assert run.latents(None).shape == (60, 2)
    assert run.decoder(None).box == 16
    assert summarise(str(copy)).epochs_shown == "last only"
    assert "the last epoch alone" in repr(open_in_notebook(str(copy)))


def test_particles_that_have_moved_or_do_not_fit_are_said_with_a_way_on(copy, tmp_path):
    with pytest.raises(RunDirectoryError, match=r"cryoDRGN's, .* Make a link there"):
        open_run(str(copy)).particles(need_images=True)
    raw = configuration(copy)
    raw["dataset_args"] |= {"particles": str(tmp_path / "p.mrcs"), "poses": None, "ctf": None}
    (tmp_path / "p.mrcs").write_text("none")
    (copy / "config.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(RunDirectoryError, match=r"What is wrong: raydrgn info .*p\.mrcs"):
        open_run(str(copy)).particles(need_images=True)


def with_own_files(copy, tmp_path, *, left_out=None):
    """Name particles, poses and CTF beside the run in its configuration; one of them is absent."""
    raw = configuration(copy)
    for name in ("particles.mrcs", "poses.pkl", "ctf.pkl"):
        kind = name.split(".")[0]
        raw["dataset_args"][kind] = str(tmp_path / name)
        if kind != left_out:
            shutil.copy(ASSETS / name, tmp_path)
    raw["dataset_args"]["ind"] = None
    (copy / "config.yaml").write_text(yaml.safe_dump(raw))


@pytest.mark.parametrize("kind", ["particles", "poses", "ctf"])
def test_the_file_that_is_gone_is_named(kind, copy, tmp_path, caplog):
    with_own_files(copy, tmp_path, left_out=kind)
    run = open_run(str(copy))
    with pytest.raises(RunDirectoryError, match=rf"/{kind}\.\w+ does not exist. Make a link there"):
        run.particles(need_images=True)
    run.decoder(2)
    assert ("ctf.pkl, which its configuration names, cannot be read" in caplog.text) == (
        kind == "ctf"
    )


def test_the_file_that_is_damaged_is_named(copy, tmp_path):
    with_own_files(copy, tmp_path)
    (tmp_path / "ctf.pkl").write_bytes(pickle.dumps(Hostile(copy / "ran")))
    with pytest.raises(RunDirectoryError, match=r"ctf\.pkl is not as it.*raydrgn info .*ctf\.pkl"):
        open_run(str(copy)).particles(need_images=True)
    assert not (copy / "ran").exists()


def test_latents_of_another_number_of_particles_are_refused(copy, tmp_path):
    with_own_files(copy, tmp_path)
    count = len(cryodrgn.read_poses(str(tmp_path / "poses.pkl")).rotations)
    run = open_run(str(copy))
    assert len(run.original_numbers(count)) == count
    with pytest.raises(RunDirectoryError, match=rf"of 7 particles, but .*poses.pkl.* has {count}"):
        run.original_numbers(7)
    raw = configuration(copy)
    raw["model_args"]["encode_mode"] = "tilt"  # a pose of each image, of several tilts of each
    (copy / "config.yaml").write_text(yaml.safe_dump(raw))
    assert len(open_run(str(copy)).original_numbers(7)) == 7


def test_nothing_of_a_malicious_configuration_runs(copy):
    (copy / "config.yaml").unlink()
    (copy / "config.pkl").write_bytes(pickle.dumps(Hostile(copy / "ran")))
    with pytest.raises(InputError, match=r"config\.pkl is refused"):
        open_run(str(copy))
    (copy / "config.yaml").write_text(f"!!python/object/apply:os.system ['touch {copy}/ran']\n")
    with pytest.raises(ConfigError, match=r"config\.yaml is not YAML"):
        open_run(str(copy))
    assert not (copy / "ran").exists()


def test_nothing_of_malicious_weights_or_latents_runs(copy):
    _, mark = hostile_archive(copy, "weights.2.pkl")
    (copy / "z.2.pkl").write_bytes(pickle.dumps(Hostile(copy / "ran")))
    run = open_run(str(copy))
    with pytest.raises(RunDirectoryError, match=r"weights\.2\.pkl does not contain weights"):
        run.decoder(2)
    with pytest.raises(InputError, match=r"z\.2\.pkl is refused"):
        run.latents(2)
    assert not mark.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("model_args"),
        lambda raw: raw["model_args"].pop("qdim"),
        lambda raw: raw["dataset_args"].pop("norm"),
        lambda raw: raw["model_args"].update(zdim="many"),
        lambda raw: raw.update(lattice_args=None),
    ],
    ids=["no network", "no width", "no norm", "no number", "no lattice"],
)
def test_other_configurations_are_refused(copy, change):
    raw = configuration(copy)
    change(raw)
    (copy / "config.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(
        RunDirectoryError, match="neither raydrgn's nor that of cryoDRGN's train_vae"
    ):
        open_run(str(copy))


def test_weights_of_another_network_are_refused(copy):
    raw = configuration(copy)
    raw["model_args"]["pdim"] = 32
    (copy / "config.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(RunDirectoryError, match=r"run: weights and configuration are not of one"):
        open_run(str(copy)).decoder(2).build(torch.device("cpu"))
