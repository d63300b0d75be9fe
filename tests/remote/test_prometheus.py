"""A real Prometheus scrapes a head; every expression of the Grafana dashboard gives data."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from finished_run import make_run
from job_cluster import free_ports, job_id, wait_until
from raydrgn.remote.metrics import COUNTERS, GAUGES
from subunit_files import BOX, write_subunits

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "raydrgn.json"


def panels():
    return [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"]


def expressions():
    return [(p["title"], target["expr"]) for p in panels() for target in p["targets"]]


def test_the_dashboard_shows_what_is_recorded_and_nothing_else():
    shown = set(re.findall(r"ray_raydrgn_(\w+)", str(expressions())))
    assert shown == set(GAUGES) | {f"{name}_total" for name in COUNTERS}


def test_panels_have_titles_places_and_the_data_source_that_is_chosen():
    places = [tuple(p["gridPos"].values()) for p in panels()]
    assert len(set(places)) == len(places)
    for panel in panels():
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


class Prometheus:
    """A server that scrapes a head by the configuration which Ray has written for it."""

    def __init__(self, program, cluster, folder):
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        ray = cluster.folder / "session_latest" / "metrics" / "prometheus" / "prometheus.yml"
        config = wait_until(lambda: ray.exists() and ray.read_text())
        (folder / "prometheus.yml").write_text(config.replace("_interval: 10s", "_interval: 1s"))
        command = [
            program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self.is_ready)

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"{self.url}/-/ready", timeout=10).status == 200
        except OSError:
            return False

    def query(self, expression):
        """Return the values of an expression, by their labels."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=30) as answer:
            found = json.load(answer)["data"]["result"]
        return [(entry["metric"], float(entry["value"][1])) for entry in found]


@pytest.fixture
def prometheus(request, tmp_path):
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    server = Prometheus(program, request.getfixturevalue("cluster"), tmp_path)
    yield server
    server.process.terminate()
    server.process.wait()


@pytest.mark.ray
@pytest.mark.clusters
def test_every_expression_of_the_dashboard_gives_data(prometheus, cluster, tmp_path):
    latents = np.random.default_rng(0).normal(size=(4000, 2))
    make_run(tmp_path / "done", latents, box=BOX)
    masks = write_subunits(tmp_path)
    score = ("occupancy", "score", "done", "--all", "--masks", str(masks), "-o", "scores")
    code, text = cluster.raydrgn("submit", "--follow", *score, folder=tmp_path)
    assert code == 0, text
    code, text = cluster.raydrgn("simulate", "data", "--particles", "200", folder=tmp_path)
    assert code == 0, text
    small = ("--zdim", "2", "--enc-dim", "16", "--dec-dim", "16", "--set", "resources.cpus=1")
    words = ("train", "data/particles.star", "-o", "run", "-n", "100000", *small)
    code, text = cluster.raydrgn("submit", *words, folder=tmp_path)
    assert code == 0, text
    training = job_id(text)
    cluster.wait_for_log(training, "training: ")

    run = str(tmp_path / "run")
    missing = dict.fromkeys(expressions())
    deadline = time.monotonic() + 120
    while missing and time.monotonic() < deadline:
        for title, expression in list(missing):
            filled = expression.replace("$run", run).replace("$__rate_interval", "5m")
            if prometheus.query(filled):
                del missing[title, expression]
        time.sleep(0.5)
    assert not missing

    [(labels, epochs)] = prometheus.query("ray_raydrgn_epochs")
    assert epochs == 100_000
    assert (labels["run"], labels["job_id"], labels["worker"]) == (run, training, "command")
    shards = prometheus.query("ray_raydrgn_shard_bytes")
    assert sorted((labels["run"], labels["worker"]) for labels, _ in shards) == [
        (run, "0"),
        (run, "1"),
    ]
    # particles, Fourier points of a box of 32 px, float32 pairs
    assert sum(size for _, size in shards) == 200 * 398 * 2 * 4
    assert sum(value for _, value in prometheus.query("ray_raydrgn_volumes_total")) >= 4000
    scored = prometheus.query("sum by (run) (ray_raydrgn_scored_volumes_total)")
    assert scored == [({"run": str(tmp_path / "done")}, 4000.0)]
    code, text = cluster.raydrgn("stop", training, folder=tmp_path)
    assert code == 0, text
