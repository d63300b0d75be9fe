"""Room on real clusters of several nodes: waited for, given whole or not at all, never in silence.

Each cluster runs once for the module; what uses it are processes of their own, as commands are.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

from raydrgn.remote import node_answers, reservation
from raydrgn.remote.allocation import NodeType, Size
from raydrgn.remote.autoscaler import Autoscaler

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

PRELUDE = """
import logging, os, sys, threading, time
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
logging.getLogger("ray").setLevel("ERROR")
import ray
from raydrgn.errors import ClusterError
from raydrgn.remote import reservation
from raydrgn.remote.allocation import Wanted
from raydrgn.remote.executor import Executor
from raydrgn.remote.resources import Resources
reservation.RELEASE_SECONDS = 0.2

def work(held, batch):
    time.sleep(0.2)
    return os.getpid()
"""


def start(code, *words):
    """Start a process that runs some code after ``PRELUDE``."""
    environment = {**os.environ, "RAY_ADDRESS": "", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, words)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def output(process):
    """Return what a process has printed, once it has ended well."""
    text, _ = process.communicate(timeout=280)
    assert process.returncode == 0, text
    return text


def running(script):
    """Yield the address of a cluster that a script runs until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        address = process.stdout.readline().strip()
        assert address, f"{script} has ended"
        yield address
    finally:
        process.communicate("", timeout=60)


@pytest.fixture(scope="module")
def three_nodes():
    yield from running("three_nodes.py")


@pytest.fixture(scope="module")
def autoscaling():
    yield from running("autoscaling.py")


POOL = """
with Executor(address=sys.argv[1], workers=3, cpus_per_worker=2) as executor:
    with executor.pool(lambda cpus: cpus) as pool:
        found = [outcome.value for outcome in pool.run(work, range(12))]
print("done", len(found), len(set(found)))
"""


@pytest.mark.ray
@pytest.mark.clusters
def test_two_pools_that_each_want_every_cpu_do_not_block_each_other(three_nodes):
    texts = [output(process) for process in [start(POOL, three_nodes), start(POOL, three_nodes)]]
    assert [text.splitlines()[-1] for text in texts] == ["done 12 3", "done 12 3"]


@pytest.mark.ray
@pytest.mark.clusters
def test_room_is_found_on_nodes_waited_for_in_words_and_given_up_in_time(three_nodes):
    text = output(start(ROOM, three_nodes))
    assert text.splitlines() == [
        "2 workers of 2 CPUs",
        "A worker with 3 CPUs does not fit on any node of the cluster (3 nodes with 2 CPUs). Use "
        "--cpus-per-worker 2 or fewer.",
        "waiting for room for 3 workers with 2 CPUs each: there is room for 2 until other work "
        "ends",
        "Nothing was begun: room for 3 workers with 2 CPUs each: there is room for 2 until other "
        "work ends, after 2 seconds of waiting (--wait).",
        "waiting for room for 3 workers with 2 CPUs each: there is room for 2 until other work "
        "ends",
        "3 workers of 2 CPUs",
        "tasks: [0, 1, 2]",
    ]


ROOM = """
def ask(wait_seconds=None, **asked):
    try:
        found = reservation.reserve(
            Wanted(resources=Resources(**asked)), wait_seconds=wait_seconds
        )
    except ClusterError as error:
        print(error, flush=True)
    else:
        given = found.allocation
        print(given.num_workers, "workers of", given.worker, flush=True)
        found.release()

with Executor(address=sys.argv[1]) as executor, executor.connected():
    ask(num_workers=2)
    ask(num_workers=2, cpus=3)
    others = ray.util.placement_group([{"CPU": 1}])
    ray.get(others.ready())
    while reservation.read_cluster().is_idle:
        time.sleep(0.1)
    ask(num_workers=3, cpus=2, wait_seconds=2)
    threading.Timer(4, ray.util.remove_placement_group, [others]).start()
    ask(num_workers=3, cpus=2)
    done = sorted(outcome.value for outcome in executor.map(lambda item: item, range(3)))
    print("tasks:", done)
"""


