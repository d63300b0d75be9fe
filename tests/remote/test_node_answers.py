"""What nodes answer; those that are lost, or do not answer in time, are left out."""

import pytest
import ray

from raydrgn.errors import ClusterError
from raydrgn.remote import node_answers
from raydrgn.remote.node_answers import check_gpus

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
