"""A round of the protocol as tests need it: bright images, the given hand, seed 0."""

from raydrgn.io.particle_source import ParticleSource
from raydrgn.protocol.rounds import Round
from raydrgn.protocol.settings import TrainingPlan


def planned_round(plan: TrainingPlan, *, number=1, source=None, rows=None) -> Round:
    """Return a round: the first filters (``--low``), the second is the last one (``--high``)."""
    return Round(
        number=number,
        plan=plan,
        option="--low" if number == 1 else "--high",
        source=source or ParticleSource(particles="p.star"),
        rows=rows,
        uninvert_data=False,
        flip=False,
        drop_bad=False,
        seed=0,
    )
