"""Losses over the steps of a run: numbers for programs, one JSON object per line.

Rows have ``epoch``, ``step`` (steps done in it), ``particles`` (done in it), ``total``,
``reconstruction``, ``kl`` (means over them), ``learning_rate``, ``rate`` (particles per second) and
``seconds`` since the command began. The last row of an epoch has ``done`` true and is the mean over
the whole epoch.
"""

import json
import re
from typing import Any

from raydrgn.io.storage import Uri
from raydrgn.run.directory import RunDirectory
from raydrgn.run.lines import read_lines

LOSSES = ("epoch", "total", "reconstruction", "kl")
CRYODRGN_EPOCH = re.compile(
    r"=> Epoch: (\d+) Average gen loss = (\S+), KLD = (\S+), total loss = ([^;\s]+)"
)


def read_metrics(uri: Uri) -> list[dict[str, Any]]:
    """Return all whole rows of a run's metrics; none if there are none yet."""
    rows = []
    for line in read_lines(uri):
        try:
            rows.append(json.loads(line))
        except ValueError:  # a line cut short by a kill
            continue
    return rows


def epoch_rows(uri: Uri) -> list[dict[str, Any]]:
    """Return the row of each finished epoch."""
    return [row for row in read_metrics(uri) if row.get("done")]


def read_losses(files: RunDirectory) -> list[dict[str, float]]:
    """Return ``epoch``, ``total``, ``reconstruction`` and ``kl`` of each finished epoch.

    From raydrgn's metrics, or from the log that cryoDRGN writes; none if there is neither.
    """
    rows = epoch_rows(files.metrics)
    if rows:
        return [{key: float(row[key]) for key in LOSSES} for row in rows]
    text = "\n".join(read_lines(files.log))
    return [
        dict(zip(("epoch", "reconstruction", "kl", "total"), map(float, found), strict=True))
        for found in CRYODRGN_EPOCH.findall(text)
    ]
