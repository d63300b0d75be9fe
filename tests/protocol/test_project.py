"""Steps are made once, gone on with, and made again when something before them changed."""

import json
import logging
import re
import shutil
from dataclasses import replace

import pytest

from raydrgn.errors import ConfigError, InputError, RunDirectoryError, StorageError
from raydrgn.io.particle_checks import RowError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.sources import open_particles
from raydrgn.protocol.decisions import ProjectInputs, image_identity
from raydrgn.protocol.project import LostFileError, Project
from raydrgn.protocol.report import _decisions, _details, _resources
from raydrgn.remote.metrics import JOB_ID
from raydrgn.reporting.report import Section, write_report
from raydrgn.simulation.dataset import simulate
from raydrgn.simulation.options import Simulation


@pytest.fixture
def files(tmp_path):
    particles, density = tmp_path / "p.star", tmp_path / "map.mrc"
    particles.write_text("particles")
    density.write_text("map")
    return ProjectInputs(source=ParticleSource(particles=str(particles)), map=str(density))


@pytest.fixture
def root(tmp_path, files):
    Project(str(tmp_path / "project")).decisions.begin(files.absolute())
    return tmp_path / "project"


class Work:
    """Makes a file, and counts how often."""

    def __init__(self, text="x"):
        self.calls, self.text = [], text

    def __call__(self, folder):
        from raydrgn.io import storage

        self.calls.append(folder)
        storage.write_bytes(f"{folder}/made.txt", self.text.encode())
        return {"value": 7}, ["made.txt"]


def test_a_step_is_made_once_and_known_in_the_next_call(root):
    work = Work()
    first = Project(str(root)).step("check", {"box": 32}, work)
    again = Project(str(root)).step("check", {"box": 32}, work)
    assert len(work.calls) == 1
    assert (again.folder, again.key, again.result) == (first.folder, first.key, {"value": 7})
    assert first.folder.endswith("/check")


def test_what_a_killed_command_has_left_is_deleted(root):
    project = Project(str(root))
    project.step("check", {}, Work())
    left = root / f"current.json.{'0a' * 16}.part"
    left.write_text("{")
    of_another = root / f"notes.txt.{'0a' * 16}.part"
    of_another.write_text("")
    project.remove_unfinished()
    assert not left.exists()
    assert of_another.exists()
    assert (root / "current.json").exists()


def test_the_report_counts_a_step_once_that_two_rounds_use(root):
    project = Project(str(root))
    project.step("particles of 24 px", {"box": 24}, Work())
    project.step("round 1", {}, Work())
    project.step("particles of 24 px", {"box": 24}, Work())
    assert [row[0] for row in _resources(project).tables[0].rows] == [
        "particles of 24 px",
        "round 1",
    ]


def test_a_job_names_the_command_that_goes_on_as_a_job(root, monkeypatch):
    monkeypatch.delenv(JOB_ID, raising=False)
    assert Project(str(root)).command() == f"raydrgn protocol -o {root}"
    monkeypatch.setenv(JOB_ID, "raydrgn-protocol-1")
    expected = f"raydrgn submit protocol -o {root} --accept"
    assert Project(str(root)).command("--accept") == expected


def test_a_report_leads_to_others_by_paths_from_the_project(tmp_path):
    (tmp_path / "round1" / "analyze.3").mkdir(parents=True)
    (tmp_path / "round1" / "analyze.3" / "report.html").touch()
    folders = [str(tmp_path / name) for name in ("round1/analyze.3", "landscape")]
    found = _details(str(tmp_path), *folders)
    assert found == " Details: round1/analyze.3/report.html."
    write_report(
        str(tmp_path / "report.html"),
        title="project",
        summary="",
        sections=[Section(title="latent space", text=found)],
    )
    assert '<a href="round1/analyze.3/report.html">' in (tmp_path / "report.html").read_text()


def test_other_inputs_make_it_again_beside_the_earlier_results_and_say_why(root, caplog):
    work = Work()
    with caplog.at_level(logging.INFO, "raydrgn"):
        first = Project(str(root)).step("check", {"box": 32}, work)
        second = Project(str(root)).step("check", {"box": 48}, work)
    assert second.folder.endswith("/check.2")
    assert "check is made again: box is 48, not 32" in caplog.text
    assert (root / "check" / "made.txt").exists()
    back = Project(str(root)).step("check", {"box": 32}, work)
    assert back.folder == first.folder
    assert len(work.calls) == 2


