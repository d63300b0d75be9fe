"""What ``compare`` writes is labels again, and says what they are."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydrgn.comparison.sources import open_labeling
from raydrgn.reporting.result_folder import ResultFolder
from raydrgn.run.project_steps import STEPS
from raydrgn.settings import PROJECT
from raydrgn.workflows import compare as workflow
from raydrgn.workflows.compare import CompareSettings


def compare_files(*labels, **more):
    return workflow.run(CompareSettings(labels=tuple(map(str, labels)), **more))


def test_columns_of_its_table_are_labelings_again(tmp_path):
    (tmp_path / "run: old").mkdir()
    first, second = tmp_path / "run: old" / "a.csv", tmp_path / "b.csv"
    first.write_text("original,label\n0,x\n1,x\n2,y\n")
    second.write_text("original,label\n1,4\n2,5\n3,5\n")
    out = tmp_path / "out"
    made = compare_files(first, second, out=str(out))
    table = out / "particles.parquet"
    [again] = compare_files(f"{table}:labels1", f"{table}:labels2").pairs
    [before] = made.pairs
    np.testing.assert_array_equal(again.numbers, before.numbers)
    np.testing.assert_array_equal(again.counts, before.counts)
    rows = list(csv.DictReader((out / "labelings.csv").read_text().splitlines()))
    assert [(row["column"], row["labeling"], row["particles"]) for row in rows] == [
        ("labels1", str(first), "3"),
        ("labels2", str(second), "3"),
    ]
    page = (out / "report.html").read_text()
    assert "column of particles.parquet" in page
    assert "labels2" in page


def test_figures_of_a_project_name_labelings_as_its_reports_do(tmp_path, monkeypatch):
    files = [tmp_path / f"round{number}" / "labels.csv" for number in (1, 2, 3)]
    for file in files:
        file.parent.mkdir()
        file.write_text("original,label\n0,x\n1,x\n2,y\n")
    for name in (PROJECT, STEPS):
        (tmp_path / name).write_text("")
    axes = {}
    monkeypatch.setattr(
        ResultFolder,
        "write_figure",
        lambda _, name, figure: axes.setdefault(name, figure.axes[0]),
    )
    compare_files(*files, out=str(tmp_path / "out"))
    shares = axes["1-2/shares.png"]
    assert (shares.get_ylabel(), shares.get_xlabel()) == (
        "round1/labels.csv",
        "round2/labels.csv",
    )
    assert axes["rand.png"].get_yticklabels()[2].get_text() == "3: round3/labels.csv"


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"gmm": None, "labels": "sim/states.npy", "ksample": 20}, "labels of states.npy"),
        ({"gmm": 3, "labels": None, "ksample": 20}, "Gaussian mixture of 3"),
        ({"gmm": None, "labels": None, "ksample": 20}, "k-means of 20"),
    ],
)
def test_what_filter_has_shown_is_named(tmp_path, record, kind):
    pq.write_table(pa.table({"original": [0, 1], "cluster": [0, 1]}), tmp_path / "labels.parquet")
    (tmp_path / "settings.json").write_text(json.dumps({"command": "filter", **record}))
    assert open_labeling(str(tmp_path)).kind == kind
