"""The fleet as one object: every verb of the command line is a method that says what it did.

A verb that finds things as they should be changes nothing and says so.
"""

import re
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from testbed import binaries, cgroups, containers, hostroot, lifecycle, ownership, paths, processes
from testbed import status as device_status
from testbed.commands import kubectl
from testbed.controlplane import COMPONENTS, ClientLimits, require_running
from testbed.device import Device
from testbed.errors import FleetError
from testbed.settings import DISK_BYTES, GIB, DeviceSettings, FleetSettings
from testbed.status import DeviceStatus
from testbed.waiting import wait_until

READY_SECONDS = 90
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")


class Fleet:
    """The fleet of this checkout, up or not."""

    def __init__(self) -> None:
        self._groups = cgroups.detect()
        self._lifecycle = lifecycle.Lifecycle(self._groups)

    # The whole fleet

    def up(
        self,
        *,
        lease_seconds: int | None = None,
        status_seconds: int | None = None,
        control_plane_only: bool = False,
        images: bool = True,
    ) -> str:
        """Builds what is missing and starts what does not run; all nodes are Ready and names resolve then.

        Args:
            lease_seconds: life of each kubelet's Lease, 40 unless told otherwise; it renews every quarter.
            status_seconds: how often kubelets work out their Node's status, 10 unless told otherwise.
            control_plane_only: no nodes, enough for tests of the API.
            images: also build and load the product's images.

        Raises:
            FleetError: the machine lacks something, or a part did not start in time.
        """
        with ownership.exclusive():
            plane = self._lifecycle.start_control_plane()
            if control_plane_only:
                return f"the control plane is up: export KUBECONFIG={paths.KUBECONFIG}"
            before = FleetSettings.load(paths.SETTINGS) or FleetSettings.first()
            settings = before.timed(lease_seconds, status_seconds)
            settings.save(paths.SETTINGS)
            devices = [Device(device, self._groups) for device in settings.devices.values()]
            later = " (changed times count from a device's next power-on)" if settings != before else ""
            self._lifecycle.build_images(product=images)
            self._lifecycle.boot(plane, devices)
            return f"the fleet is up with {', '.join(settings.devices)}{later}: export KUBECONFIG={paths.KUBECONFIG}"

    def down(self) -> str:
        """Ends everything and leaves nothing on the machine but logs and caches."""
        with ownership.exclusive():
            return self._lifecycle.sweep()

    @property
    def running(self) -> bool:
        """Whether this checkout's control plane and at least one node run."""
        return ownership.owner() == paths.CHECKOUT and any(device.on for device in self.devices().values())

    def add(
        self,
        name: str,
        *,
        quota_percent: float = 100,
        memory_bytes: int = 2 * GIB,
        disk_bytes: int = DISK_BYTES,
        lease_seconds: int | None = None,
        status_seconds: int | None = None,
    ) -> str:
        """Adds an edge device and waits until it is Ready with all images.

        Its kubelet's times are those of the hub's unless they are given.
        """
        if not _NAME.fullmatch(name):
            raise FleetError(f"{name!r} is no device name: lower-case letters, digits and hyphens, at most 40")
        with ownership.exclusive():
            require_running()
            settings = self._settings()
            if name not in settings.devices:
                hub = next(iter(settings.devices.values()))
                device = DeviceSettings(
                    name,
                    settings.free_index(),
                    quota_percent=quota_percent,
                    memory_bytes=memory_bytes,
                    disk_bytes=disk_bytes,
                    lease_seconds=lease_seconds or hub.lease_seconds,
                    status_seconds=status_seconds or hub.status_seconds,
                )
                settings.with_device(device).save(paths.SETTINGS)
            added = self.device(name)
            if added.on:
                return f"{name} is in the fleet already"
            awake = [device for device in self.devices().values() if device.on or device.name == name]
            self._lifecycle.boot(self._lifecycle.plane(), awake)
            return f"{name} is added and Ready"

    def remove(self, name: str) -> str:
        """Takes an edge device out of the fleet, with its Node and its disk."""
        with ownership.exclusive():
            if name not in self.devices():
                return f"{name} is not in the fleet"
            device = self.device(name)
            if not device.settings.edge:
                raise FleetError(f"{name} is no edge device: it stays")
            require_running()
            device.power_off()
            self._lifecycle.plane().api.delete(f"/api/v1/nodes/{name}")
            device.discard()
            self._settings().without_device(name).save(paths.SETTINGS)
            return f"{name} is removed"

    def build(self) -> str:
        """Builds the programs that are missing in the cache."""
        folder = self._lifecycle.build()
        binaries.link_programs(folder)
        return f"all programs are in {paths.BIN}"

    def images(self) -> str:
        """Builds the images that are missing in the cache and loads them into the devices that are on."""
        self._lifecycle.build_images()
        return self.load()

    def load(self) -> str:
        """Loads the built images into the devices that are on and lack them."""
        with ownership.exclusive():
            return self._lifecycle.load([device for device in self.devices().values() if device.on])

    def status(self) -> list[DeviceStatus]:
        """The state of every node, the hub first."""
        return [device_status.of(device) for device in self.devices().values()]

    def limit_clients(self, limits: ClientLimits | None) -> str:
        """Starts controller manager and scheduler anew with other limits on their calls; None for Kubernetes' own."""
        with ownership.exclusive():
            require_running()
            self._lifecycle.plane().restart_controllers(limits)
            pace = f"{limits.qps} requests a second" if limits else "their own limits"
            return f"controller manager and scheduler start anew with {pace}"

    # The control plane's faults

    def stall(self, component: str) -> str:
        """Stops etcd, the API server, the controller manager or the scheduler where it is."""
        with ownership.exclusive():
            process = self._component(component)
            if process.stalled:
                return f"{component} stalls already"
            process.send(signal.SIGSTOP)
            wait_until(lambda: process.stalled, f"{component} stalls", seconds=10)
            return f"{component} stalls"

    def unstall(self, component: str) -> str:
        """Lets a component that stalls go on."""
        with ownership.exclusive():
            process = self._component(component)
            if not process.stalled:
                return f"{component} does not stall"
            process.send(signal.SIGCONT)
            wait_until(lambda: not process.stalled, f"{component} goes on", seconds=10)
            return f"{component} goes on"

    def kill(self, component: str) -> str:
        """Ends a component of the control plane at once."""
        with ownership.exclusive():
            if component not in COMPONENTS:
                raise FleetError(f"no component {component}: there are {', '.join(COMPONENTS)}")
            process = processes.find(component)
            if process is None or not process.alive:
                return f"{component} does not run"
            process.end(1, signal.SIGKILL)
            return f"{component} is killed"

    def start(self) -> str:
        """Starts what of the control plane does not run, and waits until the API server is ready."""
        with ownership.exclusive():
            self._settings()
            if all(processes.running(component) for component in COMPONENTS):
                return "the control plane runs already"
            self._lifecycle.plane().start()
            return "the control plane runs"

    def kill_pod(self, namespace: str, name: str) -> str:
        """Kills every process of a pod's containers, as for lack of memory; its kubelet may start them again."""
        uid = self.kubectl("get", "pod", name, "--namespace", namespace, "--output=jsonpath={.metadata.uid}")
        killed = [process for process in containers.processes_of(uid) if processes.kill(process)]
        return f"{len(killed)} processes of pod {name} are killed"

    def _component(self, name: str) -> processes.Process:
        if name not in COMPONENTS:
            raise FleetError(f"no component {name}: there are {', '.join(COMPONENTS)}")
        process = processes.find(name)
        if process is None or not process.alive:
            raise FleetError(f"{name} does not run: `fleet start` starts it")
        return process

    # A device's switches

    def power_off(self, name: str) -> str:
        """Cuts the power: what was not synced to the disk is lost."""
        with ownership.exclusive():
            return f"{name} is off" if self.device(name).power_off() else f"{name} is off already"

    def power_on(self, name: str, *, wait: bool = True) -> str:
        """Boots a device that is off; with `wait`, until its Node is Ready."""
        with ownership.exclusive():
            require_running()
            device = self.device(name)
            if device.on:
                return f"{name} is on already"
            self._lifecycle.power_on(device)
            if wait and device.plugged:
                self._lifecycle.wait_ready(device)
                return f"{name} is on and Ready"
            return f"{name} is on"

    def unplug(self, name: str) -> str:
        """Pulls the network cable."""
        with ownership.exclusive():
            changed = self.device(name).set_cable(plugged=False)
            return f"{name} is unplugged" if changed else f"{name} is unplugged already"

    def plug(self, name: str) -> str:
        """Plugs the network cable in."""
        with ownership.exclusive():
            changed = self.device(name).set_cable(plugged=True)
            return f"{name} is plugged in" if changed else f"{name} is plugged in already"

    def hang(self, name: str) -> str:
        """Stops all processes of a device where they are."""
        with ownership.exclusive():
            return f"{name} hangs" if self.device(name).set_pulse(beating=False) else f"{name} hangs already"

    def resume(self, name: str) -> str:
        """Lets a device that hangs go on."""
        with ownership.exclusive():
            return f"{name} goes on" if self.device(name).set_pulse(beating=True) else f"{name} does not hang"

    def heat(self, name: str, celsius: float) -> str:
        """Sets the temperature that a device's thermal zone shows."""
        with ownership.exclusive():
            if not -50 <= celsius <= 200:
                raise FleetError(f"{celsius:g} °C is out of range: -50 to 200")
            self._save(replace(self.device(name).settings, celsius=celsius))
            hostroot.heat(name, celsius)
            return f"{name} is at {celsius:g} °C"

    def quota(self, name: str, percent: float) -> str:
        """Bounds a device's CPU to `percent` of one core; the cores that its Node has follow at the next power-on."""
        with ownership.exclusive():
            if not 1 <= percent <= 6400:
                raise FleetError(f"a quota of {percent:g} % is out of range: 1 % to 6400 % of one core")
            device = self.device(name)
            device.set_quota(percent)
            self._save(replace(device.settings, quota_percent=percent))
            return f"{name} has {percent:g} % of one core"

    def fill(self, name: str, percent: float) -> str:
        """Fills a device's disk to `percent`; 0 frees it and loads the images that the full disk cost it."""
        with ownership.exclusive():
            device = self.device(name)
            used = device.fill(percent)
            if percent == 0:
                self._lifecycle.load([device])
            return f"{name}'s disk is {used:.1f} % full"

    # Looking in

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 120) -> str:
        """Standard output of `kubectl ARGUMENTS` against this fleet; `stdin` is what it reads.

        Raises:
            FleetError: kubectl exits with anything but 0, or not within `seconds`.
        """
        return kubectl(paths.KUBECONFIG, *arguments, stdin=stdin, seconds=seconds)

    def logs(self, name: str) -> list[Path]:
        """The log files of a device, or of a component such as kube-apiserver."""
        folder = paths.LOGS / name
        files = sorted(folder.glob("*.log")) if folder.is_dir() else [paths.LOGS / f"{name}.log"]
        if not all(file.exists() for file in files):
            known = sorted({entry.name.removesuffix(".log") for entry in paths.LOGS.glob("*")})
            raise FleetError(f"no logs of {name}: there are {', '.join(known)}")
        return files

    def wait_ready(self, name: str, seconds: float = READY_SECONDS) -> None:
        """Waits until the Node of device `name` is Ready."""
        self._lifecycle.wait_ready(self.device(name), seconds)

    def devices(self) -> dict[str, Device]:
        """All nodes by name, the hub first; empty when the fleet is down."""
        ownership.require()
        settings = FleetSettings.load(paths.SETTINGS) if ownership.owner() == paths.CHECKOUT else None
        wanted: Iterable[DeviceSettings] = settings.devices.values() if settings else ()
        return {device.name: Device(device, self._groups) for device in wanted}

    def device(self, name: str) -> Device:
        """The node `name`.

        Raises:
            FleetError: the fleet has none of that name.
        """
        devices = self.devices()
        if not devices:
            raise FleetError("the fleet is down: start it with `make up` or `fleet up`")
        if name not in devices:
            raise FleetError(f"no device {name} in the fleet: there are {', '.join(devices)}")
        return devices[name]

    def _settings(self) -> FleetSettings:
        settings = FleetSettings.load(paths.SETTINGS)
        if settings is None:
            raise FleetError("the fleet is down: start it with `make up` or `fleet up`")
        return settings

    def _save(self, device: DeviceSettings) -> None:
        self._settings().with_device(device).save(paths.SETTINGS)
