"""What the autoscaler of a cluster may add to it.

Ray does not send its clients. The configuration is read where the autoscaler reads it: from the
file that the monitor on the head was started with (``ray up``, ``ray start
--autoscaling-config``), or from the RayCluster of KubeRay, by Ray's own client and with the rights
that the operator gives the head's pod. An autoscaler whose configuration cannot be read is known
to be there, and what it may add is not.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydrgn.remote.allocation import NodeType, Size

OPTION = "--autoscaling-config="
NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """The nodes that an autoscaler may run at a time, the head aside."""

    kinds: Mapping[str, NodeType] = field(default_factory=dict)
    """Each type by its name, with the most nodes of it."""

    most_nodes: int | None = None
    """Most nodes in all, if there is such a bound."""

    is_known: bool = True

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "Autoscaler":
        """Return what a configuration of Ray's autoscaler allows."""
        head, kinds = config.get("head_node_type"), {}
        for name, written in (config.get("available_node_types") or {}).items():
            kind = written or {}
            if name == head and not kind.get("max_workers"):
                continue
            if not kind.get("resources"):  # found out from the provider, by Ray alone
                return cls(is_known=False)
            most = kind.get("max_workers", config.get("max_workers", 0))
            kinds[name] = NodeType(_size(kind["resources"]), most)
        return cls(kinds, config.get("max_workers"))

    def addable(
        self, workers: Iterable[tuple[str, Size]]
    ) -> tuple[tuple[NodeType, ...], int | None]:
        """Return the types of which more may be added, and how many nodes in all.

        Args:
            workers: Type, if known, and size of each node that is up, without the head.
        """
        there = list(workers)
        left = {name: kind.count for name, kind in self.kinds.items()}
        for name, size in there:
            alike = (other for other, kind in self.kinds.items() if kind.size == size)
            known = name if name in left else next(alike, None)
            if known is not None:
                left[known] -= 1
        types = [NodeType(kind.size, left[name]) for name, kind in self.kinds.items()]
        most = None if self.most_nodes is None else max(self.most_nodes - len(there), 0)
        return tuple(kind for kind in types if kind.count > 0), most


def find_autoscaler(gcs_address: str, has_reported: bool) -> Autoscaler | None:
    """Return the autoscaler of a cluster, on its head; None if there is none.

    Args:
        gcs_address: Address by which the processes of the cluster know each other.
        has_reported: Whether a process that may be an autoscaler has reported to the cluster.
    """
    import yaml

    words = _monitor_command(gcs_address)
    if words is None:  # KubeRay runs it in a container beside that of the head
        return _kuberay_autoscaler() if has_reported else None
    files = [word.removeprefix(OPTION) for word in words if word.startswith(OPTION)]
    if not files:
        return None
    try:
        config = yaml.safe_load(Path(files[0]).expanduser().read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return Autoscaler(is_known=False)
    return Autoscaler.of_config(config) if config else Autoscaler(is_known=False)


def _monitor_command(gcs_address: str) -> list[str] | None:
    """Return the command line of the monitor of a cluster, if it runs on this machine."""
    import psutil  # type: ignore[import-untyped]  # Ray brings it along

    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or []
        is_monitor = any(word.endswith(f"{os.sep}monitor.py") for word in words)
        if is_monitor and f"--gcs-address={gcs_address}" in words:
            return words
    return None


def _kuberay_autoscaler() -> Autoscaler:
    """Return what the RayCluster of this pod allows."""
    from ray.autoscaler._private.kuberay import autoscaling_config, node_provider

    try:
        namespace = Path(NAMESPACE_FILE).read_text(encoding="utf-8").strip()
        client = node_provider.KubernetesHttpApiClient(namespace=namespace)
        cluster = client.get(f"rayclusters/{os.environ['RAY_CLUSTER_NAME']}")
    except (OSError, KeyError):  # of requests too: its errors are OSErrors
        return Autoscaler(is_known=False)
    return Autoscaler.of_config(autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster))


def _size(resources: Mapping[str, float]) -> Size:
    return Size(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))
