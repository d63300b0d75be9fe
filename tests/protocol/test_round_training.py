"""When a training goes on, which epoch is taken, and what the log has while it trains."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from planned_round import planned_round
from raydrgn.convergence.criteria import Finding
from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.particle_source import ParticleSource
from raydrgn.protocol import round_training
from raydrgn.protocol.decisions import ProjectInputs
from raydrgn.protocol.inputs import in_box
from raydrgn.protocol.project import Project
from raydrgn.protocol.round_training import train_round
from raydrgn.protocol.settings import TrainingPlan
from raydrgn.remote.executor import IN_PROCESS, Executor
from raydrgn.remote.progress import silent
from raydrgn.run.manifest import FileRecord, Manifest
from raydrgn.run.reader import open_run
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation


@pytest.fixture
def project(tmp_path):
    files = tmp_path / "p.star", tmp_path / "map.mrc"
    for path in files:
        path.write_text("content")
    found = Project(str(tmp_path / "project"))
    source = ParticleSource(particles=str(files[0]))
    found.decisions.begin(ProjectInputs(source=source, map=str(files[1])).absolute())
    return found


class Training:
    """Stands for training and comparison: which epochs were asked for, and what is found then."""

    def __init__(self, monkeypatch, *, converged_at, warned_at=1000):
        self.trained, self.compared, self.delete = [], [], None
        self._converged, self._warned = converged_at, warned_at
        monkeypatch.setattr(round_training, "_train", self.train)
        monkeypatch.setattr(round_training, "_compare", self.compare)
        monkeypatch.setattr(round_training, "judge", self.judge)
        run = self.run = SimpleNamespace(latents=lambda epoch: np.zeros((30, 2)), source=None)
        monkeypatch.setattr("raydrgn.run.reader.open_run", lambda folder: run)

    def train(self, this, folder, epochs, executor, progress):
        from raydrgn.io import storage

        self.trained.append(epochs)
        for name in ("config.yaml", "particles.parquet"):
            storage.write_bytes(f"{folder}/{name}", b"x")
        manifest = Manifest()
        for done in range(10 * epochs + 1):  # an epoch is reported before its weights are written
            progress("training", done, 10 * epochs)
            if done % 10 == 0 and done:
                epoch = done // 10
                for name in ("weights.{}.pkl", "z.{}.pkl", "estimates.{}.parquet"):
                    storage.write_bytes(f"{folder}/{name.format(epoch)}", b"x")
                record = FileRecord.of(b"x")
                manifest.epochs[epoch] = {"weights": record, "latents": record}
                if self.delete and done > 20:
                    self.delete(done // 10 - 2)
        manifest.write(f"{folder}/manifest.json")

    def judge(self, folder, last):
        return [Finding("log-likelihood", 3 if last >= self._converged else None, "by a rule")]

    def compare(self, folder, epochs, executor, progress):
        self.compared.append(epochs)
        is_converged = epochs >= self._converged
        found = SimpleNamespace(
            is_converged=is_converged,
            warnings=["The noise rises."] if epochs >= self._warned else [],
            before_overfitting=epochs - 20,  # every tenth epoch is examined
        )
        verdict = f"{'Converged' if is_converged else 'Not converged'} at epoch {epochs}."
        return SimpleNamespace(convergence=found, verdict=verdict)


def train(project, words, after=(), source=None, rows=None):
    this = planned_round(TrainingPlan.read(words, "--low").in_box(32), source=source, rows=rows)
    return train_round(project, this, after=list(after), executor=IN_PROCESS, progress=silent)


def test_a_mixture_goes_on_by_a_fifth_until_its_likelihood_has_converged(project, monkeypatch):
    training = Training(monkeypatch, converged_at=13)
    found = train(project, "epochs=10").result
    assert training.trained == [10, 12, 14]
    assert training.compared == [14]
    assert (found["epochs"], found["epoch"], found["is_converged"]) == (14, 14, True)
    assert found["why"] == "Converged at epoch 14. It went on after the 10 planned epochs."


def test_an_autoencoder_goes_on_by_half_and_to_twice_its_epochs_at_most(project, monkeypatch):
    training = Training(monkeypatch, converged_at=1000)
    found = train(project, "8x1 epochs=50").result
    assert training.trained == training.compared == [50, 75, 100]
    assert not found["is_converged"]
    assert found["why"].endswith("It was not trained longer than twice as planned.")


def test_an_overfitting_warning_ends_it_and_takes_an_earlier_epoch(project, monkeypatch):
    training = Training(monkeypatch, converged_at=1000, warned_at=50)
    found = train(project, "8x1 epochs=50").result
    assert training.trained == [50]
    assert found["epoch"] == 30
    decision = project.decisions.get("epoch of round 1")
    assert decision.value == {"run": "round1", "epoch": 30, "of": 50}
    assert decision.by == "program"
    assert decision.why == "Not converged at epoch 50. The noise rises."


def test_the_log_has_after_each_epoch_what_is_still_changing(project, monkeypatch, caplog):
    Training(monkeypatch, converged_at=5)
    with caplog.at_level(logging.INFO, "raydrgn"):
        train(project, "epochs=6")
    lines = [record.getMessage() for record in caplog.records if "epoch " in record.getMessage()]
    assert lines == [
        "round 1, epoch 3: still changing: log-likelihood",
        "round 1, epoch 4: still changing: log-likelihood",
        "round 1, epoch 5: losses and latents have converged",
    ]


def test_an_epoch_that_a_person_has_chosen_is_taken_and_later_steps_change(project, monkeypatch):
    Training(monkeypatch, converged_at=6)
    first = train(project, "epochs=6")
    path = f"{project.root}/project.yaml"

    def choose(epoch, why="looks best"):
        with open(path) as file:
            content = yaml.safe_load(file)
        content["decisions"]["epoch of round 1"] = {
            "value": {"run": "round1", "epoch": epoch, "of": 6}, "by": "user", "why": why,
        }  # fmt: skip
        with open(path, "w") as file:
            yaml.safe_dump(content, file)
        return train(Project(project.root), "epochs=6")

    chosen = choose(4)
    why = f"{first.result['why']} A person chose the epoch (looks best)."
    assert (chosen.result["epoch"], chosen.result["why"]) == (4, why)
    assert chosen.key != first.key
    # the program's own reason is not that of an epoch that a person has set
    assert choose(5, why=first.result["why"]).result["why"].endswith("(set in project.yaml).")
    assert Project(project.root).decisions.get("epoch of round 1").why == "set in project.yaml"
    assert choose(6).key == first.key
    with pytest.raises(InputError, match=r"round 1 is 9, but .* weights of 1, 2, 3, 4, 5, 6 only"):
        choose(9)


def test_a_training_planned_for_longer_goes_on_where_it_ended(project, monkeypatch):
    training = Training(monkeypatch, converged_at=5)
    first = train(project, "epochs=6")
    longer = train(Project(project.root), "epochs=8")
    assert training.trained == [6, 8]
    assert longer.folder == first.folder
    assert longer.key != first.key
    assert (longer.result["epochs"], longer.result["epoch"]) == (8, 8)
    # The first plan still has its own epoch, and what was made of it.
    again = train(Project(project.root), "epochs=6")
    assert (again.key, again.result["epoch"]) == (first.key, 6)
    # Fewer epochs than are trained are those of another schedule.
    assert train(Project(project.root), "epochs=7").folder != first.folder
    # So is another network.
    assert train(Project(project.root), "8x1 epochs=9").folder != first.folder


def test_an_epoch_keeps_its_key_where_the_training_has_gone_on(project, monkeypatch):
    Training(monkeypatch, converged_at=5)
    first = train(project, "epochs=6")
    monkeypatch.setattr(
        round_training,
        "_compare",
        lambda *_: SimpleNamespace(
            verdict="Converged.",
            convergence=SimpleNamespace(
                is_converged=True, warnings=["The noise rises."], before_overfitting=6
            ),
        ),
    )
    longer = train(Project(project.root), "epochs=8")
    assert (longer.result["epochs"], longer.result["epoch"]) == (8, 6)
    assert longer.key == first.key


def test_epochs_of_another_command_are_named_with_the_command_that_takes_them(
    project, monkeypatch, caplog
):
    training = Training(monkeypatch, converged_at=5)
    first = train(project, "epochs=6")
    training.train(None, first.folder, 9, None, lambda *_, **__: None)
    with caplog.at_level(logging.WARNING, "raydrgn"):
        assert train(Project(project.root), "epochs=6").result["epoch"] == 6
    assert "has been trained to epoch 9 by another command" in caplog.text
    assert f"raydrgn protocol -o {project.root} --low '32 epochs=9'" in caplog.text
    taken = train(Project(project.root), "epochs=9")
    assert (taken.folder, taken.result["epoch"]) == (first.folder, 9)


def test_epochs_are_judged_where_the_weights_of_earlier_ones_are_deleted(
    project, monkeypatch, caplog
):
    def deletes(number):
        from raydrgn.io import storage

        storage.remove(f"{project.root}/round1/weights.{number}.pkl")

    training = Training(monkeypatch, converged_at=5)
    training.delete = deletes
    with caplog.at_level(logging.INFO, "raydrgn"):
        train(project, "epochs=6")
    lines = [record.getMessage() for record in caplog.records if "epoch " in record.getMessage()]
    assert [line.partition(":")[0] for line in lines] == [
        f"round 1, epoch {number}" for number in (3, 4, 5)
    ]
    project.decisions.make(
        "epoch of round 1", {"run": "round1", "epoch": 2}, by="user", why="looks best"
    )
    with pytest.raises(InputError, match=r"round 1 is 2, but .* has weights of 5, 6 only"):
        train(Project(project.root), "epochs=6")


@pytest.mark.parametrize(("words", "workers"), [("32", 40), ("32 8x1", 16)])
def test_workers_are_those_of_the_command_and_no_more_than_a_batch(
    project, monkeypatch, words, workers
):
    asked = []

    class Stop(Exception):
        pass

    def run(settings, *, executor, progress):
        asked.append(settings.values())
        raise Stop

    monkeypatch.setattr("raydrgn.workflows.train.run", run)
    this = planned_round(TrainingPlan.read(words, "--low").in_box(32))
    several = Executor(workers=40, cpus_per_worker=2, gpus_per_worker=0)
    for executor in (several, IN_PROCESS):
        with pytest.raises(Stop):
            train_round(project, this, after=[], executor=executor, progress=silent)
    names = [f"resources.{name}" for name in ("num_workers", "cpus", "gpus")]
    assert [asked[0][name] for name in names] == [workers, 2, 0]
    assert not asked[1].keys() & set(names)  # the training's own


@pytest.mark.clusters
@pytest.mark.parametrize("place", [shutil.move, shutil.copytree])
def test_a_training_follows_its_particles_when_the_project_has_moved(tmp_path, monkeypatch, place):
    """Images in a smaller box, and a selection, lie in the project, and move with it."""
    found = SimpleNamespace(is_converged=True, warnings=[])
    compared = SimpleNamespace(convergence=found, verdict="Converged.")
    monkeypatch.setattr(round_training, "_compare", lambda *_: compared)
    simulate(str(tmp_path / "data"), Simulation(num_particles=40, box=16, snr=1.0, seed=5))
    source = ParticleSource(particles=str(tmp_path / "data" / "particles.star"))
    inputs = ProjectInputs(source=source, map=str(tmp_path / "data" / "truth" / "vol_000.mrc"))
    work = {"executor": IN_PROCESS, "progress": silent}

    def trained(root, epochs):
        project = Project(str(root))
        project.decisions.begin(inputs, has_results=project.has_results)
        small, made = in_box(project, 12, image_box=16, drop_bad=False, **work)
        rows = project.at("kept.rows.pkl")
        cryodrgn.write_indices(rows, np.arange(30))
        return train(project, f"12 8x1 epochs={epochs}", after=made, source=small, rows=rows)

    before = trained(tmp_path / "project", 3)
    weights = Path(before.at("weights.3.pkl")).read_bytes()
    place(tmp_path / "project", tmp_path / "elsewhere")
    after = trained(tmp_path / "elsewhere", 3)
    assert (after.key, after.folder) == (before.key, str(tmp_path / "elsewhere" / "round1"))
    assert Path(after.at("weights.3.pkl")).read_bytes() == weights
    place(tmp_path / "elsewhere", tmp_path / "again")
    after = trained(tmp_path / "again", 4)  # which is trained further
    assert after.result["epochs"] == 4
    run = open_run(after.folder)
    assert run.source.ind == str(tmp_path / "again" / "kept.rows.pkl")
    assert run.source.particles == str(tmp_path / "again" / "particles.12/particles.parquet")
    [stack] = run.particles(need_images=True).stacks
    where = "again" if place is shutil.move else "project"  # a copy reads what is there still
    assert stack == str(tmp_path / where / "particles.12/particles.mrcs")


@pytest.mark.parametrize("name", ["weights.6.pkl", "z.6.pkl", "particles.parquet", "manifest.json"])
def test_a_training_that_lost_a_file_is_refused_until_its_folder_is_deleted(
    project, monkeypatch, name
):
    training = Training(monkeypatch, converged_at=5)
    train(project, "epochs=6")
    lost = Path(project.root, "round1", name)
    lost.unlink()
    with pytest.raises(
        RunDirectoryError, match=rf"{name} is gone or damaged\..*“round 1” made"
    ) as e:
        train(Project(project.root), "epochs=6")
    assert f"delete the folder {project.root}/round1 and run: raydrgn protocol -o" in str(e.value)
    assert training.trained == [6]
    shutil.rmtree(lost.parent)
    train(Project(project.root), "epochs=6")
    assert training.trained == [6, 6]


def test_damaged_weights_are_known_by_their_checksum(project, monkeypatch):
    Training(monkeypatch, converged_at=5)
    train(project, "epochs=6")
    Path(project.root, "round1", "weights.6.pkl").write_bytes(b"y")  # of the same size
    with pytest.raises(RunDirectoryError, match=r"weights.6.pkl is gone or damaged"):
        train(Project(project.root), "epochs=6")
