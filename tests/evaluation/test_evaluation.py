"""Agreement with a known truth: figures with known answers, and truths that do not fit."""

import json
import shutil

import numpy as np
import pytest
from scipy.stats import special_ortho_group
from typer.testing import CliRunner

from finished_run import make_run
from phantoms import table_of, write_mrc
from raydrgn.cli.main import app
from raydrgn.decoding.options import VolumeOptions
from raydrgn.decoding.pool import VolumeDecoder
from raydrgn.errors import InputError, RunDirectoryError, StorageError
from raydrgn.evaluation import evaluation
from raydrgn.evaluation import report as truth_report
from raydrgn.evaluation.evaluation import evaluate, fsc_curves, mean_fsc, nearest_to_median
from raydrgn.evaluation.separation import separate
from raydrgn.evaluation.truth import Truth, read_truth
from raydrgn.io.cryodrgn import write_latents
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.workflows import evaluate as workflow
from raydrgn.workflows.evaluate import EvaluateSettings

BOX, COUNT = 8, 60
CENTRES = np.array([[0, 0], [6, 0], [0, 6]])
LABELS = np.repeat([0, 1, 2], 20)


@pytest.fixture(scope="module")
def latents():
    """Three states, well apart: twenty particles each."""
    return CENTRES[LABELS] + np.random.default_rng(0).normal(size=(COUNT, 2)) / 5


@pytest.fixture
def run(tmp_path, latents):
    return make_run(tmp_path / "run", latents)


@pytest.fixture
def truth_folder(tmp_path, run, latents):
    """A truth whose volume of each state is the decoder's own at the state's centre."""
    folder = tmp_path / "truth"
    folder.mkdir()
    np.save(folder / "labels.npy", LABELS)
    decoder = VolumeDecoder(run.decoder(1), VolumeOptions())
    for number, volume in enumerate(decoder.decode(CENTRES.astype(np.float32))):
        write_mrc(folder / f"vol_{number:03d}.mrc", volume, pixel_size=2.0, volume=True)
    (folder / "states.json").write_text(json.dumps(["core", "head"]))
    return folder


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """Ten images stand for CryoBench's hundred."""
    monkeypatch.setattr(evaluation, "IMAGES", 10)


def test_rows_of_another_file_are_known_by_their_images(tmp_path):
    """The truth is by the numbers of the simulated set, whatever file the run was trained from."""
    simulate(str(tmp_path / "data"), Simulation(num_particles=60, box=BOX, seed=3))
    star = tmp_path / "data" / "particles.star"
    chosen = np.random.default_rng(0).permutation(60)[:40]
    head, rows = star.read_text().split("_rlnOpticsGroup #11\n")
    lines = [line for line in rows.splitlines() if line.strip()]
    other = tmp_path / "data" / "other.star"
    picked = "\n".join(lines[row] for row in chosen)
    other.write_text(f"{head}_rlnOpticsGroup #11\n{picked}\n")
    truth = str(tmp_path / "data" / "truth")
    table = open_particles(ParticleSource(particles=str(other)))
    run = make_run(tmp_path / "run", np.zeros((40, 2)), box=BOX, table=table)
    found = read_truth(truth, run, num_particles=40)
    np.testing.assert_array_equal(found.original, chosen)
    np.testing.assert_array_equal(found.labels, np.load(f"{truth}/labels.npy")[chosen])
    shifted = table.column("defocus_u_angstrom") + 5000.0
    stack = np.full(40, "/elsewhere.mrcs", dtype=object)
    wrong = table.with_columns({"stack": stack, "defocus_u_angstrom": shifted})
    run = make_run(tmp_path / "wrong", np.zeros((40, 2)), box=BOX, table=wrong)
    with pytest.raises(InputError, match="which particle is which is not known"):
        read_truth(truth, run, num_particles=40)


# FSC -----------------------------------------------------------------------------------------


def test_curves_are_of_pairs_and_never_negative():
    rng = np.random.default_rng(0)
    volumes = rng.normal(size=(3, BOX, BOX, BOX))
    found = fsc_curves(volumes, np.stack([volumes[0], -volumes[1], rng.normal(size=(8, 8, 8))]))
    np.testing.assert_allclose(found[0], 1, atol=1e-6)
    assert found[1].tolist() == [1, 0, 0, 0]  # −1 counts as 0
    assert (found[2] >= 0).all()
    assert mean_fsc(found[:2]) == pytest.approx(0.5)  # without the entry that is 1 by definition


