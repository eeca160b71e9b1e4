"""A device's figures: its share of the machine as the agent on it should see it."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from testbed import hostroot
from testbed.cgroups import Memory

GIB = 1 << 30
MEMORY = Memory(
    limit=2 * GIB,
    used=GIB,
    cache=GIB // 2,
    active_file=GIB // 8,
    inactive_file=GIB // 8,
    active_anon=0,
    inactive_anon=GIB // 2,
    shared=0,
    reclaimable_slab=0,
)


@pytest.mark.parametrize(
    ("used", "cores", "busy"),
    [
        (0.0, 1.0, 0.0),
        (0.5, 1.0, 0.5),
        (1.0, 1.0, 1.0),
        (0.25, 0.5, 0.5),  # half a core, half of it used
        (0.25, 0.25, 1.0),  # a quarter of a core, all of it used
        (0.30, 0.25, 1.0),  # over the quota for a moment
        (1.0, 2.0, 0.5),
    ],
)
def test_busy_share_is_relative_to_the_quota(used: float, cores: float, busy: float) -> None:
    cpu = hostroot.Cpu().after(1.0, used * 0.8, used * 0.2, cores)

    assert cpu.user + cpu.system == pytest.approx(busy)
    assert cpu.idle == pytest.approx(1 - busy)
    assert cpu.user == pytest.approx(busy * 0.8)


def test_page_cache_counts_as_available() -> None:
    rows = dict(line.split(":") for line in hostroot.meminfo(MEMORY, 24 * GIB).splitlines())

    assert rows["MemTotal"].split() == [str(2 * GIB // 1024), "kB"]
    assert rows["MemFree"].split() == [str(GIB // 1024), "kB"]
    assert rows["MemAvailable"].split() == [str((GIB + GIB // 4) // 1024), "kB"]


def test_without_a_limit_the_host_is_the_total() -> None:
    text = hostroot.meminfo(replace(MEMORY, limit=None), 24 * GIB)

    assert text.split()[:2] == ["MemTotal:", str(24 * GIB // 1024)]


def test_psutil_reads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stat").write_text(hostroot.stat(hostroot.Cpu(user=10, system=5, idle=85), boot_time=1_000_000))
    (tmp_path / "meminfo").write_text(hostroot.meminfo(MEMORY, 24 * GIB))
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))

    assert psutil.boot_time() == 1_000_000
    assert psutil.cpu_times().user == 10
    assert psutil.cpu_times().idle == 85
    assert psutil.virtual_memory().percent == 37.5
