"""What is allocated, waited for and refused, and in which words, over made-up clusters."""

import pytest

from raydrgn.errors import ClusterError, ConfigError
from raydrgn.remote.allocation import (
    Allocation,
    Cluster,
    Node,
    NodeType,
    Size,
    Wanted,
    allocate,
    fitting,
    leaves_cpu,
)
from raydrgn.remote.resources import Resources, parse_duration


def cluster(*sizes, free=None, **grows):
    """Return a cluster of nodes of (CPUs, GPUs), all free unless said otherwise."""
    pairs = zip(sizes, sizes if free is None else free, strict=True)
    nodes = tuple(Node(Size(*total), Size(*left)) for total, left in pairs)
    return Cluster(nodes=nodes, **grows)


HEAD = (0, 0)
LAPTOP = cluster((8, 1), is_this_machine=True)
EIGHT_GPUS = cluster((64, 8))
THREE_NODES = cluster(HEAD, (2, 0), (2, 0), (2, 0))
GPU_NODES = cluster(HEAD, (16, 4), (16, 4))
CLOUD = NodeType(Size(16, 1), 4)  # as in cluster/aws.yaml
AT_REST = cluster(HEAD, types=(CLOUD,), most_added=4)
ONE_UP = cluster(HEAD, (16, 1), types=(NodeType(Size(16, 1), 3),), most_added=3)
CPU_NODE_UP = cluster(HEAD, (16, 0), types=(CLOUD,))
BUSY = cluster(HEAD, (2, 0), (2, 0), (2, 0), free=[HEAD, (0, 0), (2, 0), (1, 0)])
FULL = cluster(HEAD, (2, 0), (2, 0), (2, 0), free=[HEAD] * 4)
UNKNOWN = cluster(HEAD, has_unknown_growth=True)

WITHOUT_GPUS = {"gpus": 0.0}


@pytest.mark.parametrize(
    ("there", "asked", "given"),
    [
        # Nothing given: a worker for each GPU, or for each node without; all of their CPUs.
        (LAPTOP, {}, (1, 8, 1)),
        (EIGHT_GPUS, {}, (8, 8, 1)),
        (THREE_NODES, {}, (3, 2, 0)),
        (GPU_NODES, {}, (8, 4, 1)),
        (cluster((8, 0)), {}, (1, 8, 0)),
        (cluster((16, 0), (16, 0), (4, 0)), {}, (2, 16, 0)),
        (cluster((8, 0), (2, 0)), {}, (1, 8, 0)),
        (cluster((2, 0), (2, 0), (16, 2)), {}, (2, 8, 1)),
        # Workers given: the CPUs that all can have, node by node.
        (THREE_NODES, {"num_workers": 2}, (2, 2, 0)),
        (THREE_NODES, {"num_workers": 4}, (4, 1, 0)),
        (cluster((8, 0), (8, 0)), {"num_workers": 3}, (3, 4, 0)),
        (EIGHT_GPUS, {"num_workers": 2}, (2, 32, 1)),
        (GPU_NODES, {"num_workers": 3}, (3, 8, 1)),
        # More workers than GPUs share them.
        (LAPTOP, {"num_workers": 2}, (2, 4, 0.5)),
        (LAPTOP, {"num_workers": 3}, (3, 2, 0.3333)),
        (EIGHT_GPUS, {"num_workers": 9}, (9, 7, 0.5)),
        # What each gets is given.
        (THREE_NODES, {"cpus": 1}, (6, 1, 0)),
        (LAPTOP, WITHOUT_GPUS, (1, 8, 0)),
        (EIGHT_GPUS, {"num_workers": 8, "cpus": 4, "gpus": 1}, (8, 4, 1)),
        (EIGHT_GPUS, {"num_workers": 4, "gpus": 2}, (4, 16, 2)),
        (LAPTOP, {"num_workers": 4, "gpus": 0.25}, (4, 2, 0.25)),
        # Part of the cluster is in use: what is not given follows what is free.
        (BUSY, {}, (1, 2, 0)),
        (BUSY, {"num_workers": 3}, (3, 1, 0)),
    ],
)
def test_workers_are_allocated_what_nodes_have_free(there, asked, given):
    allocation = allocate(Wanted(resources=Resources(**asked)), there)
    assert (allocation.num_workers, allocation.cpus, allocation.gpus) == given
    assert allocation.missing(there) is None


