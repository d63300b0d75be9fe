"""What the nodes of the connected cluster answer when each of them is asked."""

import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import raydrgn
from raydrgn.errors import ClusterError
from raydrgn.remote.session import SPARE_RESOURCE

log = logging.getLogger(__name__)

GpuProblem = Callable[[], str | None]
"""Returns why this process cannot use the GPUs of its node, for work that wants them."""

CONNECTION_SECONDS = 2.0
"""Time in which a node must accept a connection."""

ANSWER_SECONDS = 60.0
"""Time that all nodes together have for their answers: each starts a process for its own."""

TASK_NAME = "check of the node"
"""Of a question, on the dashboard and in the titles of processes."""

RayNode = Mapping[str, Any]
"""A node as ``ray.nodes`` describes it."""


def reachable(nodes: Sequence[RayNode]) -> list[RayNode]:
    """Return the nodes that accept a connection; Ray finds out late that a machine is gone."""
    with ThreadPoolExecutor(max_workers=32) as threads:
        return [
            node
            for node, accepts in zip(nodes, threads.map(_accepts_connection, nodes), strict=True)
            if accepts
        ]


def ask_nodes(question: Callable[[], Any], nodes: Sequence[RayNode]) -> list[tuple[RayNode, Any]]:
    """Call a function on each node; return the answers of those that give one in time.

    A node that is lost, or too busy to start a process, is left out.

    Raises:
        RayTaskError: If the function itself raises.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task: Any = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = []
    for node in reachable(nodes):
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append((node, task.options(name=TASK_NAME, scheduling_strategy=place).remote()))
    end, answers = time.monotonic() + ANSWER_SECONDS, []
    for node, ref in asked:
        try:
            answer = ray.get(ref, timeout=max(end - time.monotonic(), 0.0))
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            log.debug("node %s gives no answer: %s", node["NodeManagerHostname"], error)
        else:
            answers.append((node, answer))
    return answers


def check_gpus(gpu_problem: GpuProblem | None) -> None:
    """Ask each node with GPUs whether the work can use them.

    Raises:
        ClusterError: If it cannot, or none of them answers.
    """
    import ray

    if gpu_problem is None:
        return
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    answers = ask_nodes(gpu_problem, nodes)
    if nodes and not answers:
        names = ", ".join(node["NodeManagerHostname"] for node in nodes)
        raise ClusterError(
            f"No node with GPUs has answered within {ANSWER_SECONDS:.0f} s, of {names}. Look "
            "whether they run (ray status)."
        )
    problem = first_problem([answer for _, answer in answers])
    if problem is not None:
        raise ClusterError(problem)


def check_versions() -> None:
    """Ask each node that may have workers which raydrgn it has, unless it has been asked before.

    A Ray that a command has started runs what the command runs, and a job brings its own raydrgn.

    Raises:
        ClusterError: If a node has another one than this process, or none.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"] and _has_workers(node)]
    if any(node["Resources"].get(SPARE_RESOURCE) for node in nodes):
        return
    unknown = [node for node in nodes if node["NodeID"] not in _SAME_VERSION]
    own = raydrgn.__version__
    answers = ask_nodes(  # shipped as code: a name of this package may not be there
        lambda: import_module("raydrgn").__version__ if find_spec("raydrgn") else None, unknown
    )
    for node, version in answers:
        if version != own:
            found = f"has raydrgn {version}" if version else "has no raydrgn"
            raise ClusterError(
                f"Node {node['NodeManagerHostname']} of the cluster {found}, and this command is "
                f"of raydrgn {own}. Install raydrgn {own} on every node, or let a job bring it: "
                "raydrgn submit."
            )
        _SAME_VERSION.add(node["NodeID"])


_SAME_VERSION: set[str] = set()
"""Ids of nodes that have the raydrgn of this process."""


def _has_workers(node: RayNode) -> bool:
    return bool(node["Resources"].get("CPU") or node["Resources"].get("GPU"))


def first_problem(answers: Sequence[str | None]) -> str | None:
    """Return why GPUs cannot be used, from the answers of all nodes that have some.

    A worker may come to any of them, so that one is enough; the others can go on without it.
    """
    problems = [answer for answer in answers if answer]
    if not problems:
        return None
    if len(problems) == len(answers):
        return problems[0]
    return (
        f"{problems[0]} To use only the GPUs of the other nodes, start Ray on this one with "
        "`ray start --num-gpus 0`."
    )


def _accepts_connection(node: RayNode) -> bool:
    address = (node["NodeManagerAddress"], node["NodeManagerPort"])
    try:
        socket.create_connection(address, timeout=CONNECTION_SECONDS).close()
    except OSError:
        return False
    return True
