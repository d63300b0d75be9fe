"""The steps of a project that are made, as they follow each other and as its report shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raydrgn.protocol.project import Step
from raydrgn.protocol.rounds import Round


class Filtering(NamedTuple):
    """A round that filters, and its steps."""

    round: Round
    trained: Step
    analyzed: Step
    proposal: Step
    selected: Step | None
    """None where all particles are kept."""


@dataclass(frozen=True, kw_only=True)
class CompletedSteps:
    """The steps of a whole project."""

    check: Step
    filtering: Sequence[Filtering]
    last: tuple[Round, Step, Step]
    """Of the last round: training and analysis."""

    comparison: Step
    """Clusters of the rounds, cross-tabulated."""

    path: Step
    landscape: Step
    occupancies: Sequence[Step]
    """Masks, scores and classes; none without a model."""

    classes: Step