def test_steps_after_a_changed_one_are_made_again_and_name_it(root, caplog):
    project, early, late = Project(str(root)), Work(), Work()
    project.step("train", {}, late, after=[project.step("check", {"box": 32}, early)])
    with caplog.at_level(logging.INFO, "raydrgn"):
        project.step("train", {}, late, after=[project.step("check", {"box": 48}, early)])
    assert len(late.calls) == 2
    assert "train is made again: “check” has changed" in caplog.text


def test_a_step_that_lacks_a_file_is_completed_in_its_folder_and_says_which(root, caplog):
    work = Work()
    step = Project(str(root)).step("check", {}, work)
    (root / "check" / "made.txt").unlink()
    (root / "check" / "other.txt").write_text("x")
    with caplog.at_level(logging.INFO, "raydrgn"):
        again = Project(str(root)).step("check", {}, work)
    assert len(work.calls) == 2
    assert "check lacks made.txt and is made again" in caplog.text
    assert (again.folder, again.key) == (step.folder, step.key)


def test_a_step_that_was_killed_goes_on_in_its_folder(root, caplog):
    class Killed(Exception):
        """As a signal that nothing catches."""

    def dies(folder):
        raise Killed

    project = Project(str(root))
    with pytest.raises(Killed):
        project.step("train", {"epochs": 3}, dies)
    records = json.loads((root / "steps.json").read_text())["train"]
    assert [record["is_whole"] for record in records] == [False]
    work = Work()
    with caplog.at_level(logging.INFO, "raydrgn"):
        made = Project(str(root)).step("train", {"epochs": 3}, work)
    assert made.folder.endswith("/train")
    assert "train goes on" in caplog.text


def test_a_failure_names_the_step_and_the_command_that_goes_on(root):
    def fails(folder):
        raise ConfigError("The map has no pixel size.")

    with pytest.raises(ConfigError, match=r"step “check”.*no pixel size.*raydrgn protocol -o"):
        Project(str(root)).step("check", {}, fails)

    def finds_a_bad_row(folder):
        raise RowError(7, "the defocus is not a number.", source="particles.star")

    with pytest.raises(InputError, match=r"“check”.*particles\.star, row 7.*raydrgn protocol -o"):
        Project(str(root)).step("check", {}, finds_a_bad_row)
    assert Project(str(root)).step("check", {}, Work()).result == {"value": 7}


def remedy(project, problem):
    """Return what a project adds to an error; None if nothing."""
    with pytest.raises(type(problem)) as raised, project.remedies():
        raise problem
    if raised.value is problem:
        return None
    return str(raised.value).removeprefix(f"{problem}\n")


def test_a_problem_with_a_damaged_file_of_a_step_gets_the_remedy_that_works(root):
    work = Work()
    step = Project(str(root)).step("check", {}, work)
    problem = InputError(f"{step.at('made.txt')} is not a whole file.")
    assert remedy(Project(str(root)), problem) is None  # it is as it was written
    (root / "check" / "made.txt").write_text("damaged")
    project = Project(str(root))
    assert remedy(project, StorageError("The disk is full.")) is None
    found = remedy(project, problem)
    assert found == (
        f"{root}/check/made.txt is damaged. To have the step “check” made again, delete the folder "
        f"{root}/check and run: raydrgn protocol -o {root}"
    )
    assert remedy(project, LostFileError(f"{problem} {found}")) is None  # it has it already
    shutil.rmtree(root / "check")
    assert "made.txt is gone." in remedy(project, problem)
    Project(str(root)).step("check", {}, work)
    assert (root / "check" / "made.txt").read_text() == "x"


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is not empty, and is not a project"):
        Project(str(tmp_path))


def test_other_inputs_than_the_project_was_begun_with_are_refused(root, files, tmp_path):
    (tmp_path / "map.mrc").write_text("another map")
    project = Project(str(root))
    project.decisions.begin(
        files.absolute(), has_results=project.has_results
    )  # nothing is made yet
    project.step("check", {}, Work())
    (tmp_path / "map.mrc").write_text("a third map")
    with pytest.raises(RunDirectoryError, match=r"begun with other inputs: map is not what it was"):
        project.decisions.begin(files.absolute(), has_results=project.has_results)


