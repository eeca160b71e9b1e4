"""The fleet's control groups, on cgroup v1 (also hybrid) and on pure v2.

Everything lives under one group, `edgewise`: `edgewise/control` holds the
control plane, `edgewise/NAME` a device with its `system` (containerd, kubelet,
kube-proxy) and what its kubelet makes beside that. Nothing outside `edgewise`
is ever changed, but for handing controllers down from v2's root group.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import FleetError
from testbed.waiting import wait_until

TOP = "edgewise"
CONTROL = f"{TOP}/control"
PERIOD_MICROSECONDS = 100_000

HOME_WEIGHT = 4
"""The CPU share of control plane and hub, against 1 of a device: in a real fleet they have machines of their own."""
_V2_CONTROLLERS = "+cpu +cpuset +memory +pids +io"


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU time that a group has used so far, in nanoseconds."""

    user_nanoseconds: int
    system_nanoseconds: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a group's memory holds, in bytes; `limit` is None without one."""

    limit: int | None
    used: int
    cache: int
    active_file: int
    inactive_file: int
    active_anon: int
    inactive_anon: int
    shared: int
    reclaimable_slab: int


def device_group(name: str) -> str:
    """The group that holds all of device `name`."""
    return f"{TOP}/{name}"


class Cgroups(ABC):
    """One interface for both versions; a group is a path such as `edgewise/edge-1`."""

    @abstractmethod
    def trees(self) -> list[Path]:
        """The mounted hierarchies that groups are made in."""

    @abstractmethod
    def create(self, group: str) -> None:
        """Makes `group` and those above it; does nothing when it exists."""

    @abstractmethod
    def set_cpu_percent(self, group: str, percent: float | None) -> None:
        """Bounds `group` to `percent` of one core; None lifts the bound."""

    @abstractmethod
    def cpu_percent(self, group: str) -> float | None:
        """The bound in percent of one core, None without one."""

    @abstractmethod
    def set_cpu_weight(self, group: str, factor: int) -> None:
        """Gives `group` `factor` times the CPU share of a group left alone."""

    @abstractmethod
    def set_memory_limit(self, group: str, bytes_: int) -> None:
        """Bounds the memory of `group`, page cache included."""

    @abstractmethod
    def set_frozen(self, group: str, frozen: bool) -> None:
        """Stops all processes of `group` where they are, or lets them go on."""

    @abstractmethod
    def frozen(self, group: str) -> bool:
        """Whether `group` was stopped by set_frozen."""

    @abstractmethod
    def cpu_time(self, group: str) -> CpuTime:
        """CPU time used by `group` and all groups below."""

    @abstractmethod
    def tasks(self, group: str) -> int:
        """How many threads are in `group` and all groups below."""

    @abstractmethod
    def memory(self, group: str) -> Memory:
        """Memory of `group` and all groups below."""

    def exists(self, group: str) -> bool:
        """Whether `group` is there in any hierarchy."""
        return any((tree / group).is_dir() for tree in self.trees())

    def membership_files(self, group: str) -> list[Path]:
        """The files that a process writes its id to to be in `group`."""
        return [tree / group / "cgroup.procs" for tree in self.trees()]

    def processes(self, group: str) -> set[int]:
        """Ids of all processes in `group` and below."""
        return {
            int(pid)
            for tree in self.trees()
            for folder in _bottom_up(tree / group)
            for pid in _lines(folder / "cgroup.procs")
        }

    def remove(self, group: str) -> None:
        """Removes `group` and all below; its processes must have ended.

        Raises:
            FleetError: a process stays in it.
        """
        wait_until(lambda: self._try_remove(group), f"the end of control group {group}", seconds=20)

    def _try_remove(self, group: str) -> bool:
        for tree in self.trees():
            for folder in _bottom_up(tree / group):
                with suppress(FileNotFoundError):
                    folder.rmdir()
        return True


class CgroupsV1(Cgroups):
    """One hierarchy a controller; every one gets the same groups, and so does a hybrid machine's empty v2 tree."""

    def __init__(self, controllers: dict[str, Path], hybrid: Path | None = None) -> None:
        self._controllers = controllers
        self._hybrid = hybrid

    def trees(self) -> list[Path]:
        return sorted({*self._controllers.values(), *([self._hybrid] if self._hybrid else [])})

    def create(self, group: str) -> None:
        for tree in self.trees():
            (tree / group).mkdir(parents=True, exist_ok=True)
        self._fill_cpuset(group)

    def _fill_cpuset(self, group: str) -> None:
        """A new v1 cpuset is empty and takes no process until it has CPUs and memory nodes."""
        folder = self._controllers["cpuset"]
        for part in Path(group).parts:
            parent, folder = folder, folder / part
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not (folder / name).read_text().strip():
                    (folder / name).write_text((parent / name).read_text())

    def set_cpu_percent(self, group: str, percent: float | None) -> None:
        folder = self._controllers["cpu"] / group
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
        quota = -1 if percent is None else round(percent / 100 * PERIOD_MICROSECONDS)
        (folder / "cpu.cfs_quota_us").write_text(str(quota))

    def cpu_percent(self, group: str) -> float | None:
        folder = self._controllers["cpu"] / group
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return None if quota < 0 else quota / period * 100

    def set_cpu_weight(self, group: str, factor: int) -> None:
        (self._controllers["cpu"] / group / "cpu.shares").write_text(str(1024 * factor))

    def set_memory_limit(self, group: str, bytes_: int) -> None:
        (self._controllers["memory"] / group / "memory.limit_in_bytes").write_text(str(bytes_))

    def set_frozen(self, group: str, frozen: bool) -> None:
        (self._controllers["freezer"] / group / "freezer.state").write_text("FROZEN" if frozen else "THAWED")

    def frozen(self, group: str) -> bool:
        state = self._controllers["freezer"] / group / "freezer.self_freezing"
        return state.is_file() and state.read_text().strip() == "1"

    def cpu_time(self, group: str) -> CpuTime:
        folder = self._controllers["cpuacct"] / group
        return CpuTime(
            int((folder / "cpuacct.usage_user").read_text()), int((folder / "cpuacct.usage_sys").read_text())
        )

    def tasks(self, group: str) -> int:
        return int((self._controllers["pids"] / group / "pids.current").read_text())

    def memory(self, group: str) -> Memory:
        folder = self._controllers["memory"] / group
        stat = _fields(folder / "memory.stat")
        limit = int((folder / "memory.limit_in_bytes").read_text())
        return Memory(
            limit=None if limit > 1 << 60 else limit,
            used=int((folder / "memory.usage_in_bytes").read_text()),
            cache=stat["total_cache"],
            active_file=stat["total_active_file"],
            inactive_file=stat["total_inactive_file"],
            active_anon=stat["total_active_anon"],
            inactive_anon=stat["total_inactive_anon"],
            shared=stat.get("total_shmem", 0),
            reclaimable_slab=0,
        )


