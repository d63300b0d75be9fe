"""From a .star file to the report, with a pause, in one process."""

from dataclasses import replace
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch
import yaml

from raydrgn.clustering.embedding import principal_components
from raydrgn.errors import ConfigError, InputError, StorageError
from raydrgn.io import cryodrgn
from raydrgn.io.mrc import read_volume, write_volume
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.protocol import sequence
from raydrgn.protocol.decisions import ProjectInputs
from raydrgn.protocol.project import Project, Step
from raydrgn.protocol.settings import ProtocolSettings, TrainingPlan
from raydrgn.remote.executor import IN_PROCESS
from raydrgn.remote.progress import silent
from raydrgn.run.claim import ClaimError, RunClaim
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation
from raydrgn.training.assembly import keep_threads

TRAININGS = {"low": "epochs=3", "high": "16x1 epochs=3"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Particles, a fifth of them junk, and the mean of what they show."""
    folder = tmp_path_factory.mktemp("data")
    simulate(str(folder), Simulation(num_particles=200, box=16, snr=1.0, junk=0.2, seed=3))
    shown = np.load(folder / "truth" / "shown.npy")
    mean, size = 0, 0.0
    for number, count in zip(*np.unique(shown, return_counts=True), strict=True):
        volume, header = read_volume(str(folder / "truth" / f"vol_{number:03d}.mrc"))
        mean, size = mean + count * volume / len(shown), header.pixel_size_angstrom
    write_volume(str(folder / "map.mrc"), mean.astype(np.float32), pixel_size_angstrom=size)
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Components in place of UMAPs, and small figures: both take most of the time."""

    def components(z, **_):
        return principal_components(z).coordinates[:, :2].astype(np.float32)

    monkeypatch.setattr("raydrgn.clustering.embedding.umap_embedding", components)
    monkeypatch.setattr("raydrgn.convergence.epochs.umap_embedding", components)
    monkeypatch.setattr("raydrgn.reporting.figures.PRINT_DPI", 40)
    monkeypatch.setattr("raydrgn.reporting.figures.DPI", 40)


def settings(data, root, **given):
    given = {"map": str(data / "map.mrc"), **TRAININGS, **given}
    return ProtocolSettings(particles=str(data / "particles.star"), out=str(root), **given)


def image_numbers(star):
    """Return the place of each particle's image in its stack."""
    table = open_particles(ParticleSource(particles=str(star)), need_images=False)
    return table.column("slice")


def decisions(root):
    return yaml.safe_load((root / "project.yaml").read_text())["decisions"]


def folders(root):
    return {path.name for path in root.iterdir() if path.is_dir()}


@pytest.mark.clusters
@pytest.mark.usefixtures("quick")
def test_from_particles_to_the_report_with_one_pause(data, tmp_path):
    root = tmp_path / "project"
    paused = sequence.run(settings(data, root))
    assert paused.report is None
    assert folders(root) == {"check", "round1", "proposal1"}
    assert (root / "proposal1" / "cluster_images.png").exists()
    numbers = cryodrgn.read_indices(str(root / "proposal1" / "proposed.ind.pkl"))
    is_junk = np.load(data / "truth" / "labels.npy")[numbers] >= 7
    assert len(numbers) == paused.proposal.result["drop"]
    assert is_junk.mean() >= 0.95
    assert len(numbers) >= 0.9 * 40
    assert "selection 1" not in decisions(root)

    # A selection that leaves too few is refused, and not kept.
    sizes = [int(row[1]) for row in paused.proposal.result["table"][1:]]
    others = [str(k) for k in range(len(sizes)) if k != np.argmin(sizes)]
    with pytest.raises(InputError, match=r"Only \d+ of 200 particles would be left"):
        sequence.run(ProtocolSettings(out=str(root), drop=",".join(others)))
    assert "selection 1" not in decisions(root)

    # Nothing is made again, and what the first command was given holds.
    before = (root / "round1" / "weights.pkl").read_bytes()
    done = sequence.run(ProtocolSettings(out=str(root), accept=True))
    assert done.report == str(root / "report.html")
    assert (root / "round1" / "weights.pkl").read_bytes() == before
    found = decisions(root)
    assert found["low"]["by"] == "user"
    assert found["contrast"] == {
        "value": "bright", "by": "program", "why": found["contrast"]["why"],
    }  # fmt: skip
    kept = cryodrgn.read_indices(str(root / "selection1" / "kept.ind.pkl"))
    assert sorted({*kept, *numbers}) == list(range(200))

    # Every kept particle is exported with its class, by its own row of the original file.
    original = image_numbers(data / "particles.star")
    exported = []
    for path in sorted((root / "classes").glob("S*/particles.star")):
        numbers = cryodrgn.read_indices(str(path.parent / "ind.pkl"))
        assert np.array_equal(image_numbers(path), original[numbers])
        exported += numbers.tolist()
    assert sorted(exported) == sorted(kept.tolist())
    page = (root / "report.html").read_text()
    order = ("Inputs", "Round 1: filtering", "Round 2: training", "Rounds compared", "Ensemble")
    places = [page.index(f"<h2>{title}") for title in order]
    assert places == sorted(places)
    assert "raydrgn protocol -o . --drop 1:none" in page  # from the folder, wherever it is

    # A training that is planned for longer goes on in its folder; what was made of it stays.
    newest = decisions(root)["epoch of round 1"]["value"]["epoch"]
    before = (root / "round1" / f"weights.{newest}.pkl").read_bytes()
    longer = ProtocolSettings(out=str(root), low=f"16 epochs={newest + 1}")
    with pytest.raises(ConfigError, match=r"--drop names round 2, but .* after round 1 only"):
        sequence.run(replace(longer, drop="2:none"))
    assert sequence.run(longer).proposal is not None
    assert "round1.2" not in folders(root)
    assert (root / "round1" / f"weights.{newest + 1}.pkl").exists()
    assert (root / "round1" / f"weights.{newest}.pkl").read_bytes() == before


def test_an_overridden_hand_is_warned_of_once(data, tmp_path, monkeypatch, caplog):
    root = tmp_path / "project"

    def check_only(steps):
        steps._check()
        return sequence.ProtocolResult(project=Project(str(root)))

    monkeypatch.setattr(sequence._Sequence, "run", check_only)
    sequence.run(settings(data, root, flip=True))
    assert "hand is “as it is” from here on, not “flipped”" in caplog.text
    caplog.clear()
    sequence.run(ProtocolSettings(out=str(root)))
    assert "from here on" not in caplog.text
    sequence.run(ProtocolSettings(out=str(root), flip=True))
    assert "from here on" in caplog.text


def test_a_selection_edited_after_no_junk_was_found_loses_that_reason(data, tmp_path):
    given = settings(data, tmp_path / "project")
    project = Project(given.out)
    project.decisions.begin(ProjectInputs(source=given.source, map=given.map).absolute())
    found = {"drop": 0, "clusters": [], "null": None, "nothing": 0}
    result = {**found, "table": [["cluster"], ["0"], ["1"]]}
    proposal = Step(name="proposal", key="k", folder=project.root, result=result)
    plans = [TrainingPlan(box=16)] * 2
    steps = sequence._Sequence(project, given, plans, 16, IN_PROCESS, silent)
    found = steps._selection(1, proposal)
    assert found.by == "program"
    assert found.why.startswith("no junk was found")
    project.decisions.make(
        "selection 1", {**found.value, "clusters": [1]}, by="user", why=found.why
    )
    assert steps._selection(1, proposal).why == "set in project.yaml"


def test_one_command_at_a_time_works_on_a_project(data, tmp_path):
    root = tmp_path / "project"
    given = settings(data, root)
    Project(str(root)).decisions.begin(ProjectInputs(source=given.source, map=given.map).absolute())
    with RunClaim(str(root)) as claim:
        claim.take()
        with pytest.raises(ClaimError, match=r"project is in use by .* Wait for its end"):
            sequence.run(given)
    assert not folders(root)


def test_what_cannot_be_used_is_refused_before_anything_is_made(data, tmp_path, monkeypatch):
    root = tmp_path / "project"
    with pytest.raises(ConfigError, match="is not a project yet: give PARTICLES"):
        sequence.run(ProtocolSettings(out=str(root)))
    with pytest.raises(ConfigError, match=r"is not a project yet: give --map"):
        sequence.run(ProtocolSettings(out=str(root), particles=str(data / "particles.star")))
    stack = str(data / "particles.mrcs")
    with pytest.raises(InputError, match="a map must be a cube"):
        sequence.run(settings(data, root, map=stack))
    volume, _ = read_volume(str(data / "map.mrc"))
    for name, density, size in (("bare", volume, 0.0), ("flat", 0 * volume, 1.0)):
        write_volume(str(tmp_path / f"{name}.mrc"), density, pixel_size_angstrom=size)
    with pytest.raises(InputError, match="no pixel size in its header"):
        sequence.run(settings(data, root, map=str(tmp_path / "bare.mrc")))
    with pytest.raises(InputError, match="same density in every voxel"):
        sequence.run(settings(data, root, map=str(tmp_path / "flat.mrc")))
    with pytest.raises(InputError, match="is a map; --model takes an atomic model"):
        sequence.run(settings(data, root, model=str(data / "map.mrc")))
    with pytest.raises(ConfigError, match="--boxes has a box of 32 px, but the images have 16 px"):
        sequence.run(settings(data, root, boxes="16,32"))
    with pytest.raises(ConfigError, match="--high has a box of 32 px, but the images have 16 px"):
        sequence.run(settings(data, root, high="32 16x1"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"1 kB of room.*smaller boxes with --boxes"):
        sequence.run(settings(data, root))
    assert not root.exists()


def test_numba_does_not_change_how_many_threads_add_up():
    """Else results to the bit would depend on the steps that a process has made before."""

    @numba.njit(parallel=True)
    def total(values):
        found = 0.0
        for i in numba.prange(len(values)):
            found += values[i]
        return found

    torch_before, numba_before = torch.get_num_threads(), numba.get_num_threads()
    try:
        torch.set_num_threads(1)
        keep_threads()
        assert total(np.ones(100)) == 100
        assert torch.get_num_threads() == 1
    finally:
        numba.set_num_threads(numba_before)
        torch.set_num_threads(torch_before)


def test_an_estimate_begins_nothing(data, tmp_path):
    found = sequence.run(settings(data, tmp_path / "project", rounds=2, estimate=True)).estimate
    assert not (tmp_path / "project").exists()
    head, *rows, total = found.rows()
    assert {len(row) for row in (head, *rows, total)} == {6}
    rounds = [row for row in rows if row[0].startswith("round ")]
    assert len(rounds) == 3
    assert all(row[2].startswith("at most ") for row in rounds)
    assert rounds[0][1:] == rounds[1][1:]
    assert not [row for row in rows if row[0] == "masks"]  # there is no model
    assert rows[-1][0] == "report"
    assert found.seconds > 0
    assert all(cost.memory_bytes > 0 for cost in found.costs)
