"""A Slurm cluster of several nodes on this machine, for tests of ``cluster/slurm``.

slurmctld, munged and a slurmd for each node run in process, network and mount namespaces of their
own: every node has its own address and its own /srv, in the place of a disk of the node. Nothing of
the machine is changed, and when the first process of the namespaces ends, all the others end, and
networks and mounts go with them.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "unshare", "nsenter", "ip", "ss")

NODE_DISK = "/srv"
"""A folder of which each node has its own."""

SLURM_CONF = """
ClusterName=raydrgn
SlurmctldHost=controller(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=/run/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
MinJobAge=3600
SchedulerParameters=sched_interval=1,batch_sched_delay=1
NodeName={first} NodeAddr=10.77.0.11 CPUs={cpus} RealMemory=8000 State=UNKNOWN
NodeName={second} NodeAddr=10.77.0.12 CPUs={cpus} RealMemory=8000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

CGROUP_CONF = """
CgroupPlugin=cgroup/v1
CgroupMountpoint=/run/cgroup
"""

NODES = ("n1", "n2")

OUTERMOST = (
    *("unshare", "--mount", "--net", "--uts", "--pid", "--mount-proc"),
    *("--fork", "--kill-child"),
)

START_SECONDS = 60

SET_UP = """
set -euo pipefail
folder=$1
shift
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/munge /run/cgroup
hostname controller
ip link set lo up
ip link add bridge type bridge
ip addr add 10.77.0.1/24 dev bridge
ip link set bridge up
munged --foreground --force --key-file="$folder/munge.key" --socket=/run/munge/socket \\
    --pid-file=/run/munge/pid --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" &
slurmctld -D -f "$folder/slurm.conf" &
host=11
for node in "$@"; do
    ip netns add "$node"
    ip link add "$node" type veth peer name eth0 netns "$node"
    ip link set "$node" master bridge up
    ip -n "$node" link set lo up
    ip -n "$node" addr add "10.77.0.$host/24" dev eth0
    ip -n "$node" link set eth0 up
    nsenter --net="/run/netns/$node" unshare --mount --uts bash -c \\
        'hostname "$1"; mount -t tmpfs tmpfs "$2"; mount --bind "$4" /etc/hosts
        exec slurmd -D -N "$1" -f "$3"' \\
        node "$node" {disk} "$folder/slurm.conf" "$folder/hosts-$node" &
    host=$((host + 1))
done
cat > /dev/null
"""


def reason_against() -> str | None:
    """Return why no Slurm cluster can be made here, or None."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        return f"needs the programs {', '.join(lacking)} (slurm-wlm, munge, iproute2)"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "bridge", "type", "bridge"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no network namespaces: {tried.stderr.strip()}" if tried.returncode else None


class SlurmCluster:
    """A running cluster; commands are run beside its controller."""

    def __init__(self, process: int, config: Path) -> None:
        self._enter = ["nsenter", f"--target={process}", "--mount", "--net", "--pid", "--uts"]
        self._environment = {**os.environ, "SLURM_CONF": str(config)}

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> str:
        """Run a command in the namespaces; return what it prints.

        Raises:
            RuntimeError: If it fails, with what it has printed.
        """
        done = subprocess.run(
            [*self._enter, f"--wd={cwd or Path.cwd()}", "--", *command],
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def submit(self, *arguments: str, cwd: Path, **environment: str) -> int:
        """Submit a batch script; return the number of its job."""
        printed = self.run("sbatch", "--parsable", *arguments, cwd=cwd, **environment)
        return int(printed.strip())

    def job(self, number: int) -> dict[str, str]:
        """Return what Slurm knows of a job."""
        fields = self.run("scontrol", "--oneliner", "show", "job", str(number)).split()
        return dict(field.split("=", 1) for field in fields if "=" in field)

    def state(self, number: int) -> str:
        """Return the state of a job."""
        return self.job(number)["JobState"]

    def processes(self, word: str) -> list[str]:
        """Return the command lines of the cluster's processes that contain a word."""
        lines = self.run("ps", "-e", "-ww", "-o", "args=").splitlines()
        return [line for line in lines if word in line]


@contextmanager
def slurm_cluster(folder: Path, *, cpus: int) -> Iterator[SlurmCluster]:
    """Make a cluster of two nodes with some logical CPUs each; end it and all it ran afterwards.

    Raises:
        RuntimeError: If the nodes do not come up, with the logs of the daemons.
    """
    config, key = folder / "slurm.conf", folder / "munge.key"
    (folder / "state").mkdir(parents=True)
    first, second = NODES
    for node in NODES:  # as Debian does it: a node's own name is not its address
        (folder / f"hosts-{node}").write_text(f"127.0.0.1 localhost\n127.0.1.1 {node}\n")
    (folder / "cgroup.conf").write_text(CGROUP_CONF)
    config.write_text(SLURM_CONF.format(folder=folder, first=first, second=second, cpus=cpus))
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    script = SET_UP.replace("{disk}", NODE_DISK)
    with (folder / "daemons.log").open("w") as log:
        outermost = subprocess.Popen(
            [*OUTERMOST, "bash", "-c", script, "slurm", str(folder), *NODES],
            stdin=subprocess.PIPE,  # closed when this process ends, however it does
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        inside = _child_of(outermost.pid)
        cluster = SlurmCluster(inside, config)
        _wait_for_nodes(cluster, outermost, folder)
        yield cluster
    finally:
        outermost.kill()
        outermost.communicate()


def _child_of(process: int) -> int:
    children = Path(f"/proc/{process}/task/{process}/children")
    for _ in range(100):
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.1)
    raise RuntimeError("unshare has started nothing")


def _wait_for_nodes(
    cluster: SlurmCluster, process: "subprocess.Popen[bytes]", folder: Path
) -> None:
    printed, end = "", time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            printed = cluster.run("sinfo", "--noheader", "--Node", "--format=%N %T")
        except RuntimeError as error:
            printed = str(error)
        if printed.split() == [word for node in NODES for word in (node, "idle")]:
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))
    raise RuntimeError(f"The Slurm nodes did not come up: {printed}\n{logs}")
