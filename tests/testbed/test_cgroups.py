"""Control groups on a fixture tree of each version: the paths and texts are the kernel's."""

from pathlib import Path

import pytest

from testbed import FleetError, cgroups

V1 = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")


def mount_table(folder: Path, *lines: str) -> Path:
    table = folder / "mounts"
    table.write_text("".join(f"{line}\n" for line in ("proc /proc proc rw 0 0", *lines)))
    return table


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    """A machine with v1 controllers and an empty v2 tree."""
    for controller in (*V1, "unified"):
        (tmp_path / controller).mkdir()
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")
    lines = [f"cgroup {tmp_path}/{controller} cgroup rw,relatime,{controller} 0 0" for controller in V1]
    mount_table(tmp_path, *lines, f"cgroup2 {tmp_path}/unified cgroup2 rw,relatime 0 0")
    return tmp_path


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """A machine with v2 alone."""
    (tmp_path / "cgroup.subtree_control").write_text("")
    mount_table(tmp_path, f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0")
    return tmp_path


def test_hybrid_machine_counts_as_v1(hybrid: Path) -> None:
    groups = cgroups.detect(hybrid / "mounts")

    assert cgroups.is_v1(groups)
    assert set(groups.trees()) == {hybrid / name for name in (*V1, "unified")}


def test_pure_v2_machine(unified: Path) -> None:
    groups = cgroups.detect(unified / "mounts")

    assert not cgroups.is_v1(groups)
    assert groups.membership_files("edgewise/edge-1/system") == [unified / "edgewise/edge-1/system/cgroup.procs"]


def test_machine_without_control_groups_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="no control groups"):
        cgroups.detect(mount_table(tmp_path))


def test_missing_v1_controller_is_named(tmp_path: Path) -> None:
    table = mount_table(tmp_path, "cgroup /c/cpu cgroup rw,cpu,cpuacct 0 0")

    with pytest.raises(FleetError, match="cpuset, freezer, memory, pids"):
        cgroups.detect(table)


def test_v1_bounds(hybrid: Path) -> None:
    groups = cgroups.detect(hybrid / "mounts")
    for controller in V1:
        (hybrid / controller / "edgewise" / "edge-1").mkdir(parents=True)

    groups.set_cpu_percent("edgewise/edge-1", 25)
    groups.set_memory_limit("edgewise/edge-1", 2 << 30)
    groups.set_frozen("edgewise/edge-1", frozen=True)

    assert groups.cpu_percent("edgewise/edge-1") == 25
    assert (hybrid / "cpu/edgewise/edge-1/cpu.cfs_quota_us").read_text() == "25000"
    assert (hybrid / "memory/edgewise/edge-1/memory.limit_in_bytes").read_text() == str(2 << 30)
    assert (hybrid / "freezer/edgewise/edge-1/freezer.state").read_text() == "FROZEN"
    groups.set_cpu_percent("edgewise/edge-1", None)
    assert groups.cpu_percent("edgewise/edge-1") is None


def test_v2_bounds(unified: Path) -> None:
    groups = cgroups.detect(unified / "mounts")
    groups.create("edgewise/edge-1")

    groups.set_cpu_percent("edgewise/edge-1", 50)
    groups.set_cpu_weight("edgewise/edge-1", 4)
    groups.set_memory_limit("edgewise/edge-1", 1 << 30)
    groups.set_frozen("edgewise/edge-1", frozen=True)

    folder = unified / "edgewise/edge-1"
    assert (folder / "cpu.max").read_text() == "50000 100000"
    assert (folder / "cpu.weight").read_text() == "400"
    assert (folder / "memory.max").read_text() == str(1 << 30)
    assert groups.frozen("edgewise/edge-1")
    assert groups.cpu_percent("edgewise/edge-1") == 50
    groups.set_cpu_percent("edgewise/edge-1", None)
    assert groups.cpu_percent("edgewise/edge-1") is None


def test_v2_hands_controllers_down_to_a_group_but_not_below_it(unified: Path) -> None:
    cgroups.detect(unified / "mounts").create("edgewise/edge-1/system")

    assert (unified / "edgewise/cgroup.subtree_control").exists()
    assert (unified / "edgewise/edge-1/cgroup.subtree_control").exists()
    assert not (unified / "edgewise/edge-1/system/cgroup.subtree_control").exists()


def test_v2_accounting(unified: Path) -> None:
    groups = cgroups.detect(unified / "mounts")
    groups.create("edgewise/edge-1")
    folder = unified / "edgewise/edge-1"
    (folder / "cpu.stat").write_text("usage_usec 30\nuser_usec 20\nsystem_usec 10\n")
    (folder / "memory.max").write_text("max\n")
    (folder / "memory.current").write_text("1000\n")
    stat = {"file": 400, "shmem": 5, "active_file": 100, "inactive_file": 200, "slab_reclaimable": 50}
    stat |= {"active_anon": 30, "inactive_anon": 40}
    (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))

    assert groups.cpu_time("edgewise/edge-1") == cgroups.CpuTime(20_000, 10_000)
    assert groups.memory("edgewise/edge-1") == cgroups.Memory(
        limit=None,
        used=1000,
        cache=400,
        active_file=100,
        inactive_file=200,
        active_anon=30,
        inactive_anon=40,
        shared=5,
        reclaimable_slab=50,
    )


def test_removes_groups_from_the_bottom_up_and_again_without_complaint(unified: Path) -> None:
    groups = cgroups.detect(unified / "mounts")
    for name in ("edgewise/edge-1/system", "edgewise/edge-1/kubepods/pod1", "edgewise/control"):
        (unified / name).mkdir(parents=True)

    groups.remove("edgewise")
    groups.remove("edgewise")

    assert not groups.exists("edgewise")
