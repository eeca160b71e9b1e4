"""kubelet as the plugin sees it: its folders, its record of a volume, and its gRPC calls over the unix sockets."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewise_agent.settings import Settings
from edgewise_agent.volumes.proto import csi_pb2 as csi
from edgewise_agent.volumes.proto import registration_pb2 as registration
from edgewise_agent.wire import CSI_DRIVER, OutputVolume
from grpclib.client import Channel, UnaryUnaryMethod

JOB_UID = "11111111-1111-4111-8111-111111111111"


def uid(number: int) -> str:
    """A pod's UID."""
    return f"22222222-2222-4222-8222-{number:012d}"


def outputs(**changes: Any) -> OutputVolume:
    """What the operator asks of a volume, as the contract's defaults have it."""
    values = {
        "job_uid": JOB_UID,
        "job": "faces",
        "attempt": 1,
        "include": ("*.csv",),
        "max_files": 1000,
        "size_limit_bytes": 2**30,
    }
    return OutputVolume(**{**values, **changes})


@dataclass
class Pod:
    """A pod with one output volume called `outputs`."""

    kubelet_root: Path
    number: int = 1
    asked: OutputVolume = field(default_factory=outputs)

    @property
    def uid(self) -> str:
        return uid(self.number)

    @property
    def name(self) -> str:
        return f"faces-3f2a1-{self.number}"

    @property
    def volume_id(self) -> str:
        return f"csi-{hashlib.sha256(f'{self.uid}outputs'.encode()).hexdigest()}"

    @property
    def volume_dir(self) -> Path:
        return self.kubelet_root / "pods" / self.uid / "volumes/kubernetes.io~csi/outputs"

    @property
    def target(self) -> Path:
        return self.volume_dir / "mount"

    @property
    def record(self) -> Path:
        return self.volume_dir / "vol_data.json"

    def log_folder(self, pod_logs: Path) -> Path:
        """Where kubelet keeps what the pod's containers say."""
        return pod_logs / f"demo_{self.name}_{self.uid}"

    def say(self, pod_logs: Path, text: str, name: str = "app/0.log") -> None:
        """What the runtime does with the containers' output."""
        path = self.log_folder(pod_logs) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(text)

    def attributes(self) -> dict[str, str]:
        return {
            **self.asked.to_attributes(),
            "csi.storage.k8s.io/pod.name": self.name,
            "csi.storage.k8s.io/pod.namespace": "demo",
            "csi.storage.k8s.io/pod.uid": self.uid,
            "csi.storage.k8s.io/serviceAccount.name": "default",
            "csi.storage.k8s.io/ephemeral": "true",
        }

    def request(self, **changes: Any) -> csi.NodePublishVolumeRequest:
        fields: dict[str, Any] = {
            "volume_id": self.volume_id,
            "target_path": str(self.target),
            "volume_capability": csi.VolumeCapability(mount=csi.VolumeCapability.MountVolume()),
            "volume_context": self.attributes(),
        }
        return csi.NodePublishVolumeRequest(**{**fields, **changes})

    def prepare(self) -> None:
        """What kubelet does before it asks for the volume: the folders, and its record, without fsync."""
        self.volume_dir.mkdir(parents=True, exist_ok=True)
        attachment = hashlib.sha256(f"{self.volume_id}{CSI_DRIVER}edge-1".encode()).hexdigest()
        record = {
            "attachmentID": f"csi-{attachment}",
            "driverName": CSI_DRIVER,
            "nodeName": "edge-1",
            "specVolID": "outputs",
            "volumeHandle": self.volume_id,
            "volumeLifecycleMode": "Ephemeral",
        }
        self.record.write_text(json.dumps(record, separators=(",", ":")) + "\n")

    def clean(self) -> None:
        """What kubelet does after the volume is unpublished."""
        self.record.unlink(missing_ok=True)
        self.volume_dir.rmdir()

    def write(self, **files: str) -> None:
        """What the app does; `a_csv="1"` writes a.csv."""
        for name, content in files.items():
            (self.target / name.replace("_", ".")).write_text(content)


class Kubelet:
    """Calls one agent's plugin."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def call(self, method: str, request: Any, reply: type) -> Any:
        """Any unary method. Raises `GRPCError`."""
        return await UnaryUnaryMethod(self._channel, method, type(request), reply)(request, timeout=20)

    async def publish(self, pod: Pod, **changes: Any) -> None:
        """Ask for the pod's volume."""
        pod.prepare()
        await self.call("/csi.v1.Node/NodePublishVolume", pod.request(**changes), csi.NodePublishVolumeResponse)

    async def unpublish(self, pod: Pod) -> None:
        """Give the pod's volume back."""
        request = csi.NodeUnpublishVolumeRequest(volume_id=pod.volume_id, target_path=str(pod.target))
        await self.call("/csi.v1.Node/NodeUnpublishVolume", request, csi.NodeUnpublishVolumeResponse)

    async def run(self, pod: Pod, **files: str) -> None:
        """A whole pod: publish, write, unpublish, clean."""
        await self.publish(pod)
        pod.write(**files)
        await self.unpublish(pod)
        pod.clean()


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Kubelet]:
    """A kubelet that has found the plugin's socket."""
    channel = Channel(path=str(settings.plugin_socket))
    try:
        yield Kubelet(channel)
    finally:
        channel.close()


async def register(settings: Settings, *, accepted: bool = True) -> registration.PluginInfo:
    """What kubelet does when a socket shows up in its plugins_registry folder."""
    channel = Channel(path=str(settings.registration_socket))
    try:
        get_info = UnaryUnaryMethod(
            channel,
            "/pluginregistration.Registration/GetInfo",
            registration.InfoRequest,
            registration.PluginInfo,
        )
        notify = UnaryUnaryMethod(
            channel,
            "/pluginregistration.Registration/NotifyRegistrationStatus",
            registration.RegistrationStatus,
            registration.RegistrationStatusResponse,
        )
        async with asyncio.timeout(10):
            info: registration.PluginInfo = await get_info(registration.InfoRequest())
            await notify(registration.RegistrationStatus(plugin_registered=accepted, error="" if accepted else "no"))
        return info
    finally:
        channel.close()
