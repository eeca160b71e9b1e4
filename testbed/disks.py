"""A device's disk: an ext4 image of its own, so that it loses power and fills up by itself."""

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from testbed.commands import run
from testbed.errors import FleetError
from testbed.waiting import wait_until

# <linux/ext4.h>: _IOR('X', 125, __u32), and the flag that drops the journal's unwritten part.
_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_FILLER = "filler"


def create(image: Path, bytes_: int, template: Path | None = None) -> None:
    """Makes a sparse disk, a copy of `template` where that has the size and empty otherwise; keeps one that exists."""
    if image.exists():
        return
    image.parent.mkdir(parents=True, exist_ok=True)
    fresh = image.with_suffix(".new")
    if template and template.stat().st_size == bytes_:
        run("cp", "--sparse=auto", "--reflink=auto", template, fresh)
    else:
        with fresh.open("wb") as file:
            file.truncate(bytes_)
        run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", fresh)
    fresh.rename(image)


def cut(mountpoint: Path) -> None:
    """Cuts the power of the mounted disk: from now on nothing unwritten reaches it, not even the journal."""
    descriptor = os.open(mountpoint, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


def wait_detached(image: Path) -> None:
    """Waits until no loop device holds `image`.

    Raises:
        FleetError: one still does after 20 s.
    """
    wait_until(
        lambda: not loop_devices(image), f"the end of {image.name}'s loop device", seconds=20, every_seconds=0.05
    )


def loop_devices(image: Path) -> list[Path]:
    """The loop devices whose backing file is `image`."""
    attached = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(FileNotFoundError, OSError):
            if backing.read_text().strip().removesuffix(" (deleted)") == str(image):
                attached.append(Path("/dev") / backing.parent.parent.name)
    return attached


def detach(image: Path) -> None:
    """Detaches loop devices that an interrupted start left on `image`."""
    for device in loop_devices(image):
        run("losetup", "--detach", device)


def used_percent(mountpoint: Path) -> float:
    """How full the mounted disk is."""
    state = os.statvfs(mountpoint)
    return (state.f_blocks - state.f_bavail) / state.f_blocks * 100


def fill(mountpoint: Path, percent: float) -> float:
    """Lets a filler file bring the disk to `percent` used, or removes it; returns what is used then.

    Raises:
        FleetError: more than that is used without the filler, and `percent` is not 0.
    """
    filler = mountpoint / _FILLER
    filler.unlink(missing_ok=True)
    if percent == 0:
        return used_percent(mountpoint)
    state = os.statvfs(mountpoint)
    used = (state.f_blocks - state.f_bavail) * state.f_frsize
    wanted = round(state.f_blocks * state.f_frsize * min(percent, 100) / 100) - used
    if wanted < 0:
        raise FleetError(f"the disk is {used_percent(mountpoint):.0f} % full without any filler already")
    descriptor = os.open(filler, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        _allocate(descriptor, wanted, state.f_frsize)
    finally:
        os.close(descriptor)
    return used_percent(mountpoint)


def _allocate(descriptor: int, wanted: int, block: int) -> None:
    """Reserves `wanted` bytes, in halves where the disk's own bookkeeping leaves less than that."""
    done, part = 0, wanted
    while done < wanted and part >= block:
        part = min(part, wanted - done)
        try:
            os.posix_fallocate(descriptor, done, part)
        except OSError:
            part //= 2
            continue
        done += part
