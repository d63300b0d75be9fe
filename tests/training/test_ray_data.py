"""Whether tasks over the cluster prepare particles, or each worker its own; no Ray is started."""

import pytest

from raydrgn.data.config import ImageConfig
from raydrgn.errors import ClusterError
from raydrgn.io.particle_source import ParticleSource
from raydrgn.io.particles import ParticleTable
from raydrgn.remote.allocation import Allocation, Cluster, Node, Size
from raydrgn.remote.resources import Resources
from raydrgn.run.config import RunConfig
from raydrgn.training import trainer

SEVEN = Allocation(1, cpus=7, gpus=0.0)


def uses_ray_data(monkeypatch, cpus, allocation=SEVEN, *, is_this_machine=False, **resources):
    node = Node(Size(cpus), Size(cpus))
    there = Cluster(nodes=(node,), is_this_machine=is_this_machine)
    monkeypatch.setattr(trainer, "read_cluster", lambda: there)
    config = RunConfig(
        source=ParticleSource(particles="p.star"),
        data=ImageConfig(box=16),
        pixel_size_angstrom=1.0,
        resources=Resources(**resources),
    )
    table = ParticleTable.from_columns(
        {"index": [0], "stack": ["p.mrcs"], "slice": [0], "box": [16]}
    )
    return trainer._uses_ray_data(config, table, allocation)


def test_tasks_need_a_cpu_that_neither_a_worker_nor_the_command_of_a_job_has(monkeypatch):
    assert uses_ray_data(monkeypatch, 8, local_ingest_mb=0)
    with pytest.raises(ClusterError, match=r"all CPUs that the cluster .* --cpus-per-worker"):
        uses_ray_data(monkeypatch, 7, local_ingest_mb=0)  # of 8, one is held by the job's command


def test_a_ray_of_this_machine_has_spare_cpus_for_tasks(monkeypatch):
    assert uses_ray_data(monkeypatch, 7, is_this_machine=True, local_ingest_mb=0)


def test_few_images_are_prepared_by_each_worker(monkeypatch):
    assert not uses_ray_data(monkeypatch, 7, local_ingest_mb=2000)


def test_an_elastic_run_without_a_cpu_for_tasks_goes_on_without_them(monkeypatch):
    elastic = {"num_workers": 2, "min_workers": 1}
    assert not uses_ray_data(monkeypatch, 7, local_ingest_mb=0, **elastic)