def test_other_images_under_the_same_name_are_refused_before_the_next_step(root, files, tmp_path):
    simulate(str(tmp_path / "set"), Simulation(num_particles=40, box=8, seed=1))
    source = ParticleSource(particles=str(tmp_path / "set" / "particles.star"))
    given = replace(files, source=source).absolute()
    images = image_identity(open_particles(source))
    project = Project(str(root))
    project.decisions.begin(given, images=images, has_results=False)
    project.step("check", {}, Work())
    project.decisions.check_images(images)
    assert project.decisions.check(given)["images"] == images
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    moved = ParticleSource(particles=str(tmp_path / "moved" / "particles.star"))
    assert image_identity(open_particles(moved)) == images
    simulate(str(tmp_path / "again"), Simulation(num_particles=40, box=8, seed=2))
    shutil.copy(tmp_path / "again" / "particles.mrcs", tmp_path / "set" / "particles.mrcs")
    other = image_identity(open_particles(source))
    with pytest.raises(RunDirectoryError, match=r"begun with other images: .*--datadir"):
        project.decisions.begin(given, images=other)


def test_a_model_may_be_given_later(root, files, tmp_path):
    model = tmp_path / "model.pdb"
    model.write_text("ATOM")
    Project(str(root)).decisions.begin(replace(files, model=str(model)).absolute())
    assert Project(str(root)).decisions.inputs.model == str(model)


def test_what_a_person_decided_is_kept_and_the_program_decides_anew(root):
    decisions = Project(str(root)).decisions
    how = {"option": "--rounds", "why": "usual"}
    assert decisions.choose("rounds", None, 1, **how) == 1
    assert decisions.choose("rounds", 2, 1, **how) == 2
    again = Project(str(root)).decisions
    assert again.choose("rounds", None, 1, **how) == 2
    found = again.get("rounds")
    assert (found.by, found.why) == ("user", "--rounds was given")


def test_a_decision_may_be_edited_in_the_file(root):
    decisions = Project(str(root)).decisions
    decisions.choose("seed", None, 0, option="--seed", why="any")
    uri = root / "project.yaml"
    uri.write_text(uri.read_text().replace("value: 0\n    by: program", "value: 5\n    by: user"))
    decisions = Project(str(root)).decisions
    assert decisions.choose("seed", None, 0, option="--seed", why="any") == 5
    assert decisions.get("seed").why == "set in project.yaml"  # not the program's reason
    uri.write_text(uri.read_text().replace("why: set in project.yaml", "why: as last year"))
    decisions = Project(str(root)).decisions
    assert decisions.choose("seed", None, 0, option="--seed", why="any") == 5
    assert decisions.get("seed").why == "as last year"
    uri.write_text(uri.read_text().replace("by: user", "by: me"))
    with pytest.raises(InputError, match=r"“.*”: `by` is program or user, not me"):
        Project(str(root))
    uri.write_text("decisions: 3")
    with pytest.raises(InputError, match=r"project\.yaml is damaged"):
        Project(str(root))


def test_what_is_decided_meanwhile_by_another_process_is_not_undone(root):
    ours, theirs = Project(str(root)).decisions, Project(str(root)).decisions
    ours.make("low", "epochs=4", by="program", why="usual")
    chosen = {"proposal": "a1", "clusters": [3], "null": None}
    theirs.make("selection 1", chosen, by="user", why="chosen in the explorer")
    ours.make("high", "epochs=9", by="program", why="usual")
    found = Project(str(root)).decisions
    assert [found[name] for name in ("low", "selection 1", "high")] == [
        "epochs=4", chosen, "epochs=9",
    ]  # fmt: skip
    theirs.make("seed", 5, by="user", why="edited")
    assert ours.choose("seed", None, 0, option="--seed", why="any") == 5


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("seed", "abc", "whole number from 0"),
        ("seed", True, "whole number from 0"),
        ("rounds", 0, "whole number from 1"),
        ("low", 24, "words as"),
        ("high", "24 32y2", "words as"),
        ("contrast given", "white", "bright or dark"),
        ("hand given", "left", "as it is or flipped"),
        ("drop bad images", "no", "true or false"),
        ("contrast", "dark", "set “contrast given”"),
        ("pixel size, Å", 5, "of the particles"),
        ("epoch of round 1", 3, "whole number from 1"),
        ("epoch of round 2", {"epoch": 3}, "run, the folder"),
        ("selection 1", 5, "proposal, clusters and null"),
        ("selection 1", {"proposal": "a1", "clusters": "3", "null": None}, "list of cluster"),
        ("selection 1", {"proposal": "a1", "clusters": [], "null": "x"}, "probability from 0 to 1"),
        ("selection 1", {"proposal": "a1", "clusters": []}, "probability from 0 to 1"),
        ("sead", 1, "there is no decision “sead”; there are low, high"),
    ],
)
def test_an_edited_decision_of_a_wrong_value_is_refused_in_words(root, name, value, words):
    decisions = Project(str(root)).decisions
    decisions.make("seed", 4, by="user", why="--seed was given")
    decisions.make(name, value, by="user", why="edited")
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        Project(str(root))
    assert "project.yaml" in str(caught.value)
    assert "Correct it, or delete it" in str(caught.value)