def test_a_run_that_knows_the_truth_reaches_it(run, truth_folder, monkeypatch):
    # Particles at their state's centre are decoded into exactly the true volumes.
    monkeypatch.setattr(type(run), "latents", lambda *_: CENTRES[LABELS].astype(np.float32))
    found = evaluate(run, str(truth_folder))
    assert found.epoch == 1
    assert found.images == 10
    assert found.fsc == pytest.approx(1, abs=1e-5)
    assert found.fsc_masked == pytest.approx(1, abs=1e-5)
    # trapezoid of 1 over 0 … 3/8 cycles per pixel
    assert found.fsc_auc == pytest.approx(0.375, abs=1e-5)
    assert found.fsc_of_mean < 1
    assert [state.fsc for state in found.states] == pytest.approx([1, 1, 1], abs=1e-5)
    assert [LABELS[state.particle] for state in found.states] == [0, 1, 2]


def test_volumes_are_compared_with_what_the_images_show(run, truth_folder, monkeypatch):
    shown = np.roll(LABELS, 7)  # frames of a motion, say, of which states are coarser
    np.save(truth_folder / "shown.npy", shown)
    monkeypatch.setattr(type(run), "latents", lambda *_: CENTRES[shown].astype(np.float32))
    assert evaluate(run, str(truth_folder)).fsc == pytest.approx(1, abs=1e-5)


def test_the_mean_of_the_truth_is_weighed_by_particles(tmp_path):
    volumes = np.stack([np.full((2, 2, 2), v, dtype=np.float32) for v in (1.0, 5.0, 100.0)])
    truth = Truth(volumes=volumes, pixel_size_angstrom=1.0, state_names=list("abc"),
                  labels=np.array([0, 0, 0, 1]), shown=np.array([0, 0, 0, 1]),
                  original=np.arange(4))  # fmt: skip
    assert (truth.mean_volume() == 2).all()
    assert truth.states() == [0, 1]


def test_figures_and_curves_are_written(run, truth_folder):
    result = workflow.run(EvaluateSettings(run=run.files.root, truth=str(truth_folder)))
    found, folder = result.evaluation, truth_folder.parent / "run" / "evaluate.1"
    assert result.folder.is_made_from(run.identity(1))
    written = json.loads((folder / "evaluation.json").read_text())
    assert written["fsc"] == found.fsc
    assert written["separation"]["rand_index"] == found.separation.rand_index
    table = np.loadtxt(folder / "per_image_fsc.csv", delimiter=",", skiprows=1)
    assert table.shape == (10, 2 + BOX // 2)
    assert table[:, 0].tolist() == list(range(0, COUNT, 6))
    assert table[:, 3:].mean() == pytest.approx(found.fsc, abs=1e-5)
    head = (folder / "per_image_fsc.csv").read_text().splitlines()[0]
    assert head == "particle,original,0.000000,0.125000,0.250000,0.375000"


def test_images_are_taken_evenly(run, truth_folder, monkeypatch):
    monkeypatch.setattr(evaluation, "IMAGES", 7)  # CryoBench: every (N // n)-th particle
    assert evaluate(run, str(truth_folder)).images == len(range(0, COUNT, COUNT // 7))


def test_the_particle_nearest_to_the_median_is_a_member():
    z = np.array([[0, 0], [1, 1], [1.2, 0.9], [9, 9], [5.0, 5.0]])
    assert nearest_to_median(z, np.array([0, 1, 2, 3])) in (1, 2)
    assert nearest_to_median(z, np.array([3])) == 3


# Separation ----------------------------------------------------------------------------------


def truth_of(labels, motion=None):
    count = int(labels.max()) + 1
    return Truth(
        volumes=np.zeros((count, 4, 4, 4), dtype=np.float32),
        pixel_size_angstrom=1.0,
        state_names=[f"state {i}" for i in range(count)],
        labels=labels,
        shown=labels,
        original=np.arange(len(labels)),
        motion_deg=motion,
    )


def test_states_that_are_apart_are_told_apart(latents):
    found = separate(latents, truth_of(LABELS))
    assert (found.neighbour_accuracy, found.rand_index, found.rand_index_mixture) == (1, 1, 1)
    assert [(s.recall, s.precision) for s in found.by_state] == [(1, 1)] * 3
    assert [s.share for s in found.by_state] == pytest.approx([1 / 3] * 3)
    assert found.motion_order is None


def test_strays_cost_their_own_state_recall_and_the_other_precision():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(66, 2)), 50 + rng.normal(size=(30, 2))])
    labels = np.repeat([0, 1], [60, 36])  # six of state 1 lie among the sixty of state 0
    labels[:66] = rng.permutation(labels[:66])
    zero, one = separate(z, truth_of(labels)).by_state
    assert (zero.recall, one.recall) == (1, 30 / 36)
    assert (zero.precision, one.precision) == (60 / 66, 1)
    assert (zero.share, one.share) == (60 / 96, 36 / 96)


