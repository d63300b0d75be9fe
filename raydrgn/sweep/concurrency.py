"""How many trials a cluster has room for at a time, and what each worker gets."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from raydrgn.remote.resources import Resources
from raydrgn.remote.session import SPARE_RESOURCE


class Concurrency(NamedTuple):
    """Trials at a time, and the CPU cores of each of their workers."""

    trials: int
    cpus: int


def concurrent_trials(
    resources: Resources, nodes: Sequence[Mapping[str, float]], *, count: int
) -> Concurrency:
    """Return how many trials have room at a time; at least one, which may have to wait.

    Args:
        resources: What the workers of a trial need; where no number of CPUs is given, those of a
            node are divided among the workers that are on it.
        nodes: Resources of each node.
        count: Trials in all.
    """
    workers, least = resources.num_workers, max(resources.cpus, 1)
    devices = sum(node.get("GPU", 0.0) for node in nodes)
    gpus = resources.gpus if resources.gpus >= 0 else float(devices > 0)
    places = []
    for node in nodes:
        cores = int(node.get("CPU", 0) - node.get(SPARE_RESOURCE, 0))
        fits = cores // least
        if gpus:
            fits = min(fits, math.floor(node.get("GPU", 0.0) / gpus))
        if fits > 0:
            places.append((fits, cores))
    trials = max(min(sum(fits for fits, _ in places) // workers, count), 1)
    if resources.cpus or not places:
        return Concurrency(trials, least)
    share = trials * workers / sum(fits for fits, _ in places)  # of the places, on every node
    used = [(max(math.ceil(share * fits), 1), cores) for fits, cores in places]
    return Concurrency(trials, max(min(cores // number for number, cores in used), 1))
