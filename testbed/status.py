"""What a person wants to know of a device at a glance."""

from contextlib import suppress
from dataclasses import dataclass

from testbed import disks, hostroot
from testbed.device import Device
from testbed.errors import FleetError


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device's state; None is 'does not apply' or 'can't be known now'."""

    name: str
    address: str
    power: str
    cable: str
    celsius: float | None
    quota_percent: float | None
    disk_percent: float | None

    def row(self) -> str:
        """One line of the table."""
        quota = "-" if self.quota_percent is None else f"{self.quota_percent:.0f} %"
        disk = "-" if self.disk_percent is None else f"{self.disk_percent:.0f} %"
        heat = "-" if self.celsius is None else f"{self.celsius:.0f} °C"
        return f"{self.name:<12}{self.power:<8}{self.cable:<11}{quota:>7}{heat:>10}{disk:>7}  {self.address}"


HEADING = f"{'DEVICE':<12}{'POWER':<8}{'CABLE':<11}{'QUOTA':>7}{'HEAT':>10}{'DISK':>7}  ADDRESS"


def of(device: Device) -> DeviceStatus:
    """The state of `device` now."""
    disk = None
    with suppress(FleetError, OSError):
        disk = disks.used_percent(device.disk())
    power = "hangs" if device.hung else "on" if device.on else "off"
    return DeviceStatus(
        name=device.name,
        address=device.settings.address,
        power=power,
        cable="plugged" if device.plugged else "unplugged",
        celsius=hostroot.celsius(device.name),
        quota_percent=device.quota_percent,
        disk_percent=disk,
    )
