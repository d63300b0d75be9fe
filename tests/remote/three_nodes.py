"""A cluster of one machine: a head without CPUs and three nodes of two. Its address is printed."""

import sys

from ray.cluster_utils import Cluster

STORE_BYTES = 80 * 2**20

if __name__ == "__main__":
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(3):
        cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
    cluster.wait_for_nodes()
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()