def test_a_latent_space_that_knows_nothing_is_at_chance():
    z = np.random.default_rng(0).normal(size=(600, 2))
    found = separate(z, truth_of(np.arange(600) % 2))
    assert found.neighbour_accuracy == pytest.approx(0.5, abs=0.1)  # 0.02 a standard error
    assert abs(found.rand_index) < 0.05


def test_turning_and_scaling_the_latents_makes_no_difference(latents):
    plain = separate(latents, truth_of(LABELS))
    turned = latents @ special_ortho_group.rvs(2, random_state=0) * 3 + 5
    assert separate(turned, truth_of(LABELS)) == plain


def test_one_state_has_nothing_to_separate(latents):
    found = separate(latents, truth_of(np.zeros(COUNT, dtype=np.int64)))
    assert found.neighbour_accuracy is None
    assert found.by_state == []


@pytest.mark.parametrize("sign", [1, -1])
def test_a_motion_along_a_bent_curve_is_in_order(sign):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 1, 200)
    z = np.stack([np.cos(2.5 * angle), np.sin(2.5 * angle)], -1) + rng.normal(size=(200, 2)) / 50
    found = separate(sign * z, truth_of(np.zeros(200, dtype=np.int64), motion=angle * 90))
    assert found.motion_order > 0.98


def test_a_motion_in_clusters_that_lie_apart_is_in_order_of_the_clusters():
    generator = np.random.default_rng(3)
    angle = generator.uniform(0, 180, 600)
    middle = np.radians(20 * np.round(angle / 20))
    z = np.stack([np.cos(middle), np.sin(middle)], axis=1) + generator.normal(0, 0.002, (600, 2))
    found = separate(z, truth_of(np.zeros(600, dtype=np.int64), motion=angle))
    assert found.motion_order > 0.97  # of the order within a cluster nothing is known


def test_particles_that_do_not_move_do_not_count():
    rng = np.random.default_rng(0)
    angle = np.concatenate([rng.uniform(0, 1, 100), np.full(100, np.nan)])
    along = np.where(np.isfinite(angle), angle, rng.uniform(0, 1, 200))
    z = np.stack([along, rng.normal(size=200) / 50], -1)
    found = separate(z, truth_of(np.zeros(200, dtype=np.int64), motion=angle))
    assert found.motion_order > 0.98
    few = separate(z[90:], truth_of(np.zeros(110, dtype=np.int64), motion=angle[90:]))
    assert few.motion_order is None


# Truths that do not fit ----------------------------------------------------------------------


def test_a_truth_is_that_of_the_run_s_own_particles(tmp_path, truth_folder, latents):
    rows = np.array([59, 0, 21])
    part = make_run(tmp_path / "part", latents[rows], table=table_of(60).select(rows))
    truth = read_truth(str(truth_folder), part, num_particles=3)
    assert truth.labels.tolist() == [2, 0, 1]
    assert truth.original.tolist() == [59, 0, 21]
    assert truth.state_names == ["core", "head", "state 2"]
    assert truth.pixel_size_angstrom == 2.0
    assert truth.motion_deg is None


def refuse(run, folder, message):
    with pytest.raises(InputError, match=message):
        evaluate(run, str(folder))


