"""Which settings are tried next: all combinations of a small grid, or Optuna's proposals.

What is proposed for trial N follows from the seed, N and the scores known by then. A sweep that
goes on tells Optuna the scores of its record, so that nothing is read but plain numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from raydrgn.sweep.record import TrialRecord
from raydrgn.sweep.space import Choice, Search, SearchSpace

RANDOM_TRIALS = 8
"""Trials before proposals follow the scores."""

ATTEMPTS = 32
"""Proposals in a row that may repeat earlier settings, before any settings not tried are taken."""


class Proposals(Searcher):
    """Gives Tune the number and the settings of each trial."""

    def __init__(
        self,
        space: SearchSpace,
        *,
        count: int,
        is_grid: bool,
        seed: int,
        known: Sequence[TrialRecord],
        epochs: int,
    ) -> None:
        """Go on after known trials.

        Args:
            space: Settings to search.
            count: Trials in all.
            is_grid: Whether all combinations are tried, in their order.
            seed: Of the proposals.
            known: Trials of the record; those that have not ended are begun first.
            epochs: Of a whole trial.
        """
        super().__init__(metric="score", mode="max")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._count, self._is_grid, self._seed = space, count, is_grid, seed
        self._epochs = epochs
        self._pending = [trial for trial in known if not trial.has_ended]
        self._tried = [dict(trial.values) for trial in known]
        self._next = len(known)
        self._asked: dict[str, dict[str, Any]] = {}
        self._distributions = {s.name: _distribution(s) for s in space.searches}
        self._study = optuna.create_study(direction="maximize")
        for trial in known:
            if trial.has_ended:
                self._tell(trial.values, trial.scores)

    def __getstate__(self) -> dict[str, Any]:
        """Keep nothing in what Tune writes of itself, which is never read."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return number and settings of the next trial; Tune's sign for the end after the last."""
        if self._pending:
            trial = self._pending.pop(0)
            number, values = trial.number, dict(trial.values)
        elif self._next >= self._count:
            return Searcher.FINISHED
        else:
            number, values = self._next, self._propose(self._next)
            self._next += 1
            self._tried.append(values)
        self._asked[trial_id] = values
        return {"trial": {"number": number, "values": values}}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn the score of a trial that has ended."""
        values = self._asked.pop(trial_id)
        scores = {} if error or not result else {result["epoch"]: result["score"]}
        self._tell(values, scores)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the record of the sweep has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Take nothing back: a sweep goes on from its record."""

    def _propose(self, number: int) -> dict[str, Any]:
        if self._is_grid:
            return next(v for v in self._space.combinations() if v not in self._tried)
        for attempt in range(ATTEMPTS):
            state = np.random.default_rng((self._seed, number, attempt)).integers(2**31)
            self._study.sampler = optuna.samplers.TPESampler(
                seed=int(state), n_startup_trials=RANDOM_TRIALS
            )
            asked = self._study.ask(self._distributions)
            values = dict(asked.params)
            self._study.tell(asked, state=TrialState.FAIL)  # told again when its score is known
            if values not in self._tried:
                return values
        count = self._space.num_combinations
        if count is None:
            return values
        first = int(np.random.default_rng((self._seed, number)).integers(count))
        return next(v for v in self._space.combinations(first) if v not in self._tried)

    def _tell(self, values: Mapping[str, Any], scores: Mapping[int, float]) -> None:
        """Add a trial to what proposals follow.

        One that was stopped counts less than any that has finished, by how far it came and its
        score there; one without a score least of all.
        """
        finite = {epoch: score for epoch, score in scores.items() if np.isfinite(score)}
        is_whole = self._epochs in finite
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if is_whole else TrialState.PRUNED,
                value=finite[self._epochs] if is_whole else None,
                params=dict(values),
                distributions=self._distributions,
                intermediate_values=finite,
            )
        )


def _distribution(search: Search) -> BaseDistribution:
    if isinstance(search, Choice):
        return CategoricalDistribution(search.values)
    if search.is_whole:
        return IntDistribution(int(search.low), int(search.high), log=search.is_log)
    return FloatDistribution(search.low, search.high, log=search.is_log)
