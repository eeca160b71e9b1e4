"""The one process that keeps every device's own /proc figures fresh (`python -m testbed.meter`).

Twice a second it reads the accounting of each device's control group and writes
what hostroot.py makes of it. It never touches the thermal zone: that is the
user's.
"""

import math
import os
import time
from contextlib import suppress
from pathlib import Path

from testbed import cgroups, hostroot, paths

PROCESS = "meter"
EVERY_SECONDS = 0.5
_SPANS_SECONDS = (60, 300, 900)


class Gauge:
    """The figures of one device since its boot."""

    def __init__(self, name: str, groups: cgroups.Cgroups) -> None:
        self._group = cgroups.device_group(name)
        self._proc = hostroot.folder(name) / "proc"
        self._groups = groups
        self._booted = time.time()
        self._read = time.monotonic()
        self._used = groups.cpu_time(self._group)
        self._cpu = hostroot.Cpu()
        self._busy = (0.0, 0.0, 0.0)

    def refresh(self, host_bytes: int) -> None:
        """Reads the device's accounting and rewrites its files."""
        now, used = time.monotonic(), self._groups.cpu_time(self._group)
        elapsed = now - self._read
        user = max(0, used.user_nanoseconds - self._used.user_nanoseconds) / 1e9
        system = max(0, used.system_nanoseconds - self._used.system_nanoseconds) / 1e9
        percent = self._groups.cpu_percent(self._group)
        cores = (os.cpu_count() or 1) if percent is None else percent / 100
        self._cpu = self._cpu.after(elapsed, user, system, cores)
        share = min(1.0, (user + system) / cores / elapsed) if elapsed > 0 else 0.0
        decays = [math.exp(-elapsed / span) for span in _SPANS_SECONDS]
        one, five, fifteen = (old * d + share * (1 - d) for old, d in zip(self._busy, decays, strict=True))
        self._busy = (one, five, fifteen)
        self._read, self._used = now, used
        files = {
            "stat": hostroot.stat(self._cpu, self._booted),
            "meminfo": hostroot.meminfo(self._groups.memory(self._group), host_bytes),
            "loadavg": hostroot.loadavg(self._busy, self._groups.tasks(self._group)),
            "uptime": hostroot.uptime(self._cpu),
        }
        for name, text in files.items():
            hostroot.write(self._proc / name, text)


def main() -> None:
    """Refreshes all devices until it is ended; a device that is off is forgotten, so it boots at zero."""
    groups = cgroups.detect()
    host_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gauges: dict[str, Gauge] = {}
    while True:
        for name in _devices(paths.DEVICES):
            if not groups.exists(cgroups.device_group(name)):
                gauges.pop(name, None)
                continue
            with suppress(FileNotFoundError, OSError):  # it lost power between two reads
                if name not in gauges:
                    gauges[name] = Gauge(name, groups)
                gauges[name].refresh(host_bytes)
        time.sleep(EVERY_SECONDS)


def _devices(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


if __name__ == "__main__":
    main()
