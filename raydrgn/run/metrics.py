"""Losses over the steps of a run: numbers for programs, one JSON object per line.

Rows have ``epoch``, ``step`` (steps done in it), ``particles`` (done in it), ``total``,
``reconstruction``, ``kl`` (means over them), ``learning_rate``, ``rate`` (particles per second) and
``seconds`` since the command began. The last row of an epoch has ``done`` true and is the mean over
the whole epoch.
"""

import json
from typing import Any

from raydrgn.io import storage
from raydrgn.io.storage import Uri


def read_metrics(uri: Uri) -> list[dict[str, Any]]:
    """Return all whole rows of a metrics file; none if there is no file."""
    if not storage.exists(uri):
        return []
    rows = []
    for line in storage.read_bytes(uri).decode().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:  # a line cut short by a kill
            continue
    return rows


def epoch_rows(uri: Uri) -> list[dict[str, Any]]:
    """Return the row of each finished epoch."""
    return [row for row in read_metrics(uri) if row.get("done")]
