"""How many trials a cluster has room for at a time, and what each of them gets."""

from dataclasses import replace
from typing import NamedTuple

from raydrgn.remote.allocation import Allocation, Cluster, Size, Wanted, allocate
from raydrgn.remote.resources import Resources


class Concurrency(NamedTuple):
    """Trials at a time, and the workers of each."""

    trials: int
    allocation: Allocation


def concurrent_trials(resources: Resources, cluster: Cluster, *, count: int) -> Concurrency:
    """Return how many trials have room at a time; at least one, which may have to wait.

    What other work takes is not left out, as it may end long before the sweep; trials wait for it.

    Args:
        resources: What the workers of a trial need; where no number of CPUs is given, those of the
            nodes are divided among the workers of all trials.
        cluster: Its nodes, and those that may be added.
        count: Trials in all.

    Raises:
        ClusterError: If the cluster can never hold the workers of a trial.
    """
    alone = allocate(Wanted(resources=resources), cluster)
    workers, space = alone.num_workers, cluster.whole
    room = space.room_for(Size(resources.cpus or 1, alone.gpus))
    trials = max(min(room // workers, count), 1)
    cpus = resources.cpus or space.most_cpus(trials * workers, alone.gpus)
    return Concurrency(trials, replace(alone, cpus=cpus or alone.cpus))
