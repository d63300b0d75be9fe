"""Figures of a sweep: settings against scores, and scores and losses over epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from raydrgn.reporting.figures import PALETTE, label_epochs
from raydrgn.sweep.record import TrialRecord
from raydrgn.sweep.space import Choice, Range, Search, SearchSpace

STOPPED = "#bbbbbb"
COLUMNS = 3


def parallel_coordinates(
    space: SearchSpace, trials: Sequence[TrialRecord], *, title: str
) -> Figure:
    """Draw a line for each trial through its settings to its score; finished ones in colour."""
    figure = Figure(figsize=(2.2 * (len(space.searches) + 1) + 1.5, 4.2), layout="constrained")
    axis = figure.subplots()
    finished = [t for t in trials if t.state == "finished"]
    scores = [t.score for t in trials if t.score is not None]
    colours = Normalize(*_ends([t.score for t in finished if t.score is not None] or scores))
    colour_map = mpl.colormaps["viridis"]
    low, high = _ends(scores)
    for trial in sorted(trials, key=lambda t: (t.state == "finished", t.score or low)):
        if trial.score is None:
            continue
        heights = [axis_position(search, trial.values[search.name]) for search in space.searches]
        heights.append((trial.score - low) / (high - low))
        is_finished = trial.state == "finished"
        axis.plot(
            heights,
            color=colour_map(colours(trial.score)) if is_finished else STOPPED,
            linewidth=1.6 if is_finished else 0.8,
            alpha=0.9,
        )
    for number, search in enumerate(space.searches):
        axis.axvline(number, color="black", linewidth=0.6)
        for value in _marks(search):
            axis.text(
                number + 0.03, axis_position(search, value), _text(value), fontsize=7, va="center"
            )
    axis.axvline(len(space.searches), color="black", linewidth=0.6)
    axis.set_xticks(range(len(space.searches) + 1), [*space.names, "score"])
    axis.set_yticks([])
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    figure.colorbar(ScalarMappable(colours, colour_map), ax=axis, label=title)
    return figure


def scores_by_setting(space: SearchSpace, trials: Sequence[TrialRecord], *, title: str) -> Figure:
    """Draw the score of each trial over each setting, with its standard error."""
    columns = min(len(space.searches), COLUMNS)
    rows = -(-len(space.searches) // columns)
    figure = Figure(figsize=(3.6 * columns + 0.4, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    scored = [t for t in trials if t.score is not None]
    for axis, search in zip(axes, space.searches, strict=False):
        for state, colour, label in (
            ("stopped", STOPPED, "stopped early"),
            ("finished", PALETTE[0], "finished"),
        ):
            found = [t for t in scored if t.state == state]
            if found:
                axis.errorbar(
                    [axis_position(search, t.values[search.name]) for t in found],
                    [t.score for t in found],
                    yerr=[t.error for t in found],
                    fmt="o",
                    markersize=4,
                    color=colour,
                    label=label,
                )
        marks = _marks(search)
        axis.set_xticks(
            [axis_position(search, value) for value in marks], [_text(v) for v in marks]
        )
        axis.set_xlim(-0.08, 1.08)
        axis.set_xlabel(search.name)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(space.searches) :]:
        axis.set_axis_off()
    figure.supylabel(title, fontsize=9)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def curves(
    losses: Mapping[int, Sequence[Mapping[str, float]]],
    trials: Sequence[TrialRecord],
    *,
    title: str,
) -> Figure:
    """Draw the reconstruction error of each trial over epochs, and the scores beside it.

    Args:
        losses: Rows of each trial's epochs, by its number.
        trials: All trials.
        title: Of the score.
    """
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for trial in trials:
        is_finished = trial.state == "finished"
        colour = PALETTE[trial.number % len(PALETTE)] if is_finished else STOPPED
        rows = losses.get(trial.number, [])
        left.plot(
            [row["epoch"] for row in rows], [row["reconstruction"] for row in rows], color=colour
        )
        epochs = sorted(trial.scores)
        right.errorbar(
            epochs,
            [trial.scores[e] for e in epochs],
            yerr=[trial.errors[e] for e in epochs],
            color=colour,
            marker=".",
            label=f"{trial.number}" if is_finished else None,
        )
    left.set_ylabel("reconstruction error in training")
    right.set_ylabel(title, fontsize=9)
    for axis in (left, right):
        label_epochs(axis)
        axis.spines[["top", "right"]].set_visible(False)
    if any(trial.state == "finished" for trial in trials):
        right.legend(title="trial", frameon=False, fontsize=7, ncols=2)
    return figure


def axis_position(search: Search, value: Any) -> float:
    """Return where on an axis from 0 to 1 a value of a setting is."""
    if isinstance(search, Choice):
        return search.values.index(value) / max(len(search.values) - 1, 1)
    low, high, at = search.low, search.high, value
    if search.is_log:
        low, high, at = (float(np.log(v)) for v in (low, high, at))
    return float((at - low) / (high - low))


def _marks(search: Search) -> list[Any]:
    if isinstance(search, Choice):
        return list(search.values)
    middle = float(np.sqrt(search.low * search.high)) if search.is_log else _middle(search)
    return [search.low, middle, search.high]


def _middle(search: Range) -> float:
    return (search.low + search.high) / 2


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low, low + 1.0)
