"""How many workers there is room for on the nodes of a cluster."""

import socket
import threading

import pytest

from raydrgn.errors import ClusterError
from raydrgn.remote.allocation import Allocation, Cluster, Node, NodeType, Size, Wanted
from raydrgn.remote.resources import Resources
from raydrgn.remote.session import SPARE_RESOURCE
from raydrgn.training import elastic
from raydrgn.training.elastic import (
    GrowthWatch,
    share_of_range,
    wait_for_room,
    workers_that_fit,
)


def nodes(*free):
    return [Size(cpus, gpus) for cpus, gpus in free]


@pytest.mark.parametrize(
    ("free", "cpus", "gpus", "expected"),
    [
        (nodes((2, 0), (2, 0), (2, 0)), 1, 0.0, 6),
        (nodes((2, 0), (2, 0), (2, 0)), 3, 0.0, 0),  # six CPUs, but no node has three
        (nodes((3, 0), (3, 0)), 2, 0.0, 2),
        (nodes((64, 8), (64, 2)), 8, 1.0, 10),  # as many as there are GPUs
        (nodes((64, 1)), 1, 0.1, 10),  # ten share one
        (nodes((0.5, 0), (-1, 0), (1, 0)), 1, 0.0, 1),  # of the spare CPUs, one is in use
        (nodes((0, 1)), 1, 1.0, 0),
        ([], 1, 0.0, 0),
    ],
)
def test_workers_are_counted_by_nodes(free, cpus, gpus, expected):
    assert workers_that_fit(free, Allocation(9, cpus, gpus)) == expected


class Asked:
    """Room that Ray is asked for, and has once the node has it."""

    def __init__(self, allocation, free, log):
        self.allocation, self._free, self._log = allocation, free, log
        log.append("asked")

    @property
    def is_there(self):
        node = Size(self._free["CPU"])
        return node.room_for(self.allocation.worker) >= self.allocation.num_workers

    def release(self):
        self._log.append("released")


@pytest.fixture
def asked():
    """What was asked for, and given back."""
    return []


@pytest.fixture
def room(monkeypatch, asked):
    """Free CPUs of the only node; a test changes them."""
    free = {"CPU": 0.0}
    monkeypatch.setattr(elastic, "free_on_nodes", lambda: [Size(free["CPU"])])
    monkeypatch.setattr(elastic, "STABLE_SECONDS", 0.6)
    monkeypatch.setattr(elastic, "ask_for_room", lambda share: Asked(share, free, asked))
    monkeypatch.setattr(elastic, "read_cluster", lambda: Cluster(nodes=()))
    return free


def wait(share, *, fewest=2, stop=None, report=print):
    return wait_for_room(share, fewest=fewest, is_stopping=stop or threading.Event(), report=report)


def test_training_starts_at_once_with_the_largest_number(room, asked):
    room["CPU"] = 4.0
    assert wait(Allocation(3, 1, 0.0)) == Allocation(3, 1, 0.0)
    assert asked == []


def test_with_fewer_it_starts_when_their_number_no_longer_changes(room):
    room["CPU"] = 2.0
    later = threading.Timer(0.3, room.update, ({"CPU": 3.0},))
    later.start()
    assert wait(Allocation(8, 1, 0.0)) == Allocation(3, 1, 0.0)


def test_room_that_is_missing_is_asked_for_so_that_nodes_are_added(room, asked):
    room["CPU"] = 1.0
    threading.Timer(2.0, room.update, ({"CPU": 3.0},)).start()
    assert wait(Allocation(8, 1, 0.0)) == Allocation(3, 1, 0.0)
    assert asked == ["asked", "released"]


def test_waiting_says_what_is_missing_and_can_be_ended(room, asked, monkeypatch):
    monkeypatch.setattr(elastic, "FIRST_MESSAGE_SECONDS", 0.0)
    room["CPU"] = 1.0
    stop, messages = threading.Event(), []
    threading.Timer(1.7, stop.set).start()
    assert wait(Allocation(4, 2, 1.0), stop=stop, report=messages.append) is None
    assert messages == [
        "waiting for room for 2 workers with 1 GPU and 2 CPUs each: there is room for 0"
    ]  # and again after a minute
    assert asked == ["asked", "released"]


