"""What the device measures of itself: CPU, memory, disk and temperature, through psutil.

This module owns the baseline of the CPU figure. It reads the host's /proc below a configurable root, never its own
container's; it never decides anything.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from edgewise_agent.thermal import hottest_celsius
from edgewise_agent.wire import Metrics

SHORTEST_WINDOW_SECONDS: Final = 1.0
"""A mean over less says little (a tick is 10 ms); beats that follow each other faster repeat the last mean."""


class MetricsUnreadable(RuntimeError):
    """The host's figures can't be read; the message names the folder and what to check."""


class Meter:
    """Measures one device. `host_root` holds the host's `proc` and `sys`, `kubelet_root` is on the disk that counts.

    The CPU figure is a mean since the sample before, over all CPUs. Until the meter is `SHORTEST_WINDOW_SECONDS` old,
    and where the counters do not move, it is the mean since the device's boot.
    """

    def __init__(self, host_root: Path, kubelet_root: Path) -> None:
        """Raises `MetricsUnreadable`."""
        psutil.PROCFS_PATH = str(host_root / "proc")
        self._host_root = host_root
        self._kubelet_root = kubelet_root
        with self._explained():
            self._baseline = _cpu_seconds()
        self._baseline_at = time.monotonic()
        self._cpu_free_percent = _percent(*self._baseline)

    def sample(self) -> Metrics:
        """Measure now. Raises `MetricsUnreadable`."""
        with self._explained():
            memory = psutil.virtual_memory()
            return Metrics(
                cpu_free_percent=self._sample_cpu(),
                memory_available_percent=_percent(memory.available, memory.total),
                memory_free_bytes=memory.free,
                disk_free_bytes=free_bytes(self._kubelet_root),
                celsius=hottest_celsius(self._host_root),
                cpus=max(1, len(psutil.cpu_times(percpu=True))),
            )

    def _sample_cpu(self) -> float:
        now = time.monotonic()
        if now - self._baseline_at >= SHORTEST_WINDOW_SECONDS:
            free, total = _cpu_seconds()
            # The kernel's idle and iowait may step back a little; a CPU that is taken out makes all of them jump.
            free_spent, spent = max(0.0, free - self._baseline[0]), total - self._baseline[1]
            self._baseline, self._baseline_at = (free, total), now
            if spent > 0:
                self._cpu_free_percent = _percent(free_spent, spent)
        return self._cpu_free_percent

    @contextmanager
    def _explained(self) -> Iterator[None]:
        # psutil has no error of its own for a /proc that holds something else.
        try:
            yield
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise MetricsUnreadable(
                f"the host's figures below {self._host_root}/proc can't be read ({type(error).__name__}: {error}): "
                "check EDGEWISE_HOST_ROOT and that the host's /proc is mounted there"
            ) from error


def free_bytes(folder: Path) -> int:
    """Bytes that a process without root's reserve can still write to the filesystem of `folder`. Raises `OSError`."""
    filesystem = os.statvfs(folder)
    return filesystem.f_bavail * filesystem.f_frsize


def _cpu_seconds() -> tuple[float, float]:
    """Free and total CPU seconds since boot, over all CPUs. Waiting for the disk leaves the CPU free."""
    times = psutil.cpu_times()
    free = times.idle + times.iowait
    # guest and guest_nice are left out: user and nice hold them already.
    return free, free + times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def _percent(part: float, whole: float) -> float:
    """With two decimals: more mean nothing, and go over the link each time."""
    return round(min(100.0, 100.0 * part / whole), 2) if whole > 0 else 0.0
