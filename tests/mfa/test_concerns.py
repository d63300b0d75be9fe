"""What is said of images that do not fit."""

import math
import re
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import torch
from scipy import ndimage

import plain_em
from raydrgn.errors import InputError
from raydrgn.io.metadata import read_metadata
from raydrgn.mfa.concerns import concerns_of_contrast, last_concerns
from raydrgn.mfa.model import FactorModel, with_density
from raydrgn.mfa.support import share_outside
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.workflows import info


def concerns_of(model, *, null_class=True):
    return last_concerns(model, null_class=null_class, cut_off=0.0, has_latents=True)


def log_of(folder, root, **values):
    run = plain_em.prepare(
        folder / "particles.star", root, **{**plain_em.SMALL, "train__epochs": 1, **values}
    )
    return run, lambda: (root / "run.log").read_text()


def test_nothing_is_said_of_images_that_fit(clean):
    text = (clean / "run" / "run.log").read_text()
    assert "negative density" not in text
    assert "hardly better" not in text
    assert "than random ones" not in text


def test_images_of_the_other_sign_are_named(clean, tmp_path):
    run, text = log_of(clean, tmp_path / "run", data__invert=False)
    assert plain_em.fit(run)
    assert "the images seem to have the other sign" in text()


def test_a_mask_without_the_density_is_named(clean, tmp_path):
    mask = np.zeros((24, 24, 24), np.float32)
    mask[:, :, :8] = 1
    mrcfile.write(tmp_path / "mask.mrc", mask)
    run, text = log_of(clean, tmp_path / "run", mfa__mask=str(tmp_path / "mask.mrc"))
    assert plain_em.fit(run)
    found = re.search(r"The mask leaves out (\d+) % of the density", text())
    assert found
    assert 50 < int(found[1]) <= 90
    for by_mask_explained in ("hardly better", "the other sign"):
        assert by_mask_explained not in text()


def test_a_mask_without_any_of_the_density_is_refused(clean, tmp_path):
    mask = np.zeros((24, 24, 24), np.float32)
    mask[8:16, 8:16, :4] = 1
    mrcfile.write(tmp_path / "mask.mrc", mask)
    run, _ = log_of(clean, tmp_path / "run", mfa__mask=str(tmp_path / "mask.mrc"))
    with pytest.raises(InputError, match=r"leaves out (9[1-9]|100) % of the density of the mean"):
        plain_em.fit(run)


def test_a_mask_leaves_out_nothing_of_a_mean_without_density():
    small = torch.zeros(24, 24, 24)
    small[10:14, 10:14, 10:14] = 1
    assert share_outside(torch.zeros(24, 24, 24), small) == 0


def test_a_mask_that_cuts_off_a_motion_is_named(tmp_path):
    """A hinge, seen through a mask of its fixed part, and through one of all of it."""
    simulate(str(tmp_path), Simulation(num_particles=800, box=24, snr=0.4, seed=3, phantom="hinge"))
    states = sorted((tmp_path / "truth").rglob("*.mrc"))
    volumes = np.stack([mrcfile.read(path) for path in states])
    fixed, whole = (
        ndimage.binary_dilation(made(volumes, axis=0) > 0.15 * volumes.max(), iterations=2)
        for made in (np.min, np.max)
    )
    for name, mask, is_named in (("fixed", fixed, True), ("whole", whole, False)):
        mrcfile.write(tmp_path / f"{name}.mrc", mask.astype(np.float32))
        values = {"mfa__mask": str(tmp_path / f"{name}.mrc"), "train__epochs": 2}
        run, text = log_of(tmp_path, tmp_path / name, **values)
        assert plain_em.fit(run)
        assert ("cuts off mobile density" in text()) == is_named


def test_orientations_that_explain_nothing_are_named(tmp_path):
    simulation = Simulation(num_particles=600, box=24, snr=0.4, angle_error_deg=60, seed=3)
    simulate(str(tmp_path), simulation)
    run, text = log_of(tmp_path, tmp_path / "run")
    assert plain_em.fit(run)
    found = re.search(r"only ([\d.]+) nats more .* ones, while the mean explains (\d+)", text())
    assert found
    assert float(found[1]) < 0.25 * float(found[2])


