"""The fleet's network: one bridge on the host, one network namespace and one cable a device.

Addresses are from 198.18.0.0/15, which is set aside for benchmarks, so the
fleet is clear of any real network. The host is 198.18.0.1 and does not forward:
devices reach each other's pods over the bridge by routes of their own, so no
sysctl or firewall of the host is touched. A namespace is held by a file on
/run/edgewise-testbed and not by `ip netns`, which would leave a mount behind.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from testbed import paths
from testbed.commands import run
from testbed.settings import DeviceSettings

BRIDGE = "edgewise0"
HOST_ADDRESS = "198.18.0.1"
SERVICE_RANGE = "198.19.0.0/24"
API_SERVICE_ADDRESS = "198.19.0.1"
DNS_ADDRESS = "198.19.0.10"
IMAGE_REGISTRY = f"{HOST_ADDRESS}:5000"
"""Where devices fetch images of this name from, over plain HTTP, while somebody serves them (registry.py)."""
SIMULATED_PODS = "198.19.64.0/18"
"""What simulated devices' pods have addresses of; nobody answers there."""


def namespace(name: str) -> Path:
    """The file that holds the network namespace of device `name`."""
    return paths.NETWORKS / name


def create_bridge() -> None:
    """Makes the bridge with the host's address; does nothing when it is there."""
    if BRIDGE not in _links():
        run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "replace", f"{HOST_ADDRESS}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def connect(device: DeviceSettings) -> None:
    """Makes the namespace and the cable of `device`, and the host's route to its pods."""
    held = namespace(device.name)
    if not _is_namespace(held):
        held.parent.mkdir(parents=True, exist_ok=True)
        held.touch()
        run("unshare", f"--net={held}", "true")
    if device.cable not in _links():
        run("ip", "link", "add", device.cable, "type", "veth", "peer", "name", "eth0", "netns", held)
        run("ip", "link", "set", device.cable, "master", BRIDGE, "up")
    _inside(
        device.name,
        "link set lo up",
        "link set eth0 up",
        f"address replace {device.address}/24 dev eth0",
        f"route replace default via {HOST_ADDRESS}",
    )
    run("ip", "route", "replace", device.pod_range, "via", device.address, "dev", BRIDGE)


def disconnect(device: DeviceSettings) -> None:
    """Removes the namespace and the cable of `device`."""
    if device.cable in _links():
        run("ip", "link", "delete", device.cable)
    _release(namespace(device.name))


def route(devices: Iterable[DeviceSettings]) -> None:
    """Routes between the pods of all connected `devices`; the host reaches Services through the hub."""
    everyone = [device for device in devices if _is_namespace(namespace(device.name))]
    for device in everyone:
        others = [other for other in everyone if other.name != device.name]
        _inside(device.name, *(f"route replace {other.pod_range} via {other.address}" for other in others))
        if not device.edge:
            run("ip", "route", "replace", SERVICE_RANGE, "via", device.address, "dev", BRIDGE)


def set_cable(device: DeviceSettings, *, plugged: bool) -> None:
    """Plugs or pulls the cable of `device`."""
    run("ip", "link", "set", device.cable, "up" if plugged else "down")


def plugged(device: DeviceSettings) -> bool:
    """Whether the cable of `device` is plugged in."""
    return "UP" in _links().get(device.cable, ())


def remove() -> None:
    """Removes cables, bridge and namespaces, whatever of them there is; no process may use them."""
    for link in _links():
        if link == BRIDGE or DeviceSettings.is_cable(link):
            run("ip", "link", "delete", link)
    for held in paths.NETWORKS.glob("*"):
        _release(held)


def _release(held: Path) -> None:
    if _is_namespace(held):
        run("umount", held)
    held.unlink(missing_ok=True)


def _is_namespace(file: Path) -> bool:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(file) for line in mounts)


def _inside(name: str, *commands: str) -> None:
    run("nsenter", f"--net={namespace(name)}", "ip", "-batch", "-", stdin="\n".join(commands) + "\n")


def _links() -> dict[str, tuple[str, ...]]:
    """The host's links and their flags."""
    return {link["ifname"]: tuple(link["flags"]) for link in json.loads(run("ip", "-json", "link", "show"))}
