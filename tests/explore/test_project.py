"""A project in the explorer: its rounds, its pause, and an answer that `protocol` goes on from."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from explorer_server import running_server
from latents import finished_run
from planned_round import planned_round
from raydrgn.cli.forms import CommandForms
from raydrgn.cli.main import app
from raydrgn.errors import InputError, RunDirectoryError
from raydrgn.io import cryodrgn
from raydrgn.io.particle_source import ParticleSource
from raydrgn.protocol import rounds
from raydrgn.protocol.decisions import ProjectInputs
from raydrgn.protocol.explored import find_project
from raydrgn.protocol.project import Project
from raydrgn.protocol.sequence import _Sequence
from raydrgn.protocol.settings import ProtocolSettings, TrainingPlan
from raydrgn.remote.executor import IN_PROCESS
from raydrgn.remote.progress import silent
from raydrgn.workflows.explore import ExploreSettings, open_explorer

KSAMPLE = 4


def made(result, files):
    return lambda folder: (result, files)


@pytest.fixture
def waiting(tmp_path):
    """Return a project that waits after its first round, with the steps it has made."""
    root = tmp_path / "project"
    run = finished_run(tmp_path, epochs=1)
    source = ParticleSource(particles=str(tmp_path / "particles.star"))
    (tmp_path / "map.mrc").write_bytes(b"a map")
    Project(str(root)).decisions.begin(
        ProjectInputs(source=source, map=str(tmp_path / "map.mrc")).absolute()
    )
    run.rename(root / "round1")
    words = ["--ksample", str(KSAMPLE), "--skip-umap", "--skip-volumes"]
    assert CliRunner().invoke(app, ["analyze", str(root / "round1"), *words]).exit_code == 0
    (root / "proposal1").mkdir()
    (root / "proposal1" / "report.html").write_text("<p>what is proposed</p>")
    project = Project(str(root))
    trained = project.step(
        "round 1", {}, made({"epoch": 1, "particles": 203}, ["z.1.pkl"]), folder="round1"
    )
    analyzed = project.step(
        "analysis of round 1", {}, made({"ksample": KSAMPLE}, []), folder="round1/analyze.1"
    )
    proposal = project.step(
        "proposal of round 1",
        {},
        made(
            {
                "clusters": [1, 3], "null": None, "nothing": 0, "drop": 90,
                "summary": "90 of 203 particles are proposed.", "table": [["cluster"]] * 5,
            },
            ["report.html"],
        ),
        after=[trained, analyzed],
        folder="proposal1",
    )  # fmt: skip
    return SimpleNamespace(
        root=root, source=source, trained=trained, analyzed=analyzed, proposal=proposal
    )


def serve(root):
    project = find_project(str(root))
    settings = ExploreSettings(run=str(root), commands=CommandForms(), project=project)
    return running_server(open_explorer(settings))


def answer(server, selection):
    """Return an answer to the proposal that waits, as the page sends it."""
    pause = server.json("/api/status")["project"]["pause"]
    return {"selection": selection, "key": pause["key"] if pause else ""}


def go_on(waiting):
    """Return what `raydrgn protocol` takes as the selection of the round."""
    plan = TrainingPlan(box=16)
    settings = ProtocolSettings(out=str(waiting.root))
    project = Project(str(waiting.root))
    sequence = _Sequence(project, settings, [plan, plan], 16, IN_PROCESS, silent)
    decision = sequence._selection(1, waiting.proposal)
    if decision is None:
        return project, None
    return project, {k: v for k, v in decision.value.items() if k != "proposal"}


def select(waiting, project, selection):
    this = planned_round(TrainingPlan(box=16), source=waiting.source)
    where = {"executor": IN_PROCESS, "progress": silent}
    return rounds.select_particles(
        project, this, waiting.trained, waiting.analyzed, selection, **where
    )


def test_a_selection_of_the_page_answers_the_pause(waiting):
    labels = cryodrgn.read_labels(
        str(waiting.root / "round1" / "analyze.1" / f"kmeans{KSAMPLE}" / "labels.pkl")
    )
    assert go_on(waiting)[1] is None
    with serve(waiting.root) as server:
        found = server.json("/api/status")
        assert (found["round"], found["project"]["rounds"]) == ("1", ["1"])
        pause = found["project"]["pause"]
        assert pause["summary"] == "90 of 203 particles are proposed."
        assert server.ask(f"/files/{pause['report']}")[2] == b"<p>what is proposed</p>"
        body = {"epoch": 1, "conditions": pause["conditions"]}
        assert (
            server.arrays("/api/select?round=1", body)["count"] == (~np.isin(labels, [1, 3])).sum()
        )

        more = {"join": "and", "range": {"column": "original", "low": 50, "high": None}}
        body["conditions"] = [*pause["conditions"], more]
        server.json("/api/save-selection?round=1", {**body, "name": "mine"})
        assert (
            "no saved selection 'none'" in server.refusal("/api/answer", answer(server, "none"))[1]
        )
        assert server.refusal("/api/answer", answer(server, "../mine"))[0] == 400
        server.json("/api/answer", answer(server, "mine"))
        answered = server.json("/api/status")["project"]["pause"]
        assert "explore/selections/mine/kept.ind.pkl was chosen" in answered["answer"]
        command = server.json("/api/command", {"name": "protocol", "filled": {"accept": True}})
        assert command["command"] == f"raydrgn protocol --out {waiting.root} --accept"
        command = server.json("/api/command", {"name": "analyze", "filled": {"epoch": "1"}})
        run = waiting.root / "round1"
        assert command["command"] == f"raydrgn analyze {run} 1 --project {waiting.root}"
        [saved] = server.json("/api/results?round=1")["selections"]
        assert f"--project {waiting.root}" in saved["train"]

    wanted = np.flatnonzero(~np.isin(labels, [1, 3]) & (np.arange(203) >= 50))
    project, selection = go_on(waiting)
    selected = select(waiting, project, selection)
    kept = cryodrgn.read_indices(selected.at("kept.ind.pkl"))
    np.testing.assert_array_equal(kept, wanted)
    assert project.decisions.get("selection 1").by == "user"
    file = waiting.root / "round1/explore/selections/mine/kept.ind.pkl"
    cryodrgn.write_indices(str(file), wanted[:-1])
    again = {**selection, "clusters": [0]}
    with pytest.raises(InputError, match=r"is gone or has changed\. Choose again: raydrgn explore"):
        select(waiting, project, again)


def test_agreement_is_as_proposed_and_is_not_asked_again(waiting):
    with serve(waiting.root) as server:
        server.json("/api/answer", answer(server, None))
        assert "a person agreed" in server.json("/api/status")["project"]["pause"]["answer"]
    project, selection = go_on(waiting)
    assert selection == {"clusters": [1, 3], "null": None}
    assert find_project(str(waiting.root)).pause() is not None
    after = [waiting.trained, waiting.analyzed]
    project.step("selection of round 1", selection, made({}, []), after=after, folder="selection1")
    assert find_project(str(waiting.root)).pause() is None
    with serve(waiting.root) as server:
        words = server.refusal("/api/answer", answer(server, None))[1]
    assert "raydrgn protocol has gone on from the answer that it has" in words
    assert f"raydrgn protocol -o {waiting.root} --drop 3,11" in words


def test_an_answer_to_an_earlier_proposal_is_refused(waiting):
    with serve(waiting.root) as server:
        read = answer(server, None)
        result = {**waiting.proposal.result, "clusters": [2]}
        Project(str(waiting.root)).step(
            *("proposal of round 1", {"by": "hand"}, made(result, ["report.html"])),
            after=[waiting.trained, waiting.analyzed],
            folder="proposal1",
        )
        status, words = server.refusal("/api/answer", read)
        assert (status, "is to an earlier proposal" in words) == (409, True)
        assert go_on(waiting)[1] is None
        server.json("/api/answer", answer(server, None))


def test_a_selection_of_an_earlier_answer_does_not_end_the_pause(waiting):
    project = Project(str(waiting.root))
    project.step("selection of round 1", {"clusters": [0], "null": None}, made({}, []))
    with serve(waiting.root) as server:
        server.json("/api/answer", answer(server, None))
    assert go_on(waiting)[1] == {"clusters": [1, 3], "null": None}
    assert find_project(str(waiting.root)).pause().answer


def test_of_a_project_results_are_given_out_and_reports_lead_to_files_beside_them(waiting):
    (waiting.root / "proposal1" / "clusters.csv").write_text("cluster,particles")
    (waiting.root / "notes.json").write_text("of nobody's command")
    run_files = ("weights.1.pkl", "z.1.pkl", "config.yaml", "manifest.json", "project.yaml")
    shutil.copy(waiting.root / "project.yaml", waiting.root / "round1")
    with serve(waiting.root) as server:
        for path in ("notes.json", *(f"round1/{name}" for name in run_files)):
            assert server.ask(f"/files/{path}")[0] == 404
        for name in ("project.yaml", "steps.json"):  # to which the project's report has links
            assert server.ask(f"/files/{name}")[2] == (waiting.root / name).read_bytes()
        assert server.ask("/files/weights.1.pkl?round=1")[0] == 404
        assert server.ask("/files/proposal1/clusters.csv")[0] == 200
        status, headers, _ = server.ask("/files/analyze.1/report.html?round=1")
        assert (status, headers["Location"]) == (307, "/files/round1/analyze.1/report.html")
        assert server.ask("/files/round1/analyze.1/report.html")[0] == 200
        assert "no round '7'; there are: 1" in server.refusal("/api/facts?round=7")[1]
        assert server.refusal("/api/facts?round=../x")[0] == 400


def test_reports_of_the_project_are_listed_beside_those_of_the_round(waiting):
    for folder in ("", "path/direct", "proposal0"):
        (waiting.root / folder).mkdir(parents=True, exist_ok=True)
        (waiting.root / folder / "report.html").write_text("<p>words</p>")
    project = Project(str(waiting.root))  # which has taken another proposal since proposal0
    for settings, folder in (({"rule": "old"}, "proposal0"), ({}, "proposal1")):
        project.step(
            "proposal of round 1", settings, made({}, []),
            after=[waiting.trained, waiting.analyzed], folder=folder,
        )  # fmt: skip
    with serve(waiting.root) as server:
        found = server.json("/api/results?round=1")
        assert {entry["name"] for entry in found["reports"]} == {"analyze.1"}
        listed = {entry["name"]: entry["path"] for entry in found["project_reports"]}
        assert set(listed) == {"report", "path/direct", "proposal1"}
        for path in listed.values():
            assert server.ask(f"/files/{path}")[0] == 200


def test_a_round_begins_at_the_epoch_that_the_project_goes_on_with_now(waiting):
    shutil.copy(waiting.root / "round1/z.1.pkl", waiting.root / "round1/z.2.pkl")
    shutil.copy(waiting.root / "round1/weights.1.pkl", waiting.root / "round1/weights.2.pkl")
    with serve(waiting.root) as server:
        assert server.json("/api/facts?round=1")["epoch"] == 1
        chosen = {"run": "round1", "epoch": 2}
        Project(str(waiting.root)).decisions.make(
            "epoch of round 1", chosen, by="user", why="it is better"
        )
        assert server.json("/api/facts?round=1")["epoch"] == 2
        second = waiting.root / "round2"
        shutil.copytree(waiting.root / "round1", second)
        Project(str(waiting.root)).step(
            "round 2", {}, made({"epoch": 1, "particles": 203}, ["z.1.pkl"]), folder="round2"
        )
        assert server.json("/api/status")["round"] == "2"
        assert server.json("/api/facts")["root"] == str(second)
        again = waiting.root / "round2-b"  # trained anew with other settings
        second.rename(again)
        Project(str(waiting.root)).step(
            *("round 2", {"width": 64}, made({"epoch": 1, "particles": 203}, ["z.1.pkl"])),
            folder="round2-b",
        )
        assert server.json("/api/status?round=2")["run"] == str(again)
        assert server.json("/api/facts?round=2")["root"] == str(again)


def test_a_file_of_the_same_name_makes_no_project(tmp_path, waiting):
    run = tmp_path / "run"
    shutil.copytree(waiting.root / "round1", run)
    (run / "project.yaml").write_text("name: of another program\n")
    assert find_project(str(run)) is None
    with serve(run) as server:
        assert server.json("/api/status")["project"] is None


def test_a_project_without_a_round_says_what_to_do(tmp_path):
    (tmp_path / "map.mrc").write_bytes(b"a map")
    inputs = ProjectInputs(
        source=ParticleSource(particles=str(tmp_path / "map.mrc")), map=str(tmp_path / "map.mrc")
    )
    Project(str(tmp_path / "p")).decisions.begin(inputs)
    root = str(tmp_path / "p")
    with pytest.raises(RunDirectoryError, match="no round of which an epoch is finished yet"):
        open_explorer(ExploreSettings(run=root, project=find_project(root)))
    assert find_project(str(tmp_path)) is None


def test_what_is_shown_and_answered_is_what_the_command_took_last(tmp_path):
    """After it has gone back to settings of before, and to fewer rounds."""
    for name in ("f.star", "m.mrc"):
        (tmp_path / name).write_text("x")
    source = ParticleSource(particles=str(tmp_path / "f.star"))
    inputs = ProjectInputs(source=source, map=str(tmp_path / "m.mrc")).absolute()

    def call(low, *, of=1):
        project = Project(str(tmp_path / "p"))
        project.decisions.begin(inputs, has_results=project.has_results)
        project.decisions.make("rounds", of, by="user", why="--rounds")
        for number in range(1, of + 1):
            folder = tmp_path / "p" / f"{low}-{number}"
            folder.mkdir(exist_ok=True)
            for file in ("weights.1.pkl", "z.1.pkl", "report.html"):
                (folder / file).touch()
            given = {"folder": folder.name}
            trained = project.step(
                f"round {number}", {"training": low}, made({"epoch": 1}, []), **given
            )
            analyzed = project.step(
                f"analysis of round {number}", {}, made({"ksample": 3}, []),
                after=[trained], **given,
            )  # fmt: skip
            result = {"clusters": [int(low)], "null": None, "nothing": 0, "drop": 5, "summary": low}
            proposal = project.step(
                f"proposal of round {number}", {}, made(result, []),
                after=[trained, analyzed], **given,
            )  # fmt: skip
        return proposal

    first = call("24")
    for later in ({"low": "32"}, {"low": "24", "of": 3}):
        call(**later)
    again = call("24")
    assert again.key == first.key
    explored = find_project(str(tmp_path / "p"))
    pause = explored.pause()
    assert (pause.key, pause.summary, pause.round) == (first.key, "24", "1")
    runs = [entry.run for entry in explored.rounds()]
    assert runs == [str(tmp_path / "p" / f"24-{number}") for number in (1, 2)]
    explored.answer(pause, None)
    answered = Project(str(tmp_path / "p")).decisions.get("selection 1").value
    assert answered == {"proposal": first.key, "clusters": [24], "null": None}


def test_volumes_have_the_hand_that_the_project_has_decided(waiting):
    order = {"epoch": 1, "page": "p", "rows": [5], "size": "full"}
    with serve(waiting.root) as server:
        made = []
        for number, hand in enumerate(("as it is", "flipped")):
            Project(str(waiting.root)).decisions.make("hand", hand, by="program", why="measured")
            found = server.arrays("/api/volumes", {**order, "number": number})
            made.append(found["volumes"] * found["scale"][0])
    assert np.abs(made[0] - made[1]).max() > 0.01
    np.testing.assert_allclose(made[1], made[0][:, ::-1], atol=1e-3)
