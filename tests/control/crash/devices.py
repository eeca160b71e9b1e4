"""Devices that are Node objects only: their agents, kubelets and the gateway are played here, the API server is real.

A job's arguments say what its container does: how many seconds it runs, then the exit code of each attempt (0 where
none is given). Power and contact of each device are switches; a container outlives lost contact, but no power cut.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from edgewise.domain.pods import ATTEMPT_LABEL, JOB_LABEL, JOB_UID_LABEL, NODE_LABEL, OUTPUTS_VOLUME
from edgewise.kube.client import MERGE_PATCH, KubeClient, Refused, Unreachable
from edgewise_agent import wire
from msgspec import json

from tests.control.crash.door import Door
from tests.control.crash.observer import Object, Observer, has_ended
from tests.control.crash.operators import BEAT_SECONDS

TICK_SECONDS: Final = 0.1
REPORT_SECONDS: Final = 0.7
"""How often a device reports: more often than it promises, so that a busy machine makes no device look silent."""

RENEW_SECONDS: Final = 1.0
STATUS_SECONDS: Final = 10.0
"""How often a kubelet says that its node is ready. Once Kubernetes has given a node up, nobody else takes that back."""

_AMOUNTS: Final = {"cpu": "4", "memory": "8Gi", "pods": "60"}
READY: Final = {
    "status": {
        "capacity": _AMOUNTS,
        "allocatable": _AMOUNTS,
        "nodeInfo": {"architecture": "amd64"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played by a test"}],
    }
}
GRACE_SECONDS: Final = 5.0
"""How long after its return a device counts as out of contact still: what was decided before may yet be carried out."""

GIB: Final = 2**30
CONTENT: Final = b"a\n1\n"
INTERRUPTED: Final = 255


@dataclass(slots=True)
class Container:
    """What runs, or ran, on a device for a pod."""

    job_uid: str
    ends_at: float
    exit_code: int
    has_ended: bool = False


@dataclass(slots=True)
class Device:
    """One device."""

    name: str
    benchmark: float
    powered: bool = True
    connected: bool = True
    out_of_contact_at: float = -GRACE_SECONDS
    containers: dict[str, Container] = field(default_factory=dict)
    """by pod UID"""
    volumes: dict[str, wire.VolumeReport] = field(default_factory=dict)
    """by pod UID"""
    boot: str = field(default_factory=lambda: uuid4().hex)
    sequence: int = 0

    @property
    def in_contact(self) -> bool:
        """Whether it can be reached."""
        return self.powered and self.connected

    def cut_power(self) -> None:
        """End all that runs on it."""
        self.powered = False
        self.containers.clear()

    def tick(self) -> None:
        """Let what runs on it go on."""
        now = time.monotonic()
        if not self.in_contact:
            self.out_of_contact_at = now
        if self.powered:
            for container in self.containers.values():
                container.has_ended = container.has_ended or now >= container.ends_at

    def beat(self) -> wire.Beat:
        """Its next beat."""
        self.sequence += 1
        now = datetime.now(UTC)
        return wire.Beat(
            node=self.name,
            boot=self.boot,
            sequence=self.sequence,
            sampled_at=now,
            interval_seconds=BEAT_SECONDS,
            metrics=wire.Metrics(
                cpu_free_percent=90,
                memory_available_percent=80,
                memory_free_bytes=4 * GIB,
                disk_free_bytes=9 * GIB,
                celsius=45,
            ),
            spool=wire.Spool(bytes_=0, limit_bytes=GIB),
            benchmark=wire.Benchmark(events_per_second=self.benchmark, measured_at=now),
            volumes=tuple(self.volumes.values()),
        )


@dataclass(slots=True)
class Devices:
    """All devices, and the gateway. `run` plays them."""

    client: KubeClient
    namespace: str
    door: Door
    observer: Observer
    tokens: Mapping[str, str]
    """by device, and the gateway's under `gateway`"""
    devices: dict[str, Device]
    verdicts: dict[str, wire.Verdict] = field(default_factory=dict)
    """what the operator said of results in the end, by pod UID"""
    overlaps: list[str] = field(default_factory=list)
    """containers that began while another of the same job ran on a device in contact"""
    _manifests: dict[str, wire.Manifest] = field(default_factory=dict)
    """results that the gateway holds, without a final verdict"""

    def reachable(self, name: str) -> bool:
        """Whether a device has been in contact all along the last seconds."""
        return time.monotonic() - self.devices[name].out_of_contact_at > GRACE_SECONDS

    async def run(self) -> None:
        """Play, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for device in self.devices.values():
                group.create_task(self._kubelet(device))
                group.create_task(self._renew(device))
                group.create_task(self._say_ready(device))
                group.create_task(self._report(device))
            group.create_task(self._collect())

    @property
    def settled(self) -> bool:
        """Whether the gateway waits for no verdict."""
        return not self._manifests

    # --- agents

    async def _report(self, device: Device) -> None:
        while True:
            answer = None
            if device.in_contact:
                answer = await self.door.post("/v1/beats", self.tokens[device.name], json.encode(device.beat()))
            await asyncio.sleep(REPORT_SECONDS if answer is not None else REPORT_SECONDS / 2)

    async def _collect(self) -> None:
        """The gateway: it asks about each manifest until the verdict is final."""
        while True:
            for uid, manifest in list(self._manifests.items()):
                answer = await self.door.post("/v1/manifests", self.tokens["gateway"], json.encode(manifest))
                if answer is not None:
                    verdict = json.decode(answer, type=wire.ManifestVerdict).verdict
                    if verdict is not wire.Verdict.PENDING:
                        self.verdicts[uid] = verdict
                        del self._manifests[uid]
            await asyncio.sleep(3 * TICK_SECONDS)

    # --- kubelets

    async def _renew(self, device: Device) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{device.name}"
        while True:
            if device.in_contact:
                now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
                await self._try("PATCH", path, {"spec": {"renewTime": now}})
            await asyncio.sleep(RENEW_SECONDS)

    async def _say_ready(self, device: Device) -> None:
        while True:
            if device.in_contact:
                await self._try("PATCH", f"/api/v1/nodes/{device.name}/status", READY)
            await asyncio.sleep(STATUS_SECONDS)

    async def _kubelet(self, device: Device) -> None:
        while True:
            device.tick()
            if device.in_contact:
                for pod in list(self.observer.pods.values()):
                    if pod["spec"].get("nodeName") == device.name:
                        await self._step(device, pod)
            await asyncio.sleep(TICK_SECONDS)

    async def _step(self, device: Device, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if pod["metadata"].get("deletionTimestamp"):
            device.containers.pop(uid, None)
            await self._delete(pod)
        elif not has_ended(pod):
            container = device.containers.get(uid)
            if container is None and pod["status"]["phase"] == "Pending":
                self._start(device, pod)
                await self._tell(pod, "Running", {"running": {"startedAt": _now()}})
            elif container is None:
                await self._ended(device, pod, INTERRUPTED)
            elif container.has_ended:
                await self._ended(device, pod, container.exit_code)

    def _start(self, device: Device, pod: Object) -> None:
        labels, uid = pod["metadata"]["labels"], pod["metadata"]["uid"]
        seconds, *codes = [float(word) for word in pod["spec"]["containers"][0]["args"]]
        attempt, job_uid = int(labels[ATTEMPT_LABEL]), labels[JOB_UID_LABEL]
        for other in self.devices.values():
            beside = any(one.job_uid == job_uid and not one.has_ended for one in other.containers.values())
            if beside and self.reachable(other.name):
                self.overlaps.append(f"{pod['metadata']['name']} began while {other.name} runs an attempt")
        code = int(codes[attempt - 1]) if attempt <= len(codes) else 0
        device.containers[uid] = Container(job_uid, time.monotonic() + seconds, code)
        if any(volume["name"] == OUTPUTS_VOLUME for volume in pod["spec"].get("volumes", ())):
            device.volumes[uid] = wire.VolumeReport(
                pod_uid=uid, job_uid=job_uid, attempt=attempt, state=wire.VolumeState.LIVE
            )

    async def _ended(self, device: Device, pod: Object, code: int) -> None:
        uid, labels = pod["metadata"]["uid"], pod["metadata"]["labels"]
        if code == 0 and uid in device.volumes and uid not in self.verdicts:
            self._manifests[uid] = wire.Manifest(
                namespace=self.namespace,
                job=labels[JOB_LABEL],
                job_uid=labels[JOB_UID_LABEL],
                pod_uid=uid,
                attempt=int(labels[ATTEMPT_LABEL]),
                node=labels[NODE_LABEL],
                completed_at=datetime.now(UTC),
                files=(
                    wire.ResultFile(
                        name="a.csv", bytes_=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), rows=1
                    ),
                ),
            )
        reason = "Completed" if code == 0 else "Unknown" if code == INTERRUPTED else "Error"
        ended = {"exitCode": code, "reason": reason, "startedAt": _now(), "finishedAt": _now()}
        await self._tell(pod, "Failed" if code else "Succeeded", {"terminated": ended})

    async def _tell(self, pod: Object, phase: str, state: dict[str, Any]) -> None:
        status = {"name": "app", "image": "none", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        patch = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"phase": phase, "containerStatuses": [status]}}
        await self._try("PATCH", f"{_path(pod)}/status", patch)

    async def _delete(self, pod: Object) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        await self._try("DELETE", _path(pod), options)

    async def _try(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        """A kubelet's call; what fails is tried again with the next tick."""
        form = MERGE_PATCH if method == "PATCH" else "application/json"
        try:
            await self.client.ask(method, path, body, content_type=form)
        except (Refused, Unreachable):
            return


def _path(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
