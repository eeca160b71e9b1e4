"""The processes of a pod's containers, as the host sees them, and the memory that they have needed.

A pod's control group carries its UID in its name, on cgroup v1 and v2 and with either driver. The pod's sandbox is
left out: without it the kubelet would make the pod's network anew, which is another fault.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_SANDBOXES = (b"/pause", b"/bin/busybox\0sleep\0002147483647")
"""What holds a pod's namespaces open: on most clusters, and here."""


def processes_of(pod_uid: str, proc: Path = Path("/proc")) -> list[int]:
    """The ids of the processes of that pod's containers, in no order."""
    return [int(folder.name) for folder in _folders(proc) if _belongs(folder, pod_uid)]


def forget_peaks(pod_uid: str, proc: Path = Path("/proc")) -> None:
    """Let the peaks of the pod's processes count from now."""
    for pid in processes_of(pod_uid, proc):
        (proc / f"{pid}" / "clear_refs").write_text("5\n")


def peak_rss_bytes(pod_uid: str, proc: Path = Path("/proc")) -> int:
    """The greatest resident memory that each of the pod's running processes has had, added up."""
    return sum(_peak_kib(proc / f"{pid}") for pid in processes_of(pod_uid, proc)) * 1024


def _peak_kib(process: Path) -> int:
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) if found else 0


def _folders(proc: Path) -> Iterator[Path]:
    return (folder for folder in proc.iterdir() if folder.name.isdigit())


def _belongs(folder: Path, pod_uid: str) -> bool:
    names = (f"pod{pod_uid}", f"pod{pod_uid.replace('-', '_')}")
    try:
        groups, command = (folder / "cgroup").read_text(), (folder / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(name in groups for name in names) and command.rstrip(b"\0") not in _SANDBOXES