@pytest.mark.parametrize(
    ("there", "asked", "given", "missing"),
    [
        (AT_REST, {}, (1, 16, 1), "1 node with 1 GPU and 16 CPUs: none is there"),
        (AT_REST, {"num_workers": 4, "cpus": 4}, (4, 4, 1),
         "4 nodes with 1 GPU and 4 CPUs: none is there"),
        (ONE_UP, {"num_workers": 4, "cpus": 4}, (4, 4, 1),
         "4 nodes with 1 GPU and 4 CPUs: 1 is there"),
        (AT_REST, {"num_workers": 4, "cpus": 1, **WITHOUT_GPUS}, (4, 1, 0),
         "room for 4 workers with 1 CPU each: there is room for 0"),
        # GPU nodes may still come: never on the CPUs of those that are there.
        (CPU_NODE_UP, {}, (1, 16, 1), "1 node with 1 GPU and 16 CPUs: none is there"),
        (UNKNOWN, {"num_workers": 4, "cpus": 4, "gpus": 1}, (4, 4, 1),
         "4 nodes with 1 GPU and 4 CPUs: none is there"),
        (FULL, {}, (3, 2, 0),
         "room for 3 workers with 2 CPUs each: there is room for 0 until other work ends"),
        (BUSY, {"num_workers": 3, "cpus": 2}, (3, 2, 0),
         "room for 3 workers with 2 CPUs each: there is room for 1 until other work ends"),
        (cluster((16, 1), (16, 1), free=[(16, 1), (16, 0)], types=(NodeType(Size(16, 1), 2),)),
         {"num_workers": 4, "cpus": 4, "gpus": 1}, (4, 4, 1),
         "4 nodes with 1 GPU and 4 CPUs: 1 is there, and 1 more with other work"),
    ],
)  # fmt: skip
def test_workers_wait_for_what_the_cluster_can_have(there, asked, given, missing):
    allocation = allocate(Wanted(resources=Resources(**asked)), there)
    assert (allocation.num_workers, allocation.cpus, allocation.gpus) == given
    assert allocation.missing(there) == missing


@pytest.mark.parametrize(
    ("there", "asked", "message"),
    [
        (THREE_NODES, {"num_workers": 2, "cpus": 3},
         "A worker with 3 CPUs does not fit on any node of the cluster (3 nodes with 2 CPUs). Use "
         "--cpus-per-worker 2 or fewer."),
        (THREE_NODES, {"num_workers": 7},
         "7 workers with 1 CPU each do not fit on the cluster (3 nodes with 2 CPUs): there is room "
         "for 6. Use --workers 6 or fewer."),
        (THREE_NODES, {"num_workers": 4, "cpus": 2},
         "4 workers with 2 CPUs each do not fit on the cluster (3 nodes with 2 CPUs): there is "
         "room for 3. Use --workers 3 or fewer, or give each fewer CPUs with --cpus-per-worker."),
        (THREE_NODES, {"gpus": 1},
         "A worker with 1 GPU and 1 CPU does not fit on any node of the cluster (3 nodes with 2 "
         "CPUs). Use --gpus-per-worker 0 to compute on CPUs."),
        (LAPTOP, {"gpus": 2},
         "A worker with 2 GPUs and 1 CPU does not fit on this machine (1 GPU and 8 CPUs). Use "
         "--gpus-per-worker 1 or fewer."),
        (LAPTOP, {"num_workers": 9},
         "9 workers with 0.1111 GPUs and 1 CPU each do not fit on this machine (1 GPU and 8 "
         "CPUs): there is room for 8. Use --workers 8 or fewer."),
        (cluster(HEAD), {},
         "There are no CPUs for workers on the cluster (no node with CPUs). Add nodes to it."),
        (cluster(HEAD, kept=Size(2)), {"num_workers": 1},
         "There are no CPUs for workers: this job keeps 2 of the 2 CPUs of the cluster for its "
         "command. Submit it with raydrgn submit --cpus 1, or with entrypoint_num_cpus: 1 in its "
         "spec; or add nodes."),
        (cluster((0, 1), kept=Size(1)), {},
         "There are no CPUs for workers: this job keeps 1 of the 1 CPU of the cluster for its "
         "command. Submit it with raydrgn submit --cpus 0, or with entrypoint_num_cpus: 0 in its "
         "spec; or add nodes."),
        (cluster((1, 0), kept=Size(1)), {"num_workers": 2},
         "2 workers with 1 CPU each do not fit on the cluster (1 node with 1 CPU; this job keeps 1 "
         "CPU for its command): there is room for 1. Use --workers 1 or fewer."),
        (ONE_UP, {"num_workers": 5, "gpus": 1},
         "5 workers with 1 GPU and 1 CPU each do not fit on the cluster (1 node with 1 GPU and 16 "
         "CPUs; the autoscaler may add 3 nodes with 1 GPU and 16 CPUs): there is room for 4. Use "
         "--workers 4 or fewer."),
    ],
)  # fmt: skip
def test_what_the_cluster_can_never_have_is_refused(there, asked, message):
    with pytest.raises(ClusterError) as caught:
        allocate(Wanted(resources=Resources(**asked)), there)
    assert str(caught.value) == message