class CgroupsV2(Cgroups):
    """The one hierarchy; controllers must be handed down level by level."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def trees(self) -> list[Path]:
        return [self._root]

    def create(self, group: str) -> None:
        """Hands controllers down to `group`, not below it: a leaf may hold processes."""
        folder = self._root
        for part in Path(group).parts:
            for controller in _V2_CONTROLLERS.split():
                with suppress(OSError):  # a kernel without one of them (io) still serves the rest
                    (folder / "cgroup.subtree_control").write_text(controller)
            folder = folder / part
            folder.mkdir(exist_ok=True)

    def set_cpu_percent(self, group: str, percent: float | None) -> None:
        quota = "max" if percent is None else str(round(percent / 100 * PERIOD_MICROSECONDS))
        (self._root / group / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")

    def cpu_percent(self, group: str) -> float | None:
        quota, period = (self._root / group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period) * 100

    def set_cpu_weight(self, group: str, factor: int) -> None:
        (self._root / group / "cpu.weight").write_text(str(100 * factor))

    def set_memory_limit(self, group: str, bytes_: int) -> None:
        (self._root / group / "memory.max").write_text(str(bytes_))

    def set_frozen(self, group: str, frozen: bool) -> None:
        (self._root / group / "cgroup.freeze").write_text("1" if frozen else "0")

    def frozen(self, group: str) -> bool:
        state = self._root / group / "cgroup.freeze"
        return state.is_file() and state.read_text().strip() == "1"

    def cpu_time(self, group: str) -> CpuTime:
        stat = _fields(self._root / group / "cpu.stat")
        return CpuTime(stat["user_usec"] * 1000, stat["system_usec"] * 1000)

    def tasks(self, group: str) -> int:
        return int((self._root / group / "pids.current").read_text())

    def memory(self, group: str) -> Memory:
        folder = self._root / group
        stat = _fields(folder / "memory.stat")
        limit = (folder / "memory.max").read_text().strip()
        return Memory(
            limit=None if limit == "max" else int(limit),
            used=int((folder / "memory.current").read_text()),
            cache=stat["file"],
            active_file=stat["active_file"],
            inactive_file=stat["inactive_file"],
            active_anon=stat["active_anon"],
            inactive_anon=stat["inactive_anon"],
            shared=stat["shmem"],
            reclaimable_slab=stat.get("slab_reclaimable", 0),
        )


def detect(mounts: Path = Path("/proc/self/mounts")) -> Cgroups:
    """The control groups of this machine, as its mount table says.

    A hybrid machine has v1 controllers and an empty v2 tree: that is v1.

    Raises:
        FleetError: no control groups are mounted, or a v1 controller is missing.
    """
    controllers: dict[str, Path] = {}
    unified: Path | None = None
    for line in mounts.read_text().splitlines():
        _, target, kind, options, *_ = line.split()
        if kind == "cgroup2":
            unified = Path(target)
        elif kind == "cgroup":
            known = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"}
            names = [option for option in options.split(",") if option in known or option.startswith("name=")]
            controllers |= dict.fromkeys(names, Path(target))
    if "cpu" in controllers:
        needed = {"cpu", "cpuacct", "cpuset", "memory", "freezer", "pids"}
        if missing := needed - set(controllers):
            raise FleetError(f"cgroup controllers not mounted: {', '.join(sorted(missing))}")
        return CgroupsV1(controllers, unified)
    if unified is None:
        raise FleetError("no control groups are mounted: mount cgroup2 on /sys/fs/cgroup")
    return CgroupsV2(unified)


def is_v1(cgroups: Cgroups) -> bool:
    """Whether `cgroups` are v1, where a child's CPU quota above its parent's is an error."""
    return isinstance(cgroups, CgroupsV1)


def _bottom_up(folder: Path) -> Iterator[Path]:
    for path, _, _ in os.walk(folder, topdown=False):
        yield Path(path)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except (FileNotFoundError, OSError):
        return []


def _fields(file: Path) -> dict[str, int]:
    pairs = (line.split() for line in file.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