def test_orientations_of_another_convention_are_named_though_a_search_makes_them_fit(tmp_path):
    """Transposed rotation matrices, of which the search takes those for widely off."""
    simulate(str(tmp_path), Simulation(num_particles=1500, box=24, snr=0.4, seed=71))
    table = read_metadata(str(tmp_path / "particles.star"))
    transposed = table.rotations.transpose(0, 2, 1).reshape(-1, 9)
    table.with_columns({"rotation": transposed}).write(str(tmp_path / "particles.parquet"))
    values = {**plain_em.SMALL, "train__epochs": 1}
    run = plain_em.prepare(tmp_path / "particles.parquet", tmp_path / "run", **values)
    assert plain_em.fit(run)
    text = (tmp_path / "run" / "run.log").read_text()
    assert "The given poses are off: orientations by" in text
    assert "than random ones" in text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rotation_sd", math.radians(7), "orientations are off by 7 degrees"),
        ("shift_sd_px", 1.4, "shifts are off by 1.4 px"),
    ],
)
def test_errors_beyond_what_is_searched_are_named(clean, name, value, expected):
    tensors = plain_em.tensors(clean / "run", 6)
    model = FactorModel.from_tensors(tensors, box=24, device=torch.device("cpu"))
    assert not any("off by" in concern for concern in concerns_of(model))
    wide = replace(model, priors=replace(model.priors, **{name: value}))
    assert sum(expected in concern for concern in concerns_of(wide)) == 1


def test_junk_that_was_not_looked_for_is_named(clean):
    tensors = plain_em.tensors(clean / "run", 6)
    model = FactorModel.from_tensors(tensors, box=24, device=torch.device("cpu"))
    faint = replace(model, priors=replace(model.priors, null_share=0.0))
    name = "all null probabilities are 0: the mean explains so little of an image"
    assert any(name in concern for concern in concerns_of(faint))
    assert not any(name in concern for concern in concerns_of(faint, null_class=False))
    assert not any("null" in concern for concern in concerns_of(model))


def test_components_without_density_are_those_of_less_than_2_percent():
    volumes = torch.zeros(5, 2, 2, 2)
    volumes[0], volumes[1], volumes[2], volumes[3] = 100, 1, 0.03, 0.01
    assert with_density(volumes).tolist() == [True, True, False, False]
    assert not with_density(torch.zeros(3, 2, 2, 2)).any()


def test_images_without_particles_are_named(tmp_path):
    simulate(str(tmp_path), Simulation(num_particles=600, box=16, snr=1e-4, seed=2))
    run, text = log_of(tmp_path, tmp_path / "run")
    assert plain_em.fit(run)
    assert "hardly better than noise (0.0 nats each)" in text()


def test_images_that_determine_no_latent_are_named(tmp_path):
    simulate(str(tmp_path), Simulation(num_particles=400, box=24, snr=0.01, seed=5))
    run, text = log_of(tmp_path, tmp_path / "run", train__epochs=5, mfa__rotations=False)
    assert plain_em.fit(run)
    assert "The images determine no latent" in text()
    assert "components is below" not in text()
    shown = info.run(info.InfoSettings(path=str(tmp_path / "run")))
    assert sum("determine no latent" in c for c in shown.concerns) == 1
    assert not any("same" in c for c in shown.concerns)


@pytest.mark.parametrize("components", [12])
def test_components_without_density_are_counted(clean, tmp_path, components):
    run, text = log_of(
        clean, tmp_path / "run", mfa__components=components, train__epochs=9, mfa__rotations=False
    )
    assert plain_em.fit(run)
    weak = int(re.search(rf"(\d+) of {components} components is below 2 %", text())[1])
    shown = info.run(info.InfoSettings(path=str(tmp_path / "run")))
    assert ("components with density", f"{components - weak} of {components}") in shown.facts
    assert any(f"{weak} of {components} components is below" in c for c in shown.concerns)


def test_images_of_another_sign_and_groups_of_another_scale_are_told():
    generator = np.random.default_rng(0)
    contrast, null = 1 + 0.2 * generator.normal(size=400), np.zeros(400)
    groups = ["1", "2"] * 200
    assert concerns_of_contrast(contrast, null, groups) == []
    null[:100], contrast[:100] = 1, 0.0  # junk
    assert concerns_of_contrast(contrast, null, groups) == []
    scaled = np.where(np.arange(400) % 2, 3 * contrast, contrast)
    [found] = concerns_of_contrast(scaled, null, groups)
    assert found.startswith("Optics groups differ in scale (mean contrast of 1: 0.97, 2: 2.9")
    null[:50] = 0
    [found] = concerns_of_contrast(contrast, null, ["1"] * 400)
    assert found.startswith("14 % of the images that seem to show a particle have a contrast near")
