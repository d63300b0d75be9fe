"""What the protocol makes of the last round, and of particles that do not differ."""

import numpy as np
import pytest

from finished_run import make_run
from planned_round import planned_round
from raydrgn.io.tables import read_parquet
from raydrgn.landscape.components import EqualVolumesError
from raydrgn.protocol import ensemble
from raydrgn.protocol.project import Project, Step
from raydrgn.protocol.settings import TrainingPlan
from raydrgn.remote.executor import Executor
from raydrgn.remote.progress import silent
from raydrgn.run.reader import RunReader
from raydrgn.workflows import landscape


@pytest.mark.parametrize("has_latents", [True, False])
def test_volumes_that_do_not_differ_are_one_class(tmp_path, monkeypatch, caplog, has_latents):
    """Of a homogeneous sample, which has no components, or such as the images do not determine."""

    def refuses(settings, **_):
        assert has_latents
        raise EqualVolumesError("All volumes are equal within the mask.")

    monkeypatch.setattr(landscape, "run", refuses)
    monkeypatch.setattr(RunReader, "has_latents", lambda run, epoch: has_latents)
    project = Project(str(tmp_path / "project"))
    run = make_run(tmp_path / "project" / "round2", np.zeros((60, 2)))
    made = {"particles": 60, "epoch": 1}
    trained = Step(name="round 2", key="key", folder=run.files.root, result=made)
    this = planned_round(TrainingPlan.read("8 8x1 epochs=4", "--high"), number=2)
    with Executor() as executor:
        found = ensemble.landscape(project, this, trained, executor=executor, progress=silent)
    assert found.result["states"] == 1
    assert ensemble.NO_DIFFERENCE in caplog.text
    uri = found.at("landscape.parquet")
    table = read_parquet(
        (tmp_path / "project" / "landscape" / "landscape.parquet").read_bytes(), uri
    )
    assert table["original"].to_pylist() == list(range(60))
    labels, names = ensemble.read_classes(found, 60)
    assert names == ["S0"]
    assert not labels.any()