@pytest.mark.ray
@pytest.mark.clusters
def test_a_cluster_at_rest_is_scaled_and_refuses_what_its_autoscaler_can_never_add(autoscaling):
    *words, last = output(start(SCALE, autoscaling)).splitlines()
    assert words == [
        "4 workers with 2 CPUs each do not fit on the cluster (no node with CPUs; the autoscaler "
        "may add 3 nodes with 2 CPUs): there is room for 3. Use --workers 3 or fewer, or give each "
        "fewer CPUs with --cpus-per-worker.",
        "waiting for 2 nodes with 2 CPUs: none is there",
    ]
    assert last == "done 6 2"


SCALE = """
with Executor(address=sys.argv[1], workers=4, cpus_per_worker=2) as executor:
    try:
        executor.pool(lambda cpus: cpus)
    except ClusterError as error:
        print(error, flush=True)
with Executor(address=sys.argv[1], workers=2) as executor:
    with executor.pool(lambda cpus: cpus) as pool:
        found = [outcome.value for outcome in pool.run(work, range(6))]
print("done", len(found), len(set(found)))
"""


@pytest.mark.ray
@pytest.mark.clusters
def test_the_autoscaler_is_asked_for_the_further_workers_of_a_range(autoscaling):
    assert output(start(GROW, autoscaling)).splitlines()[-1] == "room for 3 of 8"


GROW = """
from raydrgn.remote.allocation import Allocation
from raydrgn.training import elastic
elastic.GROWTH_SECONDS = 1.0
with Executor(address=sys.argv[1]) as executor, executor.connected():
    training = reservation.ask_for_room(Allocation(2, 2, 0.0))
    training.group.wait(60)
    watch = elastic.GrowthWatch(Allocation(8, 2, 0.0))
    while not (room := watch.room_for_more(2)):
        time.sleep(0.2)
    watch.close()
    print("room for", room, "of 8")
"""


@pytest.mark.ray
@pytest.mark.clusters
@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPUs of this machine")
def test_gpus_that_torch_cannot_use_are_refused_in_a_sentence():
    text = output(start(LOGICAL_GPU)).splitlines()[-1]
    assert re.fullmatch(
        r"Ray counts GPUs on \S+, but there torch \S+ (is built without CUDA|finds none it can "
        r"use \(.*\))\. "
        r"Install a torch for these GPUs, or compute on CPUs with --gpus-per-worker 0\.",
        text,
    )


def test_one_node_whose_gpus_cannot_be_used_is_named_with_the_way_to_go_on_without_it():
    assert node_answers.first_problem([None, None]) is None
    assert node_answers.first_problem(["The driver is too old."]) == "The driver is too old."
    assert node_answers.first_problem([None, "The driver is too old.", "No."]) == (
        "The driver is too old. To use only the GPUs of the other nodes, start Ray on this one "
        "with `ray start --num-gpus 0`."
    )


LOGICAL_GPU = """
from raydrgn.model.device import gpu_problem
ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False)
with Executor(workers=2) as executor:
    try:
        executor.pool(lambda cpus: cpus, gpu_problem=gpu_problem)
    except ClusterError as error:
        print(error)
"""


@pytest.mark.ray
@pytest.mark.clusters
def test_much_work_has_a_worker_on_each_gpu_of_a_machine_and_little_work_none():
    *_, many, few = output(start(TWO_GPUS)).splitlines()
    assert many == "[('0',), ('1',)]"
    assert few == "in this process"


