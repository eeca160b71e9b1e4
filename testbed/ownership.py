"""One fleet a machine: which checkout it belongs to, and one verb at a time.

The owner is written on the fleet's tmpfs, so it is gone with a restart of the
machine, as the fleet is.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import paths, processes
from testbed.commands import run
from testbed.errors import FleetError
from testbed.waiting import wait_until

_PATIENCE_SECONDS = 120


@contextmanager
def exclusive() -> Iterator[None]:
    """Lets one verb at a time change the fleet; the others wait for it.

    Raises:
        FleetError: another verb is at work and does not end within two minutes.
    """
    paths.LOCK.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(paths.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            wait_until(lambda: _lock(descriptor), "the fleet is free", seconds=_PATIENCE_SECONDS, every_seconds=0.1)
        except FleetError:
            raise FleetError(f"the fleet is busy with process {os.pread(descriptor, 20, 0).decode()}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True


def owner() -> Path | None:
    """The checkout whose fleet is on this machine, up or left half-way."""
    try:
        return Path(paths.OWNER.read_text())
    except FileNotFoundError:
        return None


def require() -> None:
    """Raises:
    FleetError: the fleet on this machine belongs to another checkout that still exists, and something of it runs.
    """
    other = owner()
    if not other or other == paths.CHECKOUT or not other.exists():
        return
    if any(process.alive for process in processes.recorded()):
        raise FleetError(f"the fleet on this machine belongs to {other}: end it with {other}/.testbed/bin/fleet down")


def disks() -> list[Path]:
    """The disk images of this checkout, and of the one whose fleet was left on this machine."""
    folders = {paths.DISKS}
    if other := owner():
        folders.add(other / paths.DISKS.relative_to(paths.CHECKOUT))
    return sorted(image for folder in folders for image in folder.glob("*"))


def claim() -> None:
    """Mounts the fleet's tmpfs and writes this checkout on it; does nothing when that is done."""
    require()
    if not paths.RUN.is_mount():
        paths.RUN.mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755,size=64m", "edgewise-testbed", paths.RUN)
    paths.OWNER.write_text(str(paths.CHECKOUT))


def release() -> None:
    """Unmounts the fleet's tmpfs with all records; nothing may run any more."""
    if paths.RUN.is_mount():
        run("umount", paths.RUN)
    if paths.RUN.exists():
        paths.RUN.rmdir()
