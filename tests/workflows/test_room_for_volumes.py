"""Workers that the cluster cannot hold are refused before clusters, paths and embeddings."""

import numpy as np
import pytest

from finished_run import make_run
from raydrgn.errors import ClusterError
from raydrgn.remote import reservation
from raydrgn.remote.allocation import Size
from raydrgn.remote.executor import Executor
from raydrgn.remote.session import HELD_CPUS
from raydrgn.workflows import analyze, landscape, traverse
from raydrgn.workflows import filter as filter_workflow
from raydrgn.workflows.analyze import AnalyzeSettings
from raydrgn.workflows.filter import FilterSettings
from raydrgn.workflows.landscape import LandscapeSettings
from raydrgn.workflows.traverse import TraversePcSettings


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return make_run(tmp_path / "run", np.random.default_rng(0).normal(size=(60, 2))).root


@pytest.mark.parametrize(
    ("workflow", "kind", "options"),
    [
        (analyze.run, AnalyzeSettings, {"ksample": 3}),
        (traverse.run, TraversePcSettings, {}),
        (filter_workflow.run, FilterSettings, {"where": "z0 > 0"}),
        (filter_workflow.run_groups, FilterSettings, {"show": True, "ksample": 3}),
        (landscape.run, LandscapeSettings, {"ksample": 10, "states": 2, "sample": 50}),
    ],
)
def test_workers_without_room_are_refused_before_anything_is_computed(
    run, tmp_path, workflow, kind, options
):
    before = set(tmp_path.rglob("*"))
    with (
        Executor(workers=1, cpus_per_worker=10_000) as executor,
        pytest.raises(ClusterError, match=r"with 10,?000 CPUs does not fit on this machine"),
    ):
        workflow(kind(run=run, **options), executor=executor)
    assert set(tmp_path.rglob("*")) == before


def test_without_volumes_no_room_is_needed(run):
    settings = AnalyzeSettings(run=run, ksample=3, skip_umap=True, skip_volumes=True)
    with Executor(workers=1, cpus_per_worker=10_000) as executor:
        assert analyze.run(settings, executor=executor).volumes is None


@pytest.mark.ray
def test_what_a_job_keeps_for_its_command_is_known_of_the_cluster(ray_session, monkeypatch):
    monkeypatch.setenv(HELD_CPUS, "6.0")
    found = reservation.read_cluster()
    assert found.kept == Size(6)
    assert [node.total for node in found.nodes] == [Size(0)]