TWO_GPUS = """
from raydrgn.remote import executor
from raydrgn.remote.allocation import Cluster, Node, Size

two = Node(Size(2, 2), Size(2, 2))
executor.this_machine = lambda: Cluster(nodes=(two,), is_this_machine=True)
os.environ["RAY_OVERRIDE_RESOURCES"] = '{"GPU": 2}'

def gpus(held, batch):
    time.sleep(0.1)
    return tuple(map(str, ray.get_gpu_ids()))

with Executor() as found:
    with found.pool(lambda cpus: cpus, gpu_problem=lambda: None, batches=60) as pool:
        print(sorted({outcome.value for outcome in pool.run(gpus, range(60))}))
    with found.pool(lambda cpus: cpus, gpu_problem=lambda: None, batches=3) as pool:
        pids = {outcome.value for outcome in pool.run(work, range(3))}
        print("in this process" if pids == {os.getpid()} else "elsewhere")
"""


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [(None, 8), ("", 0), ("1,3", 2), ("0,1,2,3,4,5,6,7,8", 8), ("-1", 0), ("2,-1,3", 1)],
)
def test_gpus_that_are_hidden_from_a_command_do_not_count(monkeypatch, visible, gpus):
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    monkeypatch.setattr(
        NvidiaGPUAcceleratorManager, "get_current_node_num_accelerators", staticmethod(lambda: 8)
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    [node] = reservation.this_machine().nodes
    assert node.total.gpus == gpus


# --- what an autoscaler may add -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_the_shipped_clusters_may_add_what_their_files_have(name):
    config = yaml.safe_load((ROOT / "cluster" / f"{name}.yaml").read_text())
    types, most = Autoscaler.of_config(config).addable([])
    assert types == (NodeType(Size(16, 1), 4),)
    assert most == 4
    types, most = Autoscaler.of_config(config).addable([("gpu", Size(16, 1)), ("", Size(16, 1))])
    assert types == (NodeType(Size(16, 1), 2),)
    assert most == 2


def test_the_shipped_kubernetes_cluster_may_add_what_its_file_has(tmp_path, monkeypatch):
    from ray.autoscaler._private.kuberay import node_provider

    from raydrgn.remote import autoscaler

    cluster = yaml.safe_load((ROOT / "cluster" / "kuberay" / "raycluster.yaml").read_text())
    cluster["metadata"]["namespace"] = "default"

    class Kubernetes:
        def __init__(self, namespace):
            assert namespace == "default"

        def get(self, path):
            assert path == "rayclusters/raydrgn"
            return cluster

    (tmp_path / "namespace").write_text("default\n")
    monkeypatch.setattr(autoscaler, "NAMESPACE_FILE", str(tmp_path / "namespace"))
    monkeypatch.setattr(node_provider, "KubernetesHttpApiClient", Kubernetes)
    monkeypatch.delenv("RAY_CLUSTER_NAME", raising=False)
    assert not autoscaler.find_autoscaler("nowhere:1", has_reported=True).is_known
    monkeypatch.setenv("RAY_CLUSTER_NAME", "raydrgn")
    found = autoscaler.find_autoscaler("nowhere:1", has_reported=True)
    assert found.addable([]) == ((NodeType(Size(8, 1), 4),), 4)
    assert autoscaler.find_autoscaler("nowhere:1", has_reported=False) is None


@pytest.mark.parametrize(
    ("types", "is_known"),
    [
        ({"head": {}, "gpu": {}}, False),
        ({"head": {"max_workers": 2}}, False),
        ({"head": None, "gpu": None}, False),
        ({"head": {}}, True),
        (None, True),
    ],
)
def test_types_whose_resources_are_not_written_down_are_not_known(types, is_known):
    config = {"head_node_type": "head", "available_node_types": types}
    assert Autoscaler.of_config(config).is_known is is_known


def test_of_an_empty_file_nothing_is_known(tmp_path, monkeypatch):
    from raydrgn.remote import autoscaler

    (tmp_path / "cluster.yaml").write_text("")
    words = [f"{autoscaler.OPTION}{tmp_path}/cluster.yaml"]
    monkeypatch.setattr(autoscaler, "_monitor_command", lambda _: words)
    assert not autoscaler.find_autoscaler("nowhere:1", has_reported=True).is_known