def test_one_worker_is_not_said_to_be_several():
    there = cluster(HEAD, (2, 0), (4, 0), free=[HEAD, (1, 0), (0, 0)])
    assert Allocation(1, 2, 0).missing(there) == (
        "room for 1 worker with 2 CPUs: there is room for 0 until other work ends"
    )


def test_a_bound_on_all_nodes_that_may_be_added_counts():
    kinds = (NodeType(Size(16, 1), 4), NodeType(Size(64, 0), 4))
    there = cluster(HEAD, types=kinds, most_added=2)
    asked = Wanted(resources=Resources(num_workers=3, cpus=4, gpus=1))
    with pytest.raises(ClusterError, match=r"there is room for 2\."):
        allocate(asked, there)
    without = Wanted(resources=Resources(num_workers=8, cpus=16, gpus=0))
    assert allocate(without, there) == Allocation(8, 16, 0)  # two of the larger nodes


def test_work_that_cannot_be_divided_further_gets_fewer_workers():
    assert allocate(Wanted(resources=Resources(), most_workers=3), EIGHT_GPUS).num_workers == 3


def test_a_cpu_is_left_for_tasks_where_the_cpus_of_workers_are_not_given():
    def cpus(there, **asked):
        return allocate(Wanted(resources=Resources(**asked), leaves_cpu=True), there).cpus

    assert cpus(THREE_NODES) == 1
    assert cpus(cluster((8, 0), (2, 0))) == 8  # the second node has some
    assert cpus(THREE_NODES, num_workers=2) == 2
    assert cpus(THREE_NODES, cpus=2) == 2
    assert cpus(AT_REST) == 15


@pytest.mark.parametrize(
    ("there", "asked", "number"),
    [
        (THREE_NODES, {"num_workers": 5, "cpus": 1}, 5),
        (cluster(HEAD, (2, 0), (2, 0)), {"num_workers": 5, "cpus": 1}, 4),
        (cluster(HEAD, (2, 0)), {"num_workers": 3, "cpus": 2}, 1),
        (cluster(HEAD, (16, 4)), {"num_workers": 8, "gpus": 1}, 4),
        (ONE_UP, {"num_workers": 4, "gpus": 1}, 4),  # the autoscaler may bring them back
        (cluster(HEAD), {"num_workers": 3}, 1),
    ],
)
def test_later_work_of_a_command_goes_on_with_the_nodes_that_are_left(there, asked, number):
    wanted = Wanted(resources=Resources(**asked))
    assert fitting(wanted, there).resources.num_workers == number


def test_tasks_are_as_many_as_there_are_cores():
    tasks = Wanted(resources=Resources(cpus=1, gpus=0))
    assert allocate(tasks, THREE_NODES).num_workers == 6
    assert allocate(tasks, AT_REST).num_workers == 16  # one node of the type, to begin with


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1d", 86400), ("0s", 0)]
)
def test_a_length_of_time(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "nanh", "infs", "5 weeks"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(ConfigError, match="such as 90s, 30m, 2h or 1d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("there", "workers", "is_left"),
    [
        (cluster((8, 0)), (1, 7), True),
        (cluster((7, 0)), (1, 7), False),  # the eighth is held by the command of a job
        (cluster((8, 0)), (2, 4), False),
        (cluster((8, 0), (1, 0)), (2, 4), True),
        (cluster(HEAD, types=(NodeType(Size(8, 0), 1),)), (1, 7), True),
        (cluster(HEAD, types=(NodeType(Size(8, 0), 1),)), (2, 4), False),
    ],
)
def test_a_cpu_is_left_beside_the_workers_or_not(there, workers, is_left):
    number, cpus = workers
    assert leaves_cpu(Allocation(number, cpus, 0.0), there) is is_left
