"""A cluster of one machine that scales from nothing, by Ray's fake provider.

``ray.cluster_utils.AutoscalingCluster`` would end every Ray of the machine, and lacks its file in
Ray's wheels. Its address is printed.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray.autoscaler._private.monitor import BASE_READONLY_CONFIG
from ray.util import get_node_ip_address

CONFIG = {
    **BASE_READONLY_CONFIG,  # every field that the autoscaler wants
    "cluster_name": "fake",
    "max_workers": 3,
    "idle_timeout_minutes": 5,
    "upscaling_speed": 100.0,
    "auth": {},
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 3},
    },
}
HEAD_ID = "f" * 51 + "00000"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main() -> None:
    """Run the cluster until standard input is closed."""
    folder, port = tempfile.mkdtemp(prefix="ray-"), free_port()
    address = f"{get_node_ip_address()}:{port}"
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": address,
        "head_node_id": HEAD_ID,
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    config = Path(folder, "cluster.yaml")
    config.write_text(json.dumps({**CONFIG, "provider": provider}))
    environment = {
        **os.environ,
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1",  # as `ray up` starts it
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_NODE_TYPE_NAME": "ray.head.default",
    }
    ray_command = [sys.executable, "-m", "ray.scripts.scripts"]
    command = [
        *(*ray_command, "start", "--head", "--block"),
        *("--num-cpus", "0", "--port", str(port)),
        *("--include-dashboard", "false", "--disable-usage-stats", "--temp-dir", folder),
        *("--object-store-memory", "80000000", f"--autoscaling-config={config}"),
    ]
    head = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    check = [*ray_command, "health-check", "--address", address]
    while head.poll() is None and subprocess.run(check, stderr=subprocess.DEVNULL).returncode:
        time.sleep(0.5)
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    head.send_signal(signal.SIGTERM)
    import psutil  # Ray brings it along

    for process in psutil.process_iter(["cmdline"]):  # nodes that the provider has started
        if any(folder in word or address in word for word in process.info["cmdline"] or []):
            process.kill()
    head.wait(30)


if __name__ == "__main__":
    main()
