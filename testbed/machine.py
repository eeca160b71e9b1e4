"""Says at once what a machine lacks to carry the fleet: the system, root, disk, a fitting checkout."""

import os
import platform
import shutil
from pathlib import Path

from testbed import paths
from testbed.errors import FleetError
from testbed.settings import GIB

DISK_BYTES = 12 * GIB
_HIDDEN_IN_DEVICES = ("/var", "/srv", "/run")


def require() -> None:
    """Raises:
    FleetError: the first thing that is missing.
    """
    if platform.system() != "Linux":
        raise FleetError(f"the fleet needs Linux, this is {platform.system()}: use `make kind-up` (with Docker) here")
    if os.geteuid() != 0:
        raise FleetError("the fleet needs root (namespaces, mounts, control groups): run it with sudo")
    for folder in (paths.CHECKOUT, paths.cache()):
        if free_bytes(folder) < DISK_BYTES:
            raise FleetError(
                f"the disk under {folder} has {free_bytes(folder) / GIB:.1f} GiB free,"
                f" the fleet needs {DISK_BYTES / GIB:.0f}"
            )
        if any(folder.is_relative_to(hidden) for hidden in _HIDDEN_IN_DEVICES):
            raise FleetError(f"{folder} can't be under {', '.join(_HIDDEN_IN_DEVICES)}: devices have their own there")


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder` (or would hold it)."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
