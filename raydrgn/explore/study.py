"""An epoch of a run, or a file of latents, as the page sees it: columns, planes, selections."""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from raydrgn.errors import ConfigError, RaydrgnError
from raydrgn.io import storage
from raydrgn.io.particles import ParticleTable
from raydrgn.io.storage import Uri
from raydrgn.latent.column_words import column_in_words
from raydrgn.latent.command_results import CommandResults
from raydrgn.latent.conditions import Conditions, fulfilled, in_words
from raydrgn.latent.values import NO_NAME, ParticleValues, Values
from raydrgn.reporting.analysis_results import AnalysisResults
from raydrgn.run.latents_file import LatentSource
from raydrgn.run.reader import RunReader
from raydrgn.shapes import Bool, Float, Int

MOST_POINTS = 2_000_000
"""Points that a browser draws; of more particles, it draws a sample over their density."""

SAMPLE = 1_000_000
FEWEST_BINS, MOST_BINS = 40, 400
"""Parts of a density along each axis: as many as there are particles to fill them."""

MOST_NAMES = 2000
"""Categories that the page lists by name."""


class Selected(NamedTuple):
    """What conditions select."""

    mask: Bool[np.ndarray, " n"]
    words: str


class Study:
    """One epoch, opened. Arrays for the page have a value for each point that it draws."""

    def __init__(self, source: LatentSource, epoch: int | None, labels: Uri | None) -> None:
        self.source, self.epoch = source, epoch
        self.z = source.finite_latents(epoch)
        self.values = ParticleValues(source, epoch, self.z, labels=labels)
        self._stamp = _stamp(source, epoch)

    def is_current(self) -> bool:
        """Return whether latents and results of commands are those that were there when opened."""
        try:
            is_there = storage.exists(self.source.latents_uri(self.epoch))
            return not is_there or _stamp(self.source, self.epoch) == self._stamp
        except RaydrgnError:  # the run was deleted, too: what is known of it is shown
            return True

    @cached_property
    def shown(self) -> Int[np.ndarray, " k"]:
        """Rows of the particles that are drawn as points, ascending."""
        count = len(self.z)
        if count <= MOST_POINTS:
            return np.arange(count)
        chosen = np.random.default_rng(0).choice(count, SAMPLE, replace=False)
        return np.sort(chosen)

    @cached_property
    def particles(self) -> ParticleTable:
        """The particles, whose images are there.

        Raises:
            RaydrgnError: If they are not.
        """
        return self.source.particles(need_images=True)

    def facts(self) -> dict[str, Any]:
        """Return what the page begins with."""
        is_run = isinstance(self.source, RunReader)
        return {
            "title": "/".join(self.source.root.split("/")[-2:]),
            "root": self.source.root,
            "epoch": self.epoch,
            "stamp": "; ".join(f"{file} {when.isoformat()}" for file, when in self._stamp),
            "particles": len(self.z),
            "shown": len(self.shown),
            "zdim": self.z.shape[1],
            "columns": list(self.values.columns),
            "words": {name: column_in_words(name) for name in self.values.columns},
            "has_volumes": is_run,
            "box": self.source.box if isinstance(self.source, RunReader) else None,
            "missing": self._missing(),
            "centres": self._centres(),
        }

    def column(self, name: str) -> tuple[dict[str, Any], Float[np.ndarray, " k"]]:
        """Return a column: what it is, and its values at the points drawn.

        Raises:
            RaydrgnError: If there is none.
        """
        found = self.values(name)
        facts: dict[str, Any] = {"name": name, "words": column_in_words(name)}
        facts["category"] = found.is_category
        facts |= _classes(found) if found.is_category else _limits(found.numbers())
        return facts, found.array[self.shown].astype(np.float32)

    def numbers(self) -> Int[np.ndarray, " k"]:
        """Return the original numbers of the points drawn."""
        return self.values.numbers[self.shown].astype(np.int32)

    def density(self, x: str, y: str) -> tuple[dict[str, Any], Int[np.ndarray, "b b"]]:
        """Return how many particles lie in each part of a plane; row 0 is at the lowest y.

        Raises:
            RaydrgnError: If there are no such columns.
        """
        xs, ys = (self.values(name).numbers() for name in (x, y))
        finite = np.isfinite(xs) & np.isfinite(ys)
        if not finite.any():
            raise ConfigError(f"No particle has finite values of both {x} and {y}.")
        limits = [[float(v[finite].min()), float(v[finite].max())] for v in (ys, xs)]
        bins = int(np.clip(np.sqrt(finite.sum()), FEWEST_BINS, MOST_BINS))
        counts, _, _ = np.histogram2d(ys[finite], xs[finite], bins=bins, range=limits)
        return {"x": limits[1], "y": limits[0]}, counts.astype(np.int32)

    def select(self, conditions: Conditions) -> Selected:
        """Return the particles that fulfil conditions, as `raydrgn filter` selects them.

        Raises:
            ConfigError: If a column or value is not known.
        """
        return Selected(fulfilled(conditions, self.values), in_words(conditions))

    def rows(self, given: Sequence[int]) -> Int[np.ndarray, " k"]:
        """Return rows of particles that the page has named.

        Raises:
            ConfigError: If one does not exist.
        """
        rows = np.array(given, dtype=np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self.z)):
            raise ConfigError(f"There are {len(self.z):,} particles, with rows from 0.")
        return rows

    def _missing(self) -> str:
        """Return what could be shown and is not there, and how to make it; empty if nothing."""
        if self.z.shape[1] < 2 or "umap1" in self.values.columns:
            return ""
        try:
            AnalysisResults(self.source, self.epoch).require_umap(len(self.z))
        except RaydrgnError as error:
            return str(error)
        return ""

    def _centres(self) -> dict[str, list[int]]:
        """Return the rows of the centres of clusters, by the column of these clusters."""
        names = [name for name in self.values.columns if name.startswith("kmeans")]
        analysis = AnalysisResults(self.source, self.epoch)
        return {name: analysis.centres(int(name[6:])).tolist() for name in names}


def _stamp(source: LatentSource, epoch: int | None) -> list[tuple[str, datetime]]:
    """Return when the latents of an epoch and what commands have made of it were written."""
    files = [source.latents_uri(epoch), *CommandResults(source, epoch).records()]
    return [(file, storage.modified(file)) for file in files if storage.exists(file)]


def _classes(found: Values) -> dict[str, Any]:
    """Return the categories of a column with the number of particles of each."""
    codes, counts = np.unique(found.array, return_counts=True)
    number = len(codes)
    if number > MOST_NAMES:
        largest = np.sort(np.argsort(counts, kind="stable")[-MOST_NAMES:])
        codes, counts = codes[largest], counts[largest]
    unnamed = found.names.index(NO_NAME) if NO_NAME in found.names else None
    return {
        "no_value": unnamed,
        "codes": codes.tolist(),
        "counts": counts.tolist(),
        "unlisted": number - len(codes),
        "names": [found.names[code] for code in codes] if found.names else codes.tolist(),
    }


def _limits(numbers: Float[np.ndarray, " n"]) -> dict[str, Any]:
    """Return the range of values, that of all but the outermost hundredths, and how many lack."""
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        raise ConfigError("This column has no finite value.")
    low, high = np.percentile(finite, [1, 99]).tolist()
    ends = {"low": float(finite.min()), "high": float(finite.max()), "from": low, "to": high}
    return {**ends, "without_value": len(numbers) - len(finite)}
