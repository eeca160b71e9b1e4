"""A device's own /proc and /sys figures, as an agent on it sees them.

All devices share one kernel, so the machine's own files would tell every agent
the same. Pure functions turn a device's control-group accounting into the text
of those files; meter.py writes them. They reach the device at
/run/edgewise-host.
"""

from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from testbed import paths
from testbed.cgroups import Memory

_TICKS = 100  # USER_HZ, the unit of /proc/stat
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU time in seconds since the device booted, of one CPU that is as fast as its quota."""

    user: float = 0
    system: float = 0
    idle: float = 0

    def after(self, elapsed: float, user: float, system: float, cores: float) -> "Cpu":
        """These times `elapsed` seconds later, in which `user` and `system` seconds of `cores` were used.

        A device with half a core that used a quarter of a second in one second
        was busy for half of it.
        """
        busy = (user + system) / cores
        scale = 1 / cores if busy <= elapsed else elapsed / (user + system)
        return Cpu(self.user + user * scale, self.system + system * scale, self.idle + max(0.0, elapsed - busy))


def stat(cpu: Cpu, boot_time: float) -> str:
    """The text of /proc/stat."""
    numbers = [round(cpu.user * _TICKS), 0, round(cpu.system * _TICKS), round(cpu.idle * _TICKS), 0, 0, 0, 0, 0, 0]
    times = " ".join(map(str, numbers))
    return (
        f"cpu  {times}\ncpu0 {times}\nintr 0\nctxt 0\nbtime {boot_time:.0f}\n"
        "processes 0\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n"
    )


def meminfo(memory: Memory, host_bytes: int) -> str:
    """The text of /proc/meminfo: total is the device's limit, and cache that can go counts as available."""
    total = min(memory.limit or host_bytes, host_bytes)
    free = max(0, total - memory.used)
    reclaimable = memory.active_file + memory.inactive_file + memory.reclaimable_slab
    rows = {
        "MemTotal": total,
        "MemFree": free,
        "MemAvailable": min(total, free + reclaimable),
        "Buffers": 0,
        "Cached": memory.cache,
        "SwapCached": 0,
        "Active": memory.active_anon + memory.active_file,
        "Inactive": memory.inactive_anon + memory.inactive_file,
        "Active(anon)": memory.active_anon,
        "Inactive(anon)": memory.inactive_anon,
        "Active(file)": memory.active_file,
        "Inactive(file)": memory.inactive_file,
        "SwapTotal": 0,
        "SwapFree": 0,
        "Shmem": memory.shared,
        "Slab": memory.reclaimable_slab,
        "SReclaimable": memory.reclaimable_slab,
        "SUnreclaim": 0,
    }
    return "".join(f"{name + ':':<16}{value // _KIB:>8} kB\n" for name, value in rows.items())


def loadavg(busy: tuple[float, float, float], tasks: int) -> str:
    """The text of /proc/loadavg; `busy` is the damped busy share, which never shows a queue."""
    return f"{busy[0]:.2f} {busy[1]:.2f} {busy[2]:.2f} 1/{tasks} 1\n"


def uptime(cpu: Cpu) -> str:
    """The text of /proc/uptime."""
    return f"{cpu.user + cpu.system + cpu.idle:.2f} {cpu.idle:.2f}\n"


def folder(name: str) -> Path:
    """The host's folder that is /run/edgewise-host in device `name`."""
    return paths.DEVICES / name


def create(name: str, celsius: float) -> None:
    """Makes the folder of `name` with its thermal zone; its /proc comes with the meter's next round."""
    zone = _zone(name)
    zone.mkdir(parents=True, exist_ok=True)
    (folder(name) / "proc").mkdir(exist_ok=True)
    write(zone / "type", "x86_pkg_temp\n")
    write(folder(name) / "proc" / "cpuinfo", "processor\t: 0\nmodel name\t: Edgewise testbed device\n\n")
    write(folder(name) / "proc" / "vmstat", "pswpin 0\npswpout 0\n")
    heat(name, celsius)


def remove(name: str) -> None:
    """Removes the folder of `name`."""
    rmtree(folder(name), ignore_errors=True)


def heat(name: str, celsius: float) -> None:
    """Sets the temperature that the device's thermal zone shows."""
    write(_zone(name) / "temp", f"{round(celsius * 1000)}\n")


def celsius(name: str) -> float | None:
    """The temperature that the device's thermal zone shows."""
    file = _zone(name) / "temp"
    return int(file.read_text()) / 1000 if file.exists() else None


def write(file: Path, text: str) -> None:
    """Replaces a file so that a reader never sees half of it."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text)
    fresh.rename(file)


def _zone(name: str) -> Path:
    return folder(name) / "sys" / "class" / "thermal" / "thermal_zone0"
