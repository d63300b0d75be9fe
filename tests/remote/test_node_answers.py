"""What nodes answer; those that are lost, or do not answer in time, are left out."""

import subprocess
import sys

import pytest
import ray
from ray import cloudpickle

import raydrgn
from raydrgn.errors import ClusterError
from raydrgn.remote import node_answers
from raydrgn.remote.node_answers import check_gpus, check_versions

LOST = "ab" * 28


def nodes_with_gpus():
    """Return the node of the session as if it had a GPU, and one that Ray has just lost."""
    [node] = ray._private.state.state.node_table()
    here = {**node, "Resources": {"GPU": 1.0}}
    return here, {**here, "NodeID": LOST, "NodeManagerHostname": "node-7"}


def no_problem():
    return None


def too_old():
    return "The driver is too old."


@pytest.mark.ray
def test_a_node_that_is_lost_says_nothing_about_the_gpus_of_others(ray_session, monkeypatch):
    here, lost = nodes_with_gpus()
    cut_off = {**lost, "NodeManagerPort": 1}
    monkeypatch.setattr(ray, "nodes", lambda: [lost, cut_off, here])
    check_gpus(no_problem)
    with pytest.raises(ClusterError, match=r"^The driver is too old\.$"):  # of all that answer
        check_gpus(too_old)


@pytest.mark.ray
def test_gpus_of_which_no_node_answers_are_refused_in_a_sentence(ray_session, monkeypatch):
    here, lost = nodes_with_gpus()
    monkeypatch.setattr(ray, "nodes", lambda: [lost])
    with pytest.raises(ClusterError, match=r"No node with GPUs has answered .*, of node-7\. Look"):
        check_gpus(no_problem)
    monkeypatch.setattr(ray, "nodes", lambda: [here])
    monkeypatch.setattr(node_answers, "ANSWER_SECONDS", 0.0)
    with pytest.raises(ClusterError, match="No node with GPUs has answered within 0 s"):
        check_gpus(no_problem)


@pytest.mark.ray
def test_a_defect_of_the_question_is_no_silence(ray_session, monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: [nodes_with_gpus()[0]])
    with pytest.raises(ZeroDivisionError):
        check_gpus(lambda: str(1 / 0))


@pytest.mark.ray
def test_a_node_with_another_raydrgn_is_named_before_work_begins(ray_session, monkeypatch):
    monkeypatch.setattr(node_answers, "_SAME_VERSION", set())
    check_versions()
    monkeypatch.setattr(raydrgn, "__version__", "9.9")
    check_versions()  # nobody is asked twice
    node_answers._SAME_VERSION.clear()
    [node] = ray.nodes()
    with pytest.raises(ClusterError) as caught:
        check_versions()
    name = node["NodeManagerHostname"]
    assert str(caught.value).startswith(f"Node {name} of the cluster has raydrgn 0.")
    assert "this command is of raydrgn 9.9. Install raydrgn 9.9 on every node" in str(caught.value)
    monkeypatch.setattr(node_answers, "ask_nodes", lambda question, nodes: [(node, None)])
    with pytest.raises(ClusterError, match=f"^Node {name} of the cluster has no raydrgn, and"):
        check_versions()


ABSENT = """
import pickle, sys
sys.modules["raydrgn"] = None  # as where it is not installed
print(pickle.loads(sys.stdin.buffer.read())())
"""


def test_a_node_without_raydrgn_can_be_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setattr(
        node_answers, "ask_nodes", lambda question, nodes: asked.append(question) or []
    )
    check_versions()
    shipped = cloudpickle.dumps(asked[0])
    answer = subprocess.run([sys.executable, "-c", ABSENT], input=shipped, capture_output=True)
    assert answer.stdout == b"None\n", answer.stderr
