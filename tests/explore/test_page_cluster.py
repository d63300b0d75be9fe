"""A job of a cluster in the page: started, watched and stopped with clicks, in a real browser."""

import re
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

import job_cluster
from explorer_page import Visit, save_picture, started_browser
from explorer_server import analysed_run

pytestmark = [pytest.mark.ray, pytest.mark.long]

END_SECONDS = 60


@contextmanager
def explorer(cluster, folder):
    """Run the command in a folder as a user does, whose environment names the cluster."""
    command = [sys.executable, "-P", "-u", "-m", "raydrgn", "explore", "run"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**cluster.environment, "PWD": str(folder), "COLUMNS": "200"},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if address := re.search(r"http://127\.0\.0\.1:\d+/\S*", line):
            break
    else:
        raise AssertionError("".join(lines))
    try:
        yield SimpleNamespace(address=address[0])
    finally:
        process.send_signal(subprocess.signal.SIGINT)
        process.communicate(timeout=END_SECONDS)


def test_a_job_of_a_cluster_is_started_watched_and_stopped_with_clicks(tmp_path):
    run = analysed_run(tmp_path)
    with (
        started_browser() as browser,
        job_cluster.head() as cluster,
        explorer(cluster, run.parent) as server,
    ):
        visit = Visit(browser, server)
        page = visit.page
        page.set_default_timeout(180_000)
        page.click("[data-tab=jobs]")
        page.wait_for_selector(f"#job-dashboard[href='{cluster.url}']")
        page.select_option("#job-form-name", "analyze")
        page.fill("#field-ksample", "5")
        page.fill("#field-out", "five")
        page.check("#field-skip_umap")
        page.wait_for_selector("#job-command:has-text('raydrgn submit analyze')")
        page.wait_for_selector("#job-command:has-text('five')")
        page.click("#job-start")
        page.wait_for_selector("#job-list .state.succeeded")
        page.wait_for_selector("#job-log:has-text('five/report.html')")
        save_picture(page, "cluster")
        assert (run / "five" / "report.html").exists()
        page.select_option("#job-form-name", "train")
        page.wait_for_selector("#field-particles")
        page.click("#job-fields summary")
        given = {"particles": "particles.star", "out": "long", "epochs": "100000", "zdim": "2"}
        for name, value in (given | {"set": "resources.cpus=1"}).items():
            page.fill(f"#field-{name}", value)
        page.wait_for_selector("#job-command:has-text('100000')")
        page.click("#job-start")
        page.wait_for_selector("#job-list .state.running")
        page.wait_for_selector("#job-list progress")
        page.click("#job-list li:has(.state.running) button:text('Stop')")
        page.wait_for_selector("#job-list .state.stopped")
        assert visit.errors == []
        visit.context.close()
