"""How the fleet comes up and goes down: the order of the steps, and the sweep that leaves nothing behind."""

import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree

from testbed import (
    binaries,
    cgroups,
    controlplane,
    disks,
    factory,
    images,
    machine,
    meter,
    network,
    ownership,
    packages,
    paths,
    simulation,
    storage,
)
from testbed import processes as recorded_processes
from testbed.commands import run
from testbed.controlplane import ControlPlane
from testbed.device import PROCESS_PREFIX, Device
from testbed.progress import step
from testbed.settings import DeviceSettings, FleetSettings
from testbed.waiting import wait_until

_AT_ONCE = 2
READY_SECONDS = 90


class Lifecycle:
    """Starts and ends the parts of the fleet of this checkout."""

    def __init__(self, groups: cgroups.Cgroups) -> None:
        self._groups = groups

    def build(self) -> Path:
        """Installs missing packages and builds missing programs; the folder of the programs."""
        if absent := packages.missing():
            with step(f"install {len(absent)} Debian packages"):
                packages.install(absent, paths.LOGS / "packages.log")
        return binaries.build()

    def start_control_plane(self) -> ControlPlane:
        """Starts what of the control plane does not run.

        A fleet that `up` left half-way in this life of the machine is taken up
        where it is; what an earlier life left behind is swept away first.
        """
        ownership.require()
        if ownership.owner() != paths.CHECKOUT:
            machine.require()
            self.sweep()
        programs = self.build()
        ownership.claim()
        binaries.link_programs(programs)
        network.create_bridge()
        plane = self.plane()
        plane.start()
        return plane

    def plane(self) -> ControlPlane:
        """The control plane, running or not."""
        return ControlPlane(binaries.program("kube").parent, self._groups)

    def boot(self, plane: ControlPlane, devices: Sequence[Device]) -> None:
        """Powers on those of `devices` that are off; all are Ready then, have their images, and names resolve."""
        self._start_helper(meter.PROCESS, "testbed.meter")
        if new := [device for device in devices if not device.image.exists()]:
            template = factory.disk(images.built(), binaries.program("kube").parent, plane.authority, self._groups)
            with step("copy the factory disk"), ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda device: device.create_disk(template), new))
        with step("boot " + ", ".join(device.name for device in devices)):
            for device in devices:
                self.power_on(device, plane)
            settings = FleetSettings.load(paths.SETTINGS)
            network.route(settings.devices.values() if settings else ())
        with step("all nodes are Ready"):
            for device in devices:
                if device.plugged and not device.hung:
                    self.wait_ready(device)
        self.load([device for device in devices if not device.hung])
        with step("cluster DNS and storage"):
            self._start_helper(storage.PROCESS, "testbed.storage")
            for manifest in sorted((paths.SOURCES / "manifests").glob("*.yaml")):
                run(paths.BIN / "kubectl", "apply", "--server-side", "--kubeconfig", paths.KUBECONFIG, "-f", manifest)
            wait_until(lambda: self._dns_ready(plane), "cluster DNS is ready", seconds=60)

    def power_on(self, device: Device, plane: ControlPlane | None = None) -> None:
        """Boots one device; its Node is not Ready yet."""
        preload = [image.archive for image in images.built(["pause"])]
        authority = (plane or self.plane()).authority
        device.power_on(binaries.program("kube").parent, authority, preload=preload)

    def wait_ready(self, device: Device, seconds: float = READY_SECONDS) -> None:
        """Waits until the kubelet of the device's last boot says that its Node is Ready."""
        plane = self.plane()

        def ready() -> bool:
            status = plane.api.get(f"/api/v1/nodes/{device.name}")["status"]
            conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
            return conditions.get("Ready") == "True" and bool(status["nodeInfo"]["bootID"] == device.boot_id)

        wait_until(ready, f"{device.name} is Ready", seconds=seconds)

    def build_images(self, *, product: bool = True) -> None:
        """Builds the testbed's own images that are missing in the cache, and the product's."""
        images.build([*images.system_images(), *(images.product_images() if product else ())])

    def load(self, devices: Sequence[Device]) -> str:
        """Loads the images that `devices` lack."""
        wanted = images.built()
        with step("load images into devices") as current, ThreadPoolExecutor(_AT_ONCE) as pool:
            loaded = list(pool.map(lambda device: device.load(wanted), devices))
            current.note = "; ".join(f"{d.name}: {', '.join(n)}" for d, n in zip(devices, loaded, strict=True) if n)
        return f"{len(wanted)} images are in {len(devices)} nodes, {sum(map(len, loaded))} of them loaded now"

    def sweep(self) -> str:
        """Ends and removes whatever a running, half-started or crashed fleet has on this machine."""
        ownership.require()
        with step("end what runs, remove what is left"):
            ended = recorded_processes.recorded()
            for process in ended:
                if process.name.startswith(PROCESS_PREFIX):
                    device = Device(DeviceSettings(process.name.removeprefix(PROCESS_PREFIX), 1), self._groups)
                    device.power_off()  # cut, because its disk is thrown away and need not be written out
                    device.end()
            for name in (simulation.PROCESS, meter.PROCESS, storage.PROCESS, *reversed(controlplane.COMPONENTS)):
                if process_left := recorded_processes.find(name):
                    process_left.end(20, signal.SIGKILL)  # what they hold is thrown away
            for image in ownership.disks():
                disks.detach(image)
            network.remove()
            if self._groups.exists(cgroups.TOP):
                self._groups.remove(cgroups.TOP)
            ownership.release()
            for leftover in (paths.ETCD, paths.KEYS, paths.DISKS, paths.MOUNTS, paths.SPECS):
                rmtree(leftover, ignore_errors=True)
            for file in (paths.SETTINGS, paths.KUBECONFIG):
                file.unlink(missing_ok=True)
        return "the fleet is down" if ended else "the fleet was down"

    def _start_helper(self, name: str, module: str) -> None:
        recorded_processes.start(
            name,
            [sys.executable, "-m", module],
            log=paths.LOGS / f"{name}.log",
            groups=self._groups.membership_files(cgroups.CONTROL),
            environment={"PYTHONPATH": str(paths.CHECKOUT)},
        )

    def _dns_ready(self, plane: ControlPlane) -> bool:
        deployment = plane.api.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
        return bool(deployment["status"].get("readyReplicas"))
