"""Workers that the cluster cannot hold are refused before clusters, paths and embeddings."""

import json

import numpy as np
import pytest

from finished_run import make_run
from planted import planted_table
from raydrgn.errors import ClusterError
from raydrgn.remote import reservation
from raydrgn.remote.allocation import Size
from raydrgn.remote.environment import HELD_CPUS
from raydrgn.remote.executor import Executor
from raydrgn.run.reader import open_run
from raydrgn.workflows import (
    analyze,
    convergence,
    evaluate,
    halves,
    landscape,
    occupancy_classes,
    occupancy_pca,
    occupancy_score,
    traverse,
)
from raydrgn.workflows import filter as filter_workflow
from raydrgn.workflows.analyze import AnalyzeSettings
from raydrgn.workflows.convergence import ConvergenceSettings
from raydrgn.workflows.evaluate import EvaluateSettings
from raydrgn.workflows.filter import FilterSettings
from raydrgn.workflows.halves import HalvesSettings
from raydrgn.workflows.landscape import LandscapeSettings
from raydrgn.workflows.occupancy_classes import OccupancyClassesSettings
from raydrgn.workflows.occupancy_pca import PcaSettings
from raydrgn.workflows.occupancy_score import OccupancyScoreSettings
from raydrgn.workflows.traverse import TraversePcSettings
from subunit_files import BOX, write_subunits


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return make_run(tmp_path / "run", np.random.default_rng(0).normal(size=(60, 2)), box=BOX).root


@pytest.mark.parametrize(
    ("workflow", "kind", "options"),
    [
        (analyze.run, AnalyzeSettings, {"ksample": 3}),
        (traverse.run, TraversePcSettings, {}),
        (filter_workflow.run, FilterSettings, {"where": "z0 > 0"}),
        (filter_workflow.run_groups, FilterSettings, {"show": True, "ksample": 3}),
        (landscape.run, LandscapeSettings, {"ksample": 10, "states": 2, "sample": 50}),
        (convergence.run, ConvergenceSettings, {}),
        (halves.run, HalvesSettings, {"ksample": 3}),
        (evaluate.run, EvaluateSettings, {"truth": "is/read/later"}),
    ],
)
def test_workers_without_room_are_refused_before_anything_is_computed(
    run, tmp_path, workflow, kind, options
):
    refused(workflow, kind(run=run, **options), tmp_path)


def test_workers_without_room_are_refused_before_occupancies_are_scored(run, tmp_path):
    masks = write_subunits(tmp_path)
    settings = OccupancyScoreSettings(run=run, masks=str(masks), ksample=3)
    refused(occupancy_score.run, settings, tmp_path)
    mask = str(masks / "Mask_m_chaina.mrc")
    refused(occupancy_pca.run, PcaSettings(run=run, mask=mask, ksample=3), tmp_path)


def test_workers_without_room_are_refused_before_classes_are_found(run, tmp_path):
    table, *_ = planted_table(60, noise=0.05)
    table.write(str(tmp_path / "scored"))
    record = {"made_from": open_run(run).identity(1).to_dict(), "normalize": "reference"}
    (tmp_path / "scored" / "settings.json").write_text(json.dumps(record))
    settings = OccupancyClassesSettings(table=str(tmp_path / "scored"))
    refused(occupancy_classes.run, settings, tmp_path)


def refused(workflow, settings, folder):
    before = set(folder.rglob("*"))
    with (
        Executor(workers=1, cpus_per_worker=10_000) as executor,
        pytest.raises(ClusterError, match=r"with 10,?000 CPUs does not fit on this machine"),
    ):
        workflow(settings, executor=executor)
    assert set(folder.rglob("*")) == before


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
