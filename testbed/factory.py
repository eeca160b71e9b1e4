"""The disk that devices leave the factory with: formatted, with all images in its containerd.

Importing the images costs a device half a minute of CPU. The testbed does it
once per set of images, on a device that boots containerd alone, and gives every
new device a copy of that disk. It stays in the cache, and the next one starts
from it, so a changed image costs the import of that image only.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from testbed import cgroups, disks, images, nodeconfig, paths
from testbed.certificates import Authority
from testbed.commands import run
from testbed.device import Device
from testbed.images import Built
from testbed.progress import step
from testbed.settings import DISK_BYTES, GIB, DeviceSettings
from testbed.waiting import wait_until

_SETTINGS = DeviceSettings("factory", 200, edge=False, quota_percent=None, memory_bytes=8 * GIB)


def disk(wanted: Sequence[Built], programs: Path, authority: Authority, groups: cgroups.Cgroups) -> Path:
    """A disk of the usual size with the images `wanted`; made when the cache has none."""
    ids = sorted(f"{image.reference} {images.image_id(image.archive)}" for image in wanted)
    key = hashlib.sha256(" ".join([str(DISK_BYTES), *ids]).encode()).hexdigest()[:16]
    finished = _folder() / f"{key}.ext4"
    if finished.exists():
        return finished
    with step(f"factory disk with {len(wanted)} images"):
        device = Device(_SETTINGS, groups)
        device.end()
        device.image.unlink(missing_ok=True)
        disks.create(device.image, DISK_BYTES, _newest())
        device.power_on(programs, authority, services=(nodeconfig.CONTAINERD,))
        try:
            wait_until(lambda: device.socket().exists(), "the factory's containerd answers", seconds=30)
            device.load(wanted)
            images.forget_all_but(wanted, device.socket())
            run("sync", "--file-system", device.disk())
            run("fstrim", device.disk())
        finally:
            device.end()
        _folder().mkdir(parents=True, exist_ok=True)
        older = list(_folder().glob("*.ext4"))
        _move(device.image, finished)
        device.discard()
        for image in older:
            image.unlink()
    return finished


def _move(image: Path, target: Path) -> None:
    try:
        image.rename(target)
    except OSError:  # the cache is on another disk
        fresh = target.with_suffix(".new")
        run("cp", "--sparse=always", image, fresh)
        fresh.rename(target)


def _newest() -> Path | None:
    found = sorted(_folder().glob("*.ext4"), key=lambda file: file.stat().st_mtime)
    return found[-1] if found else None


def _folder() -> Path:
    return paths.cache() / "factory"