def test_a_decision_without_a_reason_is_refused_by_its_name(root):
    Project(str(root)).decisions.make("seed", 4, by="user", why="--seed was given")
    uri = root / "project.yaml"
    uri.write_text(uri.read_text().replace("    why: --seed was given\n", ""))
    with pytest.raises(InputError, match="“seed” needs value, by, why"):
        Project(str(root))


@pytest.mark.parametrize("name", ["steps.json", "times.json", "current.json"])
@pytest.mark.parametrize(
    "text", ["{", "[]", '{"check": [{"folder": 1}]}', '{"check": 1, "b": "x"}']
)
def test_a_damaged_record_of_the_steps_is_refused_in_words(root, name, text):
    (root / name).write_text(text)
    with pytest.raises(RunDirectoryError, match=f"{name} is damaged .* Move it away"):
        Project(str(root))


def test_the_report_changes_a_training_in_a_box_that_the_images_have(root):
    project = Project(str(root))
    project.decisions.make("low", "24 epochs=4", by="user", why="--low was given")
    [row] = _decisions(project, rounds=2).tables[0].rows
    assert row[-1].endswith('--low "24 256x3 epochs=50"')


def test_the_report_names_how_an_option_is_taken_back(root):
    project = Project(str(root))
    project.decisions.make("contrast given", "dark", by="user", why="--uninvert-data was given")
    project.decisions.make("hand given", "as it is", by="program", why="usual")
    project.decisions.make("seed", 1, by="program", why="any number does")
    rows = _decisions(project, rounds=2).tables[0].rows
    assert rows[0][-1] == f"`value: bright`, and `by: user`, in {root}/project.yaml"
    assert rows[1][-1].endswith("--flip")
    assert rows[2][-1].endswith("--seed 2")


def test_the_report_lists_decisions_of_the_rounds_that_there_are(root):
    """Those of more rounds stay in the file, and hold again with --rounds."""
    project = Project(str(root))
    chosen = {"proposal": "a1", "clusters": [3], "null": None}
    for number in (1, 2):
        project.decisions.make(f"selection {number}", chosen, by="user", why="--drop was given")
        chosen = chosen | {"clusters": []}
    for number in (1, 2, 3):
        value = {"run": f"round{number}", "epoch": 4, "of": 4}
        project.decisions.make(f"epoch of round {number}", value, by="program", why="the last")
    rows = _decisions(project, rounds=3).tables[0].rows
    assert rows[0][-1] == f"raydrgn protocol -o {root} --drop 1:none"
    assert rows[1][-1] == f"raydrgn protocol -o {root} --drop 2:3,11"
    rows = _decisions(project, rounds=2).tables[0].rows
    assert [row[0] for row in rows] == ["selection 1", "epoch of round 1", "epoch of round 2"]


def test_a_step_goes_on_in_the_folder_of_earlier_results(root, caplog):
    work, others = Work(), Work()
    known = {"continues": lambda record: record.inputs["epochs"] < 6}
    with caplog.at_level(logging.INFO, "raydrgn"):
        first = Project(str(root)).step("train", {"epochs": 3}, work)
        longer = Project(str(root)).step("train", {"epochs": 6}, work, **known)
    assert longer.folder == first.folder
    assert longer.key != first.key
    assert "train goes on: epochs is 6, not 3" in caplog.text
    assert Project(str(root)).step("train", {"epochs": 3}, work).key == first.key
    assert len(work.calls) == 2
    before = Project(str(root)).step("check", {}, others)
    beside = Project(str(root)).step("train", {"epochs": 6}, work, after=[before], **known)
    assert beside.folder != first.folder
