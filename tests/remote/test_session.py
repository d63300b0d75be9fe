"""What workers are given of a cluster."""

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote.resources import Resources
from raydrgn.remote.session import HELD_CPUS, HELD_GPUS, SPARE_RESOURCE, allot


def test_workers_share_all_cpus_but_the_spare_ones():
    allotment = allot(Resources(num_workers=2), available={"CPU": 10, SPARE_RESOURCE: 2})
    assert (allotment.cpus, allotment.gpus) == (4, 0)


def test_workers_are_not_given_what_a_job_keeps_for_its_command(monkeypatch):
    monkeypatch.setenv(HELD_CPUS, "0.5")
    monkeypatch.setenv(HELD_GPUS, "1.0")
    available = {"CPU": 4, "GPU": 2}
    assert allot(Resources(), available=available).cpus == 3
    with pytest.raises(ClusterError, match=r"2 workers of 2 CPUs each .* there are 3 CPUs"):
        allot(Resources(num_workers=2, cpus=2), available=available)
    with pytest.raises(ClusterError, match=r"2 workers of 1 GPUs each .* there are 1 GPUs"):
        allot(Resources(num_workers=2, gpus=1), available=available)