def test_a_folder_without_truth_is_refused(run, truth_folder, tmp_path):
    with pytest.raises(StorageError, match="nowhere does not exist"):
        evaluate(run, str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    refuse(run, tmp_path / "empty", r"empty has no labels\.npy .* which --truth needs")
    (truth_folder / "labels.npy").unlink()
    refuse(run, truth_folder, r"has no labels\.npy and vol_000\.mrc")


def test_the_truth_of_other_particles_is_refused(run, truth_folder):
    np.save(truth_folder / "labels.npy", LABELS[:30])
    refuse(run, truth_folder, r"labels\.npy has 30 particles, but there is a particle 59")
    np.save(truth_folder / "labels.npy", LABELS + 1)
    refuse(run, truth_folder, "has 3 volumes, but particles show number 3")
    np.save(truth_folder / "shown.npy", LABELS)
    refuse(run, truth_folder, "has 3 volumes, but particles show number 3")


def test_volumes_of_another_box_are_refused(run, truth_folder):
    volume = np.zeros((10, 10, 10), dtype=np.float32)
    write_mrc(truth_folder / "vol_001.mrc", volume, volume=True)
    refuse(run, truth_folder, "has volumes of 8, 10 px, but the run's box is 8 px")


def test_an_array_that_is_none_is_refused_and_nothing_of_it_runs(run, truth_folder):
    (truth_folder / "labels.npy").write_bytes(b"\x80\x04no array")
    refuse(run, truth_folder, r"labels\.npy .*NumPy")


def test_junk_counts_among_the_states_and_not_among_the_volumes(run, truth_folder):
    write_mrc(
        truth_folder / "vol_002.mrc", np.zeros((BOX,) * 3, np.float32), pixel_size=2.0, volume=True
    )
    said = CliRunner().invoke(app, ["evaluate", run.files.root, "--truth", str(truth_folder)])
    assert said.exit_code == 0, said.output
    result = evaluate(run, str(truth_folder))
    assert result.images == 10  # of forty particles
    assert result.fsc > 0.9
    assert [state.state for state in result.states] == [0, 1]
    assert len(result.separation.by_state) == 3
    np.save(truth_folder / "labels.npy", np.full(COUNT, 2))
    with pytest.raises(InputError, match="none of the run's images"):
        evaluate(run, str(truth_folder))


def test_names_are_printed_as_they_are(run, truth_folder):
    (truth_folder / "states.json").write_text(json.dumps(["[red]core", "[/x]", "[run7]"]))
    root = run.files.root + "[run7]"
    shutil.copytree(run.files.root, root)
    found = CliRunner().invoke(app, ["evaluate", root, "--truth", str(truth_folder)])
    assert found.exit_code == 0, found.output
    for text in ("[red]core", "[/x]", "run[run7]"):
        assert text in found.output.replace("\n", "")


def test_the_report_shows_states_and_motion(run, truth_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(truth_report, "umap_embedding", lambda z: z[:, :2])  # seconds to compile
    angles = np.where(np.repeat([0, 1, 2], 20) == 1, np.linspace(0, 90, COUNT), np.nan)
    np.save(truth_folder / "motion_deg.npy", angles)
    with (tmp_path / "run" / "metrics.jsonl").open("w") as stream:
        for epoch in (1, 2):
            stream.write(json.dumps({"epoch": epoch, "done": True, "total": 1.0,
                                     "reconstruction": 0.9, "kl": 0.1}) + "\n")  # fmt: skip
    seen = []
    truth_report.write_truth_report(
        str(tmp_path / "report.html"), run, str(truth_folder), evaluate(run, str(truth_folder)),
        title="a run", commands="raydrgn volumes", progress=lambda *done: seen.append(done),
    )  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png") == 6
    assert seen == [(k, 5) for k in range(1, 6)]
    assert "raydrgn volumes" in page


def test_volumes_of_the_truth_are_known_by_their_number(tmp_path, latents):
    """In the order of their names, vol_1000 comes before vol_101."""
    run = make_run(tmp_path / "run", latents, box=4)
    folder, count = tmp_path / "truth", 1012
    folder.mkdir()
    np.save(folder / "labels.npy", np.full(COUNT, count - 1))
    for number in range(count):
        volume = np.full((4, 4, 4), number + 1, np.float32)
        write_mrc(folder / f"vol_{number:03d}.mrc", volume, pixel_size=2.0, volume=True)
    truth = read_truth(str(folder), run, num_particles=COUNT)
    np.testing.assert_array_equal(truth.volumes[:, 0, 0, 0], np.arange(count) + 1)
    (folder / "vol_500.mrc").unlink()
    with pytest.raises(InputError, match=r"1011 volumes up to vol_1011\.mrc.*without gaps"):
        read_truth(str(folder), run, num_particles=COUNT)


def test_latents_that_diverged_are_refused_in_words(run, truth_folder, latents):
    latents = latents.astype(np.float32)
    latents[3] = np.nan
    write_latents(run.files.latents(1), latents, np.zeros_like(latents))
    with pytest.raises(RunDirectoryError, match="latents of 1 of 60 particles are not finite"):
        evaluate(run, str(truth_folder))


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    run, truth_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: pytest.fail("it was evaluated"))
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "results")
    settings = EvaluateSettings(run=run.root, truth=str(truth_folder), out=out)
    with pytest.raises(StorageError, match=str(tmp_path / "file")):
        workflow.run(settings)


def test_a_truth_of_other_particles_leaves_no_folder(run, truth_folder, monkeypatch):
    def refuse(*_, **__):
        raise InputError("other particles")

    monkeypatch.setattr(evaluation, "evaluate", refuse)
    with pytest.raises(InputError):
        workflow.run(EvaluateSettings(run=run.root, truth=str(truth_folder), epoch=1))
    assert not list((truth_folder.parent / "run").glob("evaluate.*"))


def test_a_folder_of_others_is_refused_before_the_work(run, truth_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: pytest.fail("it was evaluated"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(RunDirectoryError, match="files that no raydrgn command wrote"):
        workflow.run(
            EvaluateSettings(run=run.root, truth=str(truth_folder), out=str(tmp_path / "notes"))
        )
