"""What the fleet is asked to be: its devices and their sizes, kept in .testbed/fleet.json.

Only wishes are kept here. Whether a device has power, a cable or a pulse is
asked of the kernel each time.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from testbed.errors import FleetError

GIB = 1 << 30
DISK_BYTES = 8 * GIB
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": GIB, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """One node of the fleet.

    Attributes:
        index: 1 to 200; decides addresses and the cable's name.
        edge: an edge device; False for the hub.
        quota_percent: CPU bound in percent of one core; None for none.
        lease_seconds: life of the kubelet's Lease; it renews every quarter of it.
        status_seconds: how often the kubelet works out its Node's status.
    """

    name: str
    index: int
    edge: bool = True
    quota_percent: float | None = 100
    memory_bytes: int = 2 * GIB
    disk_bytes: int = DISK_BYTES
    celsius: float = 45
    lease_seconds: int = 40
    status_seconds: int = 10

    @property
    def address(self) -> str:
        """The device's own address."""
        return f"198.18.0.{10 + self.index}"

    @property
    def pod_range(self) -> str:
        """The range that its pods' addresses are from."""
        return f"198.18.{self.index}.0/24"

    @property
    def cable(self) -> str:
        """The host's end of its network cable."""
        return f"edgewise-{self.index}"

    @staticmethod
    def is_cable(link: str) -> bool:
        """Whether a link's name is that of a device's cable."""
        return re.fullmatch(r"edgewise-\d+", link) is not None


HUB = DeviceSettings("hub", 100, edge=False, quota_percent=None, memory_bytes=4 * GIB)
FIRST_DEVICES = (
    DeviceSettings("edge-1", 1, quota_percent=100),
    DeviceSettings("edge-2", 2, quota_percent=50),
    DeviceSettings("edge-3", 3, quota_percent=25),
)


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """All devices by name, the hub first."""

    devices: Mapping[str, DeviceSettings]

    @classmethod
    def first(cls) -> Self:
        """A new fleet: the hub and three devices."""
        return cls({device.name: device for device in (HUB, *FIRST_DEVICES)})

    @classmethod
    def load(cls, file: Path) -> Self | None:
        """The settings in `file`, None when there is no such file."""
        try:
            kept = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        return cls({entry["name"]: DeviceSettings(**entry) for entry in kept["devices"]})

    def save(self, file: Path) -> None:
        """Writes the settings; a reader sees the old or the new ones, never a part."""
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"devices": [asdict(device) for device in self.devices.values()]}, indent=2)
        fresh = file.with_suffix(".new")
        fresh.write_text(text + "\n")
        fresh.rename(file)

    def with_device(self, device: DeviceSettings) -> "FleetSettings":
        """These settings with `device` added or changed."""
        return FleetSettings({**self.devices, device.name: device})

    def without_device(self, name: str) -> "FleetSettings":
        """These settings without device `name`."""
        return FleetSettings({other: device for other, device in self.devices.items() if other != name})

    def timed(self, lease_seconds: int | None, status_seconds: int | None) -> "FleetSettings":
        """These settings with the kubelets' times changed where they are given."""
        changed = [
            replace(
                device,
                lease_seconds=lease_seconds or device.lease_seconds,
                status_seconds=status_seconds or device.status_seconds,
            )
            for device in self.devices.values()
        ]
        return FleetSettings({device.name: device for device in changed})

    def free_index(self) -> int:
        """The lowest index that no device has."""
        taken = {device.index for device in self.devices.values()}
        return next(index for index in range(1, 200) if index not in taken)


def parse_percent(text: str) -> float:
    """`25%` or `25` as 25.0.

    Raises:
        FleetError: not a percentage from 0 up.
    """
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text.strip())
    if number is None:
        raise FleetError(f"{text!r} is no percentage: write for example 25%")
    return float(number[1])


def parse_bytes(text: str) -> int:
    """`2Gi`, `512M` or a plain number of bytes; all units are powers of 1,024.

    Raises:
        FleetError: not a size.
    """
    size = re.fullmatch(r"(\d+)([KMGT]?)i?B?", text.strip())
    if size is None:
        raise FleetError(f"{text!r} is no size: write for example 2Gi")
    return int(size[1]) * _UNITS[size[2]]
