"""The processes of a pod's containers, as the host sees them.

A pod's control group carries its UID in its name, on cgroup v1 and v2 and with either driver. The pod's sandbox is
left out: without it the kubelet would make the pod's network anew, which is another fault.
"""

from collections.abc import Iterator
from pathlib import Path

_SANDBOXES = (b"/pause", b"/bin/busybox\0sleep\0002147483647")
"""What holds a pod's namespaces open: on most clusters, and here."""


def processes_of(pod_uid: str, proc: Path = Path("/proc")) -> list[int]:
    """The ids of the processes of that pod's containers, in no order."""
    return [int(folder.name) for folder in _folders(proc) if _belongs(folder, pod_uid)]


def _folders(proc: Path) -> Iterator[Path]:
    return (folder for folder in proc.iterdir() if folder.name.isdigit())


def _belongs(folder: Path, pod_uid: str) -> bool:
    names = (f"pod{pod_uid}", f"pod{pod_uid.replace('-', '_')}")
    try:
        groups, command = (folder / "cgroup").read_text(), (folder / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(name in groups for name in names) and command.rstrip(b"\0") not in _SANDBOXES
