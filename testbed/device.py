"""A device as the host sees it: its switches (power, cable, pulse, heat, quota, disk) and its state.

A device is one process of the host (`unshare`) whose child is process 1 of the
device's namespaces; ending that one process ends all of the device at once.
What happens inside is boot.py's.
"""

import json
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed import cgroups, controlplane, disks, hostroot, images, network, nodeconfig, paths, processes
from testbed.certificates import Authority, kubeconfig
from testbed.commands import run
from testbed.errors import FleetError
from testbed.settings import DeviceSettings
from testbed.waiting import wait_until

PROCESS_PREFIX = "device-"


@dataclass(frozen=True, slots=True)
class Device:
    """Device `settings.name` of the fleet whose control groups are `groups`."""

    settings: DeviceSettings
    groups: cgroups.Cgroups

    @property
    def name(self) -> str:
        """The device's and its Node's name."""
        return self.settings.name

    @property
    def group(self) -> str:
        """The control group that holds all of it."""
        return cgroups.device_group(self.name)

    @property
    def on(self) -> bool:
        """Whether it has power."""
        return processes.running(PROCESS_PREFIX + self.name)

    @property
    def hung(self) -> bool:
        """Whether it has power but no pulse."""
        return self.on and self.groups.frozen(self.group)

    @property
    def plugged(self) -> bool:
        """Whether its network cable is plugged in."""
        return network.plugged(self.settings)

    @property
    def image(self) -> Path:
        """Its disk's image."""
        return paths.DISKS / f"{self.name}.ext4"

    @property
    def logs(self) -> Path:
        """The folder with the logs of its boot and its services; on the host, so a power cut spares them."""
        return paths.LOGS / self.name

    @property
    def quota_percent(self) -> float | None:
        """Its CPU bound now, in percent of one core."""
        return self.groups.cpu_percent(self.group) if self.groups.exists(self.group) else self.settings.quota_percent

    @property
    def boot_id(self) -> str:
        """The id of its last boot, which its Node shows once that boot's kubelet reports."""
        boot_id: str = json.loads(self._spec.read_text())["boot_id"]
        return boot_id

    def root(self) -> Path:
        """The device's file system as a path of the host.

        Raises:
            FleetError: it is off.
        """
        init = self._init()
        if init is None:
            raise FleetError(f"{self.name} is off: `fleet power-on {self.name}` first")
        return Path(f"/proc/{init}/root")

    def disk(self) -> Path:
        """Its mounted disk as a path of the host."""
        return self.root() / str(self._mountpoint).lstrip("/")

    def socket(self) -> Path:
        """Its containerd's socket as a path of the host."""
        return self.root() / nodeconfig.CONTAINERD_SOCKET.lstrip("/")

    def power_on(
        self,
        programs: Path,
        authority: Authority,
        *,
        preload: Sequence[Path] = (),
        services: Sequence[str] = (),
    ) -> bool:
        """Boots the device; False when it has power already. Does not wait for its Node.

        Args:
            programs: the folder with kubelet and kube-proxy.
            authority: signs the device's certificate.
            preload: archives of images that must be there before the kubelet starts.
            services: start these only; all without any.
        """
        if self.on:
            return False
        self._clear()
        self.create_disk()
        network.connect(self.settings)
        system = f"{self.group}/system"
        self.groups.create(system)
        self.groups.set_cpu_percent(self.group, self.settings.quota_percent)
        self.groups.set_cpu_weight(self.group, 1 if self.settings.edge else cgroups.HOME_WEIGHT)
        self.groups.set_memory_limit(self.group, self.settings.memory_bytes)
        hostroot.create(self.name, self.settings.celsius)
        for folder in (self._mountpoint, Path(f"{self._mountpoint}.host"), self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        processes.start(
            PROCESS_PREFIX + self.name,
            [
                *("nsenter", f"--net={network.namespace(self.name)}"),
                *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("--propagation", "private"),
                *(sys.executable, "-I", "-S", paths.SOURCES / "boot.py"),
                self._write_spec(programs, authority, preload, services),
            ],
            log=self.logs / "boot.log",
            groups=self.groups.membership_files(system),
        )
        wait_until(self._init, f"{self.name} starts", seconds=10, every_seconds=0.02)
        return True

    def create_disk(self, template: Path | None = None) -> None:
        """Makes its disk, a copy of `template` if that has the size; keeps one that exists."""
        disks.create(self.image, self.settings.disk_bytes, template)

    def power_off(self) -> bool:
        """Cuts the power: nothing unwritten reaches the disk, all processes end at once; False when it is off."""
        if not self.on:
            return False
        with suppress(OSError, FleetError):  # a device that is still booting has no disk yet
            disks.cut(self.disk())
        self.end()
        return True

    def end(self) -> None:
        """Ends all of the device's processes and frees its disk's loop device."""
        process = processes.find(PROCESS_PREFIX + self.name)
        if process and process.alive:
            os.kill(process.pid, signal.SIGKILL)
        if self.groups.exists(self.group):
            self.groups.set_frozen(self.group, frozen=False)  # a frozen v1 group keeps even SIGKILL waiting
        if process:
            process.end(1, signal.SIGKILL)
        self._clear()

    def discard(self) -> None:
        """Throws the device away: its disk, its cable, its figures; it must be off."""
        self.image.unlink(missing_ok=True)
        network.disconnect(self.settings)
        hostroot.remove(self.name)

    def _clear(self) -> None:
        """Waits for the end of what the device held."""
        if self.groups.exists(self.group):
            self.groups.remove(self.group)
        disks.detach(self.image)
        disks.wait_detached(self.image)

    def set_pulse(self, *, beating: bool) -> bool:
        """Stops all processes where they are, or lets them go on; False when it was so already."""
        if not self.on:
            raise FleetError(f"{self.name} is off: it can neither hang nor go on")
        if self.hung == (not beating):
            return False
        self.groups.set_frozen(self.group, frozen=not beating)
        wait_until(lambda: self.hung == (not beating), f"{self.name} {'goes on' if beating else 'hangs'}", seconds=10)
        return True

    def set_cable(self, *, plugged: bool) -> bool:
        """Plugs or pulls the network cable; False when it was so already."""
        if self.plugged == plugged:
            return False
        network.set_cable(self.settings, plugged=plugged)
        return True

    def set_quota(self, percent: float | None) -> None:
        """Bounds the CPU of the running device."""
        if self.groups.exists(self.group):
            self.groups.set_cpu_percent(self.group, percent)

    def fill(self, percent: float) -> float:
        """Fills the disk to `percent` with a filler file (0 removes it); returns what is used then."""
        try:
            return disks.fill(self.disk(), percent)
        except FleetError as error:
            raise FleetError(f"{self.name}: {error}") from error

    def attach(self, image: Path, bytes_: int, at: str) -> Path:
        """Mounts one more disk of that size at the folder `at`, empty; that folder as a path of the host.

        It is not there any more after a reboot.
        """
        disks.create(image, bytes_)
        folder = self.root() / at.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        self._inside("mount", "-o", "loop,noatime,barrier=0", image, at)
        (folder / "lost+found").rmdir()
        return folder

    def detach(self, image: Path, at: str) -> None:
        """Unmounts a disk that `attach` mounted, once nothing uses it, and throws it away."""
        self._inside("umount", at)
        (self.root() / at.lstrip("/")).rmdir()
        disks.wait_detached(image)
        image.unlink()

    def load(self, wanted: Sequence[images.Built]) -> list[str]:
        """Loads those of `wanted` that its containerd lacks; their names.

        Without its CPU bound meanwhile: an image comes from outside, and a slow
        device would take minutes to unpack what it got in a moment. Synced at the
        end, because containerd does not, and a power cut soon after would leave
        images with empty files.
        """
        bound = self.quota_percent
        self.set_quota(None)
        try:
            loaded = images.load(wanted, self.socket())
            if loaded:
                run("sync", "--file-system", self.disk())
            return loaded
        finally:
            self.set_quota(bound)

    @property
    def _spec(self) -> Path:
        return paths.SPECS / f"{self.name}.json"

    @property
    def _mountpoint(self) -> Path:
        return paths.MOUNTS / self.name

    def _inside(self, *command: str | Path) -> None:
        run("nsenter", f"--mount={self.root().parent / 'ns/mnt'}", *command)

    def _init(self) -> int | None:
        process = processes.find(PROCESS_PREFIX + self.name)
        return processes.only_child(process.pid) if process and process.alive else None

    def _write_spec(
        self, programs: Path, authority: Authority, preload: Sequence[Path], services: Sequence[str]
    ) -> Path:
        node = authority.issue(
            f"node-{self.name}", f"system:node:{self.name}", "system:nodes", (self.name, self.settings.address)
        )
        proxy = authority.issue("kube-proxy", "system:kube-proxy")
        identity = nodeconfig.Identity(
            authority=authority.pair.certificate.read_text(),
            certificate=node.certificate.read_text(),
            key=node.key.read_text(),
            kubelet_kubeconfig=kubeconfig(controlplane.API, authority, node),
            proxy_kubeconfig=kubeconfig(controlplane.API, authority, proxy),
        )
        host = nodeconfig.Host(
            cpus=os.cpu_count() or 1,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            cgroup_v1=cgroups.is_v1(self.groups),
        )
        all_services = nodeconfig.services(self.settings, programs)
        spec = {
            "name": self.name,
            "boot_id": str(uuid.uuid4()),
            "disk": str(self.image),
            "mountpoint": str(self._mountpoint),
            "host_root": str(hostroot.folder(self.name)),
            "files": nodeconfig.files(self.settings, host, identity),
            "services": {name: all_services[name] for name in services or all_services},
            "preload": [str(archive) for archive in preload],
            "logs": str(self.logs),
        }
        paths.SPECS.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._spec.write_text(json.dumps(spec))
        return self._spec
