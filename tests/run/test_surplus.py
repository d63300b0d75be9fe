"""Weights that a run need not keep: which they are, `clean`, and ``train.keep_epochs``."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from finished_run import make_run
from latents import finished_run
from plain import fit, small_run
from raydrgn.cli.main import app
from raydrgn.comparison.sources import open_labeling
from raydrgn.convergence.epochs import choose_epochs
from raydrgn.errors import RunDirectoryError
from raydrgn.inputs.run_inspection import inspect_run
from raydrgn.io import storage
from raydrgn.run.checkpoint import Checkpoint
from raydrgn.run.claim import ClaimError, RunClaim
from raydrgn.run.config import RunConfig
from raydrgn.run.cryodrgn_export import export_run
from raydrgn.run.directory import Position, RunDirectory
from raydrgn.run.identity import Identity
from raydrgn.run.manifest import Manifest
from raydrgn.run.reader import open_run
from raydrgn.run.status import find_run
from raydrgn.run.writer import RunWriter
from raydrgn.training.disk_room import kept_epochs
from raydrgn.training.prepare_run import RunRequest, resume
from raydrgn.workflows import analyze
from raydrgn.workflows import clean as workflow
from raydrgn.workflows.analyze import AnalyzeSettings
from raydrgn.workflows.clean import CleanSettings

COUNT = 5


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    """A run of twelve epochs, with results of the third and of an older second epoch."""
    uri = str(tmp_path / "run")
    if request.param == "memory":
        uri = f"memory://surplus/{tmp_path.name}"
    make_run(tmp_path / "model", np.zeros((COUNT, 2)))
    config = (tmp_path / "model" / "config.yaml").read_bytes()
    particles = (tmp_path / "model" / "particles.parquet").read_bytes()
    writer = RunWriter(uri, num_particles=COUNT)
    writer.begin(config, particles)
    for epoch in range(1, 13):
        put_epoch(writer, epoch)
    writer.finish(12)
    run = RunDirectory(uri)
    third = Identity.of(run, 3).to_dict()
    older = {**Identity.of(run, 2).to_dict(), "weights": "of an earlier training"}
    for folder, origin in (("analyze.3", third), ("explore/analyze.2", older)):
        record = json.dumps({"ksample": 20, "made_from": origin}).encode()
        storage.write_bytes(storage.join(uri, folder, "settings.json"), record)
    return uri


def put_epoch(writer, epoch):
    position = Position(epoch + 1, 0)
    model = {"decoder.weight": torch.full((3,), float(epoch))}
    checkpoint = Checkpoint(position=position, model=model, optimiser={}, sums=[1.0, 2.0, 3.0])
    writer.save_checkpoint(checkpoint.to_bytes(), position)
    mean = np.full((COUNT, 2), epoch, dtype=np.float32)
    writer.save_latents(epoch, 0, mean, -mean)


def test_clean_keeps_every_nth_epoch_the_last_and_those_with_results(root):
    run, before = RunDirectory(root), set(storage.list_files(root))
    sizes = {epoch: storage.file_size(run.weights(epoch)) for epoch in run.epochs()}
    planned = workflow.run(CleanSettings(run=root, every=5, dry_run=True))
    assert set(storage.list_files(root)) == before
    found = workflow.run(CleanSettings(run=root, every=5))
    assert run.epochs() == [3, 5, 10, 12] == list(found.kept)
    assert run.latent_epochs() == list(range(1, 13))
    gone = [1, 2, 4, 6, 7, 8, 9, 11]
    assert [weights.epoch for weights in found.deleted] == gone
    assert found.deleted == planned.deleted
    assert found.num_bytes == sum(sizes[epoch] for epoch in gone)
    assert "analyze.3" in found.kept[3]
    assert before - set(storage.list_files(root)) == {f"weights.{epoch}.pkl" for epoch in gone}
    assert "epochs 3, 5, 10, 12 are kept" in storage.read_bytes(run.log).decode()
    with pytest.raises(RunDirectoryError, match=r"no weights of epoch 4 any more.*: 3, 5, 10, 12"):
        open_run(root).epoch(4)
    assert open_run(root).epoch(4, latents_only=True) == 4
    with pytest.raises(RunDirectoryError, match=r"has no epoch 13; those that are finished"):
        open_run(root).epoch(13)
    # the same again finds nothing to do, and the run still counts as finished
    assert not workflow.run(CleanSettings(run=root, every=5)).deleted
    assert Manifest.read(run.manifest).finished_epochs() == list(range(1, 13))


def test_clean_keeps_the_epochs_that_the_run_was_told_to_keep(root):
    config = RunConfig.read(RunDirectory(root).config)
    told = replace(config, train=replace(config.train, keep_epochs=4))
    storage.write_bytes(RunDirectory(root).config, told.to_yaml().encode())
    assert list(workflow.run(CleanSettings(run=root, dry_run=True)).kept) == [3, 4, 8, 12]
    assert list(workflow.run(CleanSettings(run=root, every=6, dry_run=True)).kept) == [3, 6, 12]


def test_an_epoch_without_weights_is_known_by_its_latents(root):
    run, before = RunDirectory(root), Identity.of(RunDirectory(root), 4).to_dict()
    workflow.run(CleanSettings(run=root))
    assert Identity.of(run, 4).difference(before) is None
    assert Identity.of(run, 4).difference(before | {"latents": "other"}).startswith("other latents")
    assert Identity.of(run, 5).difference(before | {"epoch": 5}).startswith("other weights")


def test_workflows_on_latents_take_an_epoch_without_weights(tmp_path):
    root = finished_run(tmp_path)
    assert dict(inspect_run(str(root)).facts)["epochs finished"] == "2, the last 2"
    (root / "weights.1.pkl").unlink()
    assert dict(inspect_run(str(root)).facts)["epochs finished"] == "2, with weights: 2"
    settings = AnalyzeSettings(run=str(root), epoch=1, ksample=2, skip_umap=True, skip_volumes=True)
    made = analyze.run(settings)
    assert made.epoch == 1
    report = (root / "analyze.1" / "report.html").read_text()
    assert "raydrgn filter" in report
    assert "raydrgn landscape" not in report  # which decodes volumes
    assert len(open_labeling(f"{root}:1").codes) == len(made.space.z)
    with pytest.raises(RunDirectoryError, match="no weights of epoch 1 any more"):
        analyze.run(replace(settings, skip_volumes=False))


def test_the_command_lists_what_would_go_with_its_size(root):
    said = CliRunner().invoke(app, ["clean", root, "--every", "4", "--dry-run"])
    assert said.exit_code == 0, said.output
    size = storage.file_size(RunDirectory(root).weights(1))
    assert f"weights of 8 epochs, {8 * size / 1e3:.3g} kB ({8 * size:,} bytes)" in said.output
    assert "would be deleted" in said.output
    assert RunDirectory(root).epochs() == list(range(1, 13))


def test_weights_that_are_not_as_they_were_written_stay(root):
    run = RunDirectory(root)
    storage.write_bytes(run.weights(7), b"of somebody else")
    found = workflow.run(CleanSettings(run=root))
    assert "not as training wrote it" in found.kept[7]
    assert storage.read_bytes(run.weights(7)) == b"of somebody else"


def test_nothing_is_deleted_while_it_is_not_known_what_results_are_of(root):
    storage.write_bytes(storage.join(root, "filter", "settings.json"), b"{")
    with pytest.raises(RunDirectoryError, match=r"filter/settings\.json is damaged"):
        workflow.run(CleanSettings(run=root))
    assert len(RunDirectory(root).epochs()) == 12


def test_a_run_in_training_is_left_alone(root):
    with RunClaim(root) as claim:
        claim.take()
        with pytest.raises(ClaimError, match="is in use by"):
            workflow.run(CleanSettings(run=root))
    assert len(RunDirectory(root).epochs()) == 12


def test_a_run_of_cryodrgn_and_a_run_without_an_epoch_are_refused(tmp_path):
    run = make_run(tmp_path / "run", np.zeros((COUNT, 2)))
    export_run(run.root, str(tmp_path / "exported"))
    with pytest.raises(RunDirectoryError, match="is a run of cryoDRGN's"):
        workflow.run(CleanSettings(run=str(tmp_path / "exported")))
    storage.remove(run.files.weights(1))
    with pytest.raises(RunDirectoryError, match="has no finished epoch yet"):
        workflow.run(CleanSettings(run=run.root))


def test_training_keeps_every_nth_epoch_and_goes_on_from_any_end(tmp_path):
    values = {"train.epochs": 7, "train.keep_epochs": 3}
    run = small_run(tmp_path, tmp_path / "run", **values)
    fit(run)
    files = RunDirectory(run.root)
    assert files.epochs() == [3, 6, 7]
    assert files.latent_epochs() == list(range(1, 8))
    assert kept_epochs(run.config.train) == 4  # with the newest two before the end
    request = RunRequest(root=run.root, source=None, values={"train.epochs": 8})
    fit(resume(request, find_run(run.root)))
    assert files.epochs() == [3, 6, 8]


def test_where_epochs_are_too_few_to_judge_a_smaller_step_is_named(root, caplog):
    for epoch in (1, 2, 4, 5, 7, 9, 12):
        storage.remove(RunDirectory(root).weights(epoch))
    run = open_run(root)
    assert choose_epochs(run, 11, 5)[1] == [6, 11]
    assert "--every 5 compares the volumes of 1 pair of epochs" in caplog.text
    assert "--every 2 compares those of epochs 3, 6, 8, 11" in caplog.text


def test_convergence_takes_the_epochs_whose_weights_are_there(tmp_path):
    root = finished_run(tmp_path, epochs=5)
    run = open_run(str(root))
    assert choose_epochs(run, None, 2) == ([1, 2, 3, 4, 5], [1, 3, 5])
    for epoch in (1, 3, 4):
        (root / f"weights.{epoch}.pkl").unlink()
    assert choose_epochs(run, None, 2) == ([1, 2, 3, 4, 5], [2, 5])
    (root / "weights.2.pkl").unlink()
    with pytest.raises(RunDirectoryError, match=r"at least two epochs.*--resume --epochs N"):
        choose_epochs(run, None, 2)
