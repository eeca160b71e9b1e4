"""The fleet as one object: every verb of the command line is a method that says what it did."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

from testbed import binaries, cgroups, controlplane, hostroot, machine, meter, network, ownership, packages, paths
from testbed import processes as running_processes
from testbed.commands import run
from testbed.controlplane import ControlPlane
from testbed.device import Device
from testbed.errors import FleetError
from testbed.progress import say, step
from testbed.settings import HUB, DeviceSettings, FleetSettings
from testbed.waiting import wait_until


class Fleet:
    """The fleet of this checkout."""

    def __init__(self) -> None:
        self._groups = cgroups.detect()

    def up(self, *, lease_seconds: int = 40, status_seconds: int = 10, control_plane_only: bool = False) -> str:
        """Builds what is missing and starts what does not run."""
        with ownership.exclusive():
            ownership.require()
            plane = self._start_control_plane()
            if control_plane_only:
                return f"The control plane is up: export KUBECONFIG={paths.KUBECONFIG}"
            settings = FleetSettings.load(paths.SETTINGS) or FleetSettings.first(lease_seconds, status_seconds)
            settings.save(paths.SETTINGS)
            self._boot(plane, settings.devices.values())
            return f"The fleet is up, with {', '.join(settings.devices)}: export KUBECONFIG={paths.KUBECONFIG}"

    def _start_control_plane(self) -> ControlPlane:
        if not self.running:
            machine.require()
            if absent := packages.missing():
                with step(f"install {len(absent)} Debian packages"):
                    packages.install(absent, paths.LOGS / "packages.log")
            self._sweep()
        programs = binaries.build()
        ownership.claim()
        binaries.link_programs(programs)
        network.create_bridge()
        plane = ControlPlane(programs, self._groups)
        plane.start()
        return plane

    def _boot(self, plane: ControlPlane, wanted: Iterable[DeviceSettings]) -> None:
        devices = [Device(settings, self._groups) for settings in wanted]
        programs = binaries.build()
        log = paths.LOGS / "meter.log"
        running_processes.start(
            meter.PROCESS,
            [sys.executable, "-m", "testbed.meter"],
            log=log,
            groups=self._groups.membership_files(cgroups.CONTROL),
            environment={"PYTHONPATH": str(paths.CHECKOUT)},
        )
        with step("boot " + ", ".join(device.name for device in devices)):
            for device in devices:
                device.power_on(programs, plane.authority, [])
            network.route(device.settings for device in devices)
        for device in devices:
            with step(f"{device.name} is Ready"):
                wait_until(lambda name=device.name: self._ready(plane, name), f"{device.name} is Ready", seconds=90)

    def _ready(self, plane: ControlPlane, name: str) -> bool:
        node = plane.api.get(f"/api/v1/nodes/{name}")
        conditions = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", [])}
        return conditions.get("Ready") == "True"

    @property
    def running(self) -> bool:
        """Whether the control plane runs."""
        return all(running_processes.running(name) for name in controlplane.COMPONENTS)

    def down(self) -> str:
        """Ends everything and leaves nothing behind but the caches and the logs."""
        with ownership.exclusive():
            ownership.require()
            with step("end all devices and the control plane"):
                self._sweep()
            return "The fleet is down."

    def _sweep(self) -> None:
        """Removes whatever a running, half-started or crashed fleet left."""
        for process in running_processes.recorded():
            if process.name.startswith("device-"):
                Device(DeviceSettings(process.name.removeprefix("device-"), 1), self._groups).end()
        for process in running_processes.recorded():
            process.end(5)
        network.remove()
        if self._groups.exists(cgroups.TOP):
            self._groups.remove(cgroups.TOP)
        ownership.release()
        for leftover in (paths.ETCD, paths.KEYS, paths.DISKS, paths.MOUNTS, paths.SPECS):
            rmtree(leftover, ignore_errors=True)
        for file in (paths.SETTINGS, paths.KUBECONFIG):
            file.unlink(missing_ok=True)
