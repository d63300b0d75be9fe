"""Commands and projects in the page, in a real browser."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from explorer_page import (
    Visit,
    folder_of_run,
    overlaps,
    save_picture,
    started_browser,
    wait_until,
)
from explorer_server import KSAMPLE, analysed_run, running_server
from raydrgn.cli.forms import CommandForms
from raydrgn.cli.main import app
from raydrgn.explore.interfaces import Pause, Round
from raydrgn.io import cryodrgn
from raydrgn.workflows.explore import ExploreSettings, open_explorer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with folder_of_run(tmp_path_factory, "ribosome") as folder:
        yield analysed_run(folder)


@pytest.fixture(scope="module")
def browser():
    with started_browser() as found:
        yield found


class Project:
    """A project that waits after its first round, of run and epoch; keeps what was answered."""

    def __init__(self, run, *others):
        self.root, self.run, self.answered = str(run.parent), str(run), []
        self.runs = [(self.run, 2), *others]
        [labels] = cryodrgn.read_pickles(str(run / f"analyze.2/kmeans{KSAMPLE}/labels.pkl"))
        self.dropped, self.all = (labels == 2).sum(), len(labels)

    def rounds(self):
        return [Round(str(n), *found) for n, found in enumerate(self.runs, start=1)]

    def is_flipped(self):
        return False

    def pause(self):
        among = {"column": f"kmeans{KSAMPLE}", "values": [2]}
        return Pause(
            round="1",
            key="k",
            summary=f"{self.dropped} of {self.all} particles are proposed to be dropped.",
            report=f"{self.run}/analyze.2/report.html",
            conditions=[{"join": "and not", "among": among}],
            answer="the selection mine was chosen" if self.answered else "",
        )

    def answer(self, pause, kept):
        self.answered.append(kept)


def test_clean_names_what_it_deletes_and_waits_for_a_yes(browser, root):
    settings = ExploreSettings(run=str(root), commands=CommandForms())
    with running_server(open_explorer(settings)) as server:
        visit = Visit(browser, server)
        asked = []
        visit.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        visit.page.click("[data-tab=jobs]")
        visit.page.select_option("#job-form-name", "clean")
        wait_until(visit.page, "!document.getElementById('job-start').disabled")
        visit.page.click("#job-start")
        wait_until(visit.page, "!document.getElementById('job-start').disabled")
        [words] = asked
        assert words.startswith("This deletes the weights of 1 epoch (")
        assert words.endswith(f"from {root} for good: 1.")
        assert server.json("/api/jobs")["jobs"] == []
        only_listed = {"name": "clean", "filled": {"dry_run": True}}
        assert server.json("/api/command", only_listed)["deleted"] == ""
        assert visit.errors == []
        visit.context.close()


@pytest.mark.clusters
def test_a_command_is_started_from_its_form_and_its_path_is_drawn(browser, root):
    settings = ExploreSettings(run=str(root), commands=CommandForms())
    with running_server(open_explorer(settings)) as server:
        visit = Visit(browser, server)
        page = visit.page
        page.click("[data-tab=jobs]")
        page.select_option("#job-form-name", "traverse graph")
        page.fill("#field-centres", "0,x")
        page.wait_for_selector("#job-problem:has-text('Choose') , #job-command:has-text('0,x')")
        page.fill("#field-max_neighbors", "many")
        page.wait_for_selector("#job-problem:has-text(\"Invalid value for '--max-neighbors'\")")
        assert page.is_disabled("#job-start")
        page.fill("#field-max_neighbors", "60")
        page.fill("#field-avg_neighbors", "50")
        page.fill("#field-centres", "0,2")
        page.check("#field-skip_volumes")
        page.wait_for_selector("#job-command:has-text('--skip-volumes')")
        command = visit.text("job-command")
        assert command.startswith(f"raydrgn traverse graph {root} --max-neighbors 60")
        page.click("#job-start")
        page.wait_for_selector("#job-list .state.running")
        page.wait_for_selector("#job-start:enabled")
        assert visit.text("job-command") == command
        assert overlaps(page) == []
        save_picture(page, "jobs")
        page.set_default_timeout(240_000)
        page.wait_for_selector("#job-list .state.succeeded")
        page.wait_for_selector("#job-log:has-text('traverse.2/graph')")
        page.wait_for_selector("#paths input")
        before = visit.picture("#frame")
        page.check("#paths input")
        visit.wait_for_change("#frame", before)
        page.click("#paths button")
        page.wait_for_selector("#volume-surface[data-triangles]")
        rows = np.loadtxt(root / "traverse.2" / "graph" / "path_ind.txt", dtype=int)
        chips = page.locator("#volume-chosen button").all_inner_texts()
        assert int(chips[0].split()[0]) == rows[0]
        assert page.input_value("#volume-view") == "film"
        assert visit.errors == []
        visit.context.close()


def test_a_path_through_the_latent_space_is_a_film_of_its_points(browser, root):
    words = ["traverse", "direct", str(root), "--anchors", "3,11", "--skip-volumes"]
    assert CliRunner().invoke(app, words).exit_code == 0
    with running_server(open_explorer(ExploreSettings(run=str(root)))) as server:
        visit = Visit(browser, server)
        page = visit.page
        page.click("#paths .row:has-text('direct') button")
        page.wait_for_selector("#volume-surface[data-triangles]")
        assert page.locator("#volume-chosen button").all_inner_texts() == ["6 points of direct ×"]
        wait_until(page, "document.getElementById('film-frame').value === '2'")
        page.click("#film-play")
        page.fill("#volume-name", "film")
        page.click("#volume-save-button")
        page.click("[data-tab=results]")
        page.wait_for_selector("#saved-volumes a:text('vol_005.mrc')")
        page.click("[data-tab=volumes]")
        page.click("#volume-chosen button")
        page.wait_for_selector("#volume-empty")
        visit.volume(17)
        assert page.locator("#volume-chosen button").all_inner_texts() == ["17 ×"]
        assert visit.errors == []
        visit.context.close()


def test_the_form_of_another_round_is_about_that_round(browser, root):
    second = root.parent / "second"
    shutil.copytree(root, second, ignore=shutil.ignore_patterns("explore", "*.2*"))
    project = Project(root, (str(second), 1))
    settings = replace(ExploreSettings(run=project.root, commands=CommandForms()), project=project)
    with running_server(open_explorer(settings)) as server:
        visit = Visit(browser, server)
        page = visit.page
        page.click("[data-tab=jobs]")
        page.select_option("#job-form-name", "analyze")
        page.fill("#field-ksample", "7")
        page.wait_for_selector(f"#job-command:has-text('analyze {second} 1 --ksample 7')")
        late = []
        page.route("**/api/points*", lambda request: late.append(request))
        page.select_option("#rounds", "1")
        while not late:
            page.wait_for_timeout(50)
        assert page.is_disabled("#epochs")  # an epoch chosen before the round is open would be lost
        command = page.locator("#job-command").inner_text()
        assert f"analyze {second} 1 --ksample 7" in command  # and it is still of this round
        late[0].continue_()
        page.unroute("**/api/points*")
        page.wait_for_selector(f"#job-command:has-text('analyze {root} 2 --project {root.parent}')")
        assert page.input_value("#field-ksample") == ""
        wait_until(page, "document.getElementById('facts').textContent === '203 particles, zdim 2'")
        wait_until(page, "document.getElementById('epochs').value === '2'")
        page.select_option("#epochs", "1")  # another epoch, too
        page.wait_for_selector(f"#job-command:has-text('analyze {root} 1 --project')")
        page.click("[data-tab=volumes]")
        visit.lasso([(0.1, 0.1), (0.9, 0.6)], mode="rectangle")
        visit.wait_for_selection()
        page.select_option("#rounds", "2")
        page.wait_for_selector(f"#missing:has-text('{second}')")  # of the other run
        assert page.is_disabled("#selection-undo")  # conditions of another round are forgotten
        page.click("#make-umap")
        page.wait_for_selector(f"#job-command:has-text('analyze {second} 1 --skip-volumes')")
        again = second.rename(root.parent / "again")  # the round was trained anew elsewhere
        project.runs[1] = (str(again), 1)
        page.wait_for_selector(f"#job-command:has-text('analyze {again} 1')")
        wait_until(page, f"document.getElementById('title').title === '{again}'")
        assert visit.text("messages") == ""
        assert visit.errors == []
        visit.context.close()


def test_a_project_waits_and_is_answered_with_a_selection(browser, root):
    project = Project(root)
    settings = replace(ExploreSettings(run=project.root, commands=CommandForms()), project=project)
    with running_server(open_explorer(settings)) as server:
        visit = Visit(browser, server)
        page = visit.page
        dropped = f"{project.dropped} of 203 particles"
        page.wait_for_selector(f"#pause:has-text('The project waits at round 1. {dropped}')")
        assert overlaps(page) == []
        page.click("#pause-show")
        visit.wait_for_selection()
        [labels] = cryodrgn.read_pickles(str(root / f"analyze.2/kmeans{KSAMPLE}/labels.pkl"))
        assert visit.text("selection-count").startswith(f"{(labels != 2).sum()} of 203")
        page.fill("#selection-name", "mine")
        page.click("#selection-save-button")
        page.set_default_timeout(120_000)
        page.wait_for_selector("#saved-selections b:text('mine')")
        wait_until(page, "document.querySelectorAll('#pause-choice option').length === 2")
        page.select_option("#pause-choice", "mine")
        page.wait_for_timeout(300)
        save_picture(page, "project")
        page.click("#pause-answer")
        page.wait_for_selector("#job-command:has-text('raydrgn protocol --out')")
        assert project.answered == [str(root / "explore/selections/mine/kept.ind.pkl")]
        assert page.is_visible("#pause-go-on")
        assert visit.errors == []
        visit.context.close()
