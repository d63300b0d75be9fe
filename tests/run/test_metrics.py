"""Metrics: one JSON object per line, also after a kill."""

import json

from raydrgn.run.metrics import epoch_rows, read_metrics

ROWS = [
    {"epoch": 1, "step": 10, "total": 1.5},
    {"epoch": 1, "step": 20, "total": 1.25, "done": True},
    {"epoch": 2, "step": 10, "total": 1.0, "done": False},
]


def test_rows_come_as_they_were_added(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert read_metrics(str(path)) == ROWS
    assert epoch_rows(str(path)) == ROWS[1:2]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    path.write_text(text[:-10])
    assert read_metrics(str(path)) == ROWS[:2]


def test_no_file_has_no_rows(tmp_path):
    assert read_metrics(str(tmp_path / "metrics.jsonl")) == []
