"""How many workers there is room for on the nodes of a cluster."""

import logging
import socket
import threading

import pytest

from raydrgn.remote.session import SPARE_RESOURCE, Allocation
from raydrgn.training import elastic
from raydrgn.training.elastic import GrowthWatch, wait_for_room, workers_that_fit


def nodes(*free):
    return [{"CPU": cpus, "GPU": gpus} for cpus, gpus in free]


@pytest.mark.parametrize(
    ("free", "cpus", "gpus", "expected"),
    [
        (nodes((2, 0), (2, 0), (2, 0)), 1, 0.0, 6),
        (nodes((2, 0), (2, 0), (2, 0)), 3, 0.0, 0),  # six CPUs, but no node has three
        (nodes((3, 0), (3, 0)), 2, 0.0, 2),
        (nodes((64, 8), (64, 2)), 8, 1.0, 10),  # as many as there are GPUs
        (nodes((64, 1)), 1, 0.1, 10),  # ten share one
        (nodes((0.5, 0), (-1, 0), (1, 0)), 1, 0.0, 1),  # of the spare CPUs, one is in use
        ([{"GPU": 1.0}], 1, 1.0, 0),
        ([], 1, 0.0, 0),
    ],
)
def test_workers_are_counted_by_nodes(free, cpus, gpus, expected):
    assert workers_that_fit(free, Allocation(9, cpus, gpus)) == expected


@pytest.fixture
def room(monkeypatch):
    """Free CPUs of the only node; a test changes them."""
    free = {"CPU": 0.0}
    monkeypatch.setattr(elastic, "free_on_nodes", lambda: [free])
    monkeypatch.setattr(elastic, "SETTLE_SECONDS", 0.6)
    return free


def test_training_starts_at_once_with_the_largest_number(room):
    room["CPU"] = 4.0
    found = wait_for_room(Allocation(3, 1, 0.0), fewest=2, is_stopping=threading.Event())
    assert found == Allocation(3, 1, 0.0)


def test_with_fewer_it_starts_when_their_number_no_longer_changes(room):
    room["CPU"] = 2.0
    later = threading.Timer(0.3, room.update, ({"CPU": 3.0},))
    later.start()
    found = wait_for_room(Allocation(8, 1, 0.0), fewest=2, is_stopping=threading.Event())
    assert found == Allocation(3, 1, 0.0)


def test_waiting_says_what_is_missing_and_can_be_ended(room, monkeypatch, caplog):
    monkeypatch.setattr(elastic, "WAITING_MESSAGE_SECONDS", 0.0)
    room["CPU"] = 1.0
    stop = threading.Event()
    threading.Timer(0.7, stop.set).start()
    with caplog.at_level(logging.WARNING):
        assert wait_for_room(Allocation(4, 2, 1.0), fewest=2, is_stopping=stop) is None
    assert "room for 2 workers with 2 CPUs and 1 GPU: there is room for 0" in caplog.text


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