@pytest.mark.parametrize(
    ("given", "sizes", "expected"),
    [
        ({}, [Size(2)] * 3, (8, 1, 0.0)),  # six of them fit
        ({}, [Size(16)] * 2, (8, 4, 0.0)),
        ({"cpus": 3}, [Size(16)] * 2, (8, 3, 0.0)),
        ({}, [Size(16, 4)] * 1, (8, 4, 1.0)),  # as many as there are GPUs, one each
        ({}, [Size(16, 1)] * 1, (8, 8, 0.5)),  # the smallest number shares
        ({"gpus": 0.0}, [Size(16, 1)] * 1, (8, 2, 0.0)),
    ],
)
def test_what_each_worker_of_a_range_gets(given, sizes, expected):
    resources = Resources(num_workers=8, min_workers=2, **given)
    cluster = Cluster(nodes=tuple(Node(size, size) for size in sizes))
    wanted = Wanted(resources=resources.smallest)
    assert share_of_range(resources, wanted, cluster) == Allocation(*expected)


def test_a_range_is_refused_where_its_smallest_number_never_fits():
    resources = Resources(num_workers=8, min_workers=4)
    cluster = Cluster(nodes=(Node(Size(3), Size(3)),))
    with pytest.raises(ClusterError, match="4 workers with 1 CPU each do not fit"):
        share_of_range(resources, Wanted(resources=resources.smallest), cluster)


def test_room_for_more_is_believed_when_it_is_seen_twice(room, monkeypatch):
    monkeypatch.setattr(elastic, "GROWTH_SECONDS", 0.0)
    watch = GrowthWatch(Allocation(4, 1, 0.0))
    room["CPU"] = 1.0
    assert watch.room_for_more(2) == 0
    assert watch.room_for_more(2) == 3
    room["CPU"] = 9.0
    assert watch.room_for_more(2) == 3  # the least of both
    assert watch.room_for_more(2) == 4  # and no more than the largest number
    assert watch.room_for_more(4) == 0


def test_further_workers_are_asked_for_where_nodes_may_be_added(room, asked, monkeypatch):
    monkeypatch.setattr(elastic, "GROWTH_SECONDS", 0.0)
    here = Node(Size(2), Size(0))
    cluster = Cluster(nodes=(here,), types=(NodeType(Size(1), 3),))
    monkeypatch.setattr(elastic, "read_cluster", lambda: cluster)
    watch = GrowthWatch(Allocation(4, 1, 0.0))
    for _ in range(3):
        assert watch.room_for_more(2) == 0
    assert asked == ["asked", "asked"]
    assert watch.room_for_more(4) == 0  # all are there: no more is asked for
    assert asked == ["asked", "asked", "released", "released"]
    asked.clear()
    watch.room_for_more(2)
    room["CPU"] = 2.0
    watch.room_for_more(2)
    assert watch.room_for_more(2) == 4
    assert asked == ["asked", "asked", "released", "released"]


def test_a_node_that_is_gone_but_not_yet_missed_has_no_room(monkeypatch):
    """Ray counts a killed node for half a minute; its port is closed at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            ports = {"here": listening.getsockname()[1], "gone": gone.getsockname()[1]}
        found = [
            {"NodeID": name, "Alive": True, "NodeManagerAddress": "127.0.0.1"}
            | {"NodeManagerPort": port}
            for name, port in ports.items()
        ]
        found.append({**found[0], "NodeID": "draining"})
        monkeypatch.setattr(elastic.ray, "nodes", lambda: found)

        class State:
            def available_resources_per_node(self):
                here = {"CPU": 5.0, SPARE_RESOURCE: 2.0}
                return {"here": here, "gone": {"CPU": 4.0}, "draining": {"CPU": 4.0}}

            def get_draining_nodes(self):
                return {"draining": 0}

        monkeypatch.setattr(elastic.ray._private.state, "state", State())
        assert workers_that_fit(elastic.free_on_nodes(), Allocation(9, 1, 0.0)) == 3
