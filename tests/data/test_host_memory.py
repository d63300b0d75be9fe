"""The memory that a process may take, over made-up trees of control groups."""

import pytest

from raydrgn.data.host_memory import free_host_memory

GB = 10**9
MACHINE = 64 * GB
V2_JOB = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"
V1_JOB = "sys/fs/cgroup/memory/slurm/uid_1000/job_7"
V2_LINE = "0::/system.slice/slurmstepd.scope/job_7/step_0/user\n"
V1_LINES = "11:cpuset:/slurm\n9:cpu,memory:/slurm/uid_1000/job_7/step_0\n0::/\n"


def tree(root, cgroup, groups):
    """Write what a kernel shows; a group is given as its folder and the files in it."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {MACHINE // 1024} kB\n")
    if cgroup is not None:
        (root / "proc/self/cgroup").write_text(cgroup)
    for folder, files in groups.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (root / folder / name).write_text(f"{value}\n")
    return root


def v2(limit, used, cached=0):
    stat = f"anon 1\ninactive_file {cached}"
    return {"memory.max": limit, "memory.current": used, "memory.stat": stat}


def v1(limit, used, cached=0):
    return {
        "memory.limit_in_bytes": limit,
        "memory.usage_in_bytes": used,
        "memory.stat": f"inactive_file 1\ntotal_inactive_file {cached}",
    }


@pytest.mark.parametrize(
    ("cgroup", "groups", "free"),
    [
        (None, {}, MACHINE),
        (V2_LINE, {}, MACHINE),
        ("0::/\n", {"sys/fs/cgroup": v2(8 * GB, 3 * GB, GB)}, 6 * GB),
        (None, {"sys/fs/cgroup": v2(8 * GB, 3 * GB)}, 5 * GB),
        (V2_LINE, {V2_JOB: v2(8 * GB, 2 * GB), f"{V2_JOB}/step_0": v2("max", GB)}, 6 * GB),
        (V2_LINE, {V2_JOB: v2(8 * GB, 7 * GB), f"{V2_JOB}/step_0": v2(4 * GB, GB)}, GB),
        (V2_LINE, {V2_JOB: v2(100 * GB, 0)}, MACHINE),
        (V2_LINE, {V2_JOB: v2(GB, 2 * GB)}, 0),
        (V1_LINES, {V1_JOB: v1(8 * GB, 3 * GB, GB)}, 6 * GB),
        (V1_LINES, {V1_JOB: v1(2**63 - 4096, 3 * GB)}, MACHINE),
        ("4:memory:/docker/0a1b\n", {"sys/fs/cgroup/memory": v1(8 * GB, 3 * GB)}, 5 * GB),
        ("0::/../../other\n", {"sys/fs/cgroup": v2(8 * GB, 3 * GB)}, 5 * GB),
    ],
)
def test_the_smallest_limit_on_the_way_to_the_root_counts(cgroup, groups, free, tmp_path):
    found = free_host_memory(tree(tmp_path, cgroup, groups))
    assert found == pytest.approx(free, abs=1024)


def test_the_memory_of_this_machine_is_known():
    assert 0 < free_host_memory() < 1 << 50
