"""The fake cluster's devices: a kubelet that runs pods, an agent that beats and sends results home; and their gateway.

A device loses power, its uplink, its agent, its kubelet or its disk, apart from each other, and gets hot.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from edgewise.domain.views import BeatView, PodPhase, PodView
from edgewise_agent import wire

from tests.domain.simulator_api import Api

GIB = 2**30
INTERVAL = timedelta(seconds=10)
OUT_OF_MEMORY = 137


@dataclass(slots=True)
class Container:
    """The app of one pod, as its device knows it."""

    ends_at: datetime
    exit_code: int | None
    """how it will end, or has ended"""
    reason: str = ""
    ended: bool = False
    stranded: bool = False


@dataclass(slots=True)
class Volume:
    """The outputs of one pod."""

    pod: PodView
    state: wire.VolumeState = wire.VolumeState.LIVE
    over_limit: bool = False
    no_room: bool = False
    kept: bool = False
    """whether the device has a copy of what the gateway has acknowledged"""


@dataclass(slots=True)
class Gateway:
    """Where results arrive; it asks until the verdict is final."""

    up: bool = True
    pending: dict[str, wire.Manifest] = field(default_factory=dict)
    told: dict[str, wire.Verdict] = field(default_factory=dict)
    """final verdicts by pod UID"""
    published: dict[str, str] = field(default_factory=dict)
    """the pod whose results are a job's, by job UID"""
    forgotten: set[str] = field(default_factory=set)
    """the pods whose acknowledged results it has lost, and not got again"""

    def restore(self, rng: Random) -> None:
        """Its volume is put back to what it was before it acknowledged some of what nobody has settled."""
        for uid in [uid for uid in self.pending if rng.random() < 0.7]:
            del self.pending[uid]
            self.forgotten.add(uid)

    def holds(self, uid: str) -> bool:
        """Whether the pod's results are here, be they settled or not."""
        return uid in self.pending or self.is_settled(uid)

    def is_settled(self, uid: str) -> bool:
        """Whether the pod's results are here to stay."""
        return self.told.get(uid) in (wire.Verdict.PUBLISHED, wire.Verdict.SUPERSEDED)

    def take(self, pod: PodView, now: datetime) -> None:
        """An upload is complete."""
        self.forgotten.discard(pod.uid)
        file = wire.ResultFile(name="faces.csv", bytes_=10, sha256="a" * 64, rows=2)
        self.pending[pod.uid] = wire.Manifest(
            namespace=pod.key.namespace,
            job=pod.job,
            job_uid=pod.job_uid,
            pod_uid=pod.uid,
            attempt=pod.attempt,
            node=pod.node,
            completed_at=now,
            files=(file,),
        )

    def settle(self, manifest: wire.Manifest, verdict: wire.Verdict, succeeded: set[str]) -> None:
        """The operator has spoken."""
        if verdict is wire.Verdict.PENDING:
            return
        del self.pending[manifest.pod_uid]
        self.told[manifest.pod_uid] = verdict
        if verdict is wire.Verdict.PUBLISHED:
            before = self.published.setdefault(manifest.job_uid, manifest.pod_uid)
            assert before == manifest.pod_uid, f"two publications: {before}, {manifest}"
            assert manifest.pod_uid in succeeded, f"published, but not succeeded: {manifest}"


@dataclass(slots=True)
class Device:
    """One device of the fleet."""

    name: str
    rng: Random
    speed: float
    clock_offset: timedelta
    powered: bool = True
    connected: bool = True
    agent: bool = True
    kubelet: bool = True
    celsius: float | None = 45.0
    containers: dict[str, Container] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    beaten_at: datetime | None = None
    wiped: set[str] = field(default_factory=set)
    """the pods whose outputs went with its disk"""
    refused_share: float = 0.03
    """of its uploads, how many the gateway refuses for good"""

    # --- what befalls it

    def power_off(self) -> None:
        """What ran is cut short; what it leaves behind shows when power is back."""
        self.powered = False
        for container in self.containers.values():
            if not container.ended:
                code, reason, stranded = self.rng.choice(((255, "Unknown", False), (None, "", False), (None, "", True)))
                container.ended, container.exit_code, container.reason = True, code, reason
                container.stranded = stranded

    def power_on(self, now: datetime) -> None:
        """Power is back; kubelet and agent start by themselves."""
        self.powered = self.kubelet = self.agent = True
        self.beaten_at = None
        self._spool()

    def wipe(self) -> None:
        """The device is off, and gets an empty disk."""
        self.power_off()
        self.wiped |= self.volumes.keys()
        self.containers.clear()
        self.volumes.clear()

    def heal(self, now: datetime) -> None:
        """All is well again."""
        if not self.powered:
            self.power_on(now)
        self.connected = self.agent = self.kubelet = True
        self.celsius = 45.0

    # --- what it does

    def tick(self, api: Api, gateway: Gateway) -> None:
        """One round of its kubelet and its uploader."""
        if not self.powered:
            return
        for uid, container in self.containers.items():
            if not container.ended and api.now >= container.ends_at:
                self._end(api, uid, container)
        if self.kubelet and self.connected:
            api.heard(self.name)
            self._kubelet(api)
        self._spool()
        if self.agent and self.connected and gateway.up:
            self._upload(api, gateway)

    def _end(self, api: Api, uid: str, container: Container) -> None:
        container.ended = True
        if container.exit_code == 0:
            api.succeeded.add(uid)

    def _spool(self) -> None:
        for uid, volume in self.volumes.items():
            container = self.containers.get(uid)
            if volume.state is wire.VolumeState.LIVE and (container is None or container.ended):
                volume.state = wire.VolumeState.SPOOLED

    def _kubelet(self, api: Api) -> None:
        mine = [pod for pod in api.pods.values() if pod.bound and pod.node == self.name]
        for uid in self.containers.keys() - {pod.uid for pod in mine}:
            del self.containers[uid]
        for pod in mine:
            container = self.containers.get(pod.uid)
            if pod.ended:
                if pod.deleting:
                    api.remove_pod(pod)
            elif container is not None and container.stranded:
                self._stranded(api, pod)
            elif container is not None and container.ended:
                self._report(api, pod, container)
            elif pod.deleting:
                self._stop(api, pod, container)
            elif container is None:
                self._start(api, pod)

    def _stranded(self, api: Api, pod: PodView) -> None:
        if pod.deleting:
            api.remove_pod(pod)
        elif not pod.stranded:
            api.put_pod(pod, phase=PodPhase.PENDING, stranded=True, started_at=None)

    def _stop(self, api: Api, pod: PodView, container: Container | None) -> None:
        """End a pod that is being deleted. Its app may just make it to its end."""
        if container is None:
            api.remove_pod(pod)
            return
        if self.rng.random() < 0.9:
            container.exit_code, container.reason = 143, "Error"
        self._end(api, pod.uid, container)
        self._report(api, pod, container)

    def _report(self, api: Api, pod: PodView, container: Container) -> None:
        done = container.exit_code == 0
        api.put_pod(
            pod,
            phase=PodPhase.SUCCEEDED if done else PodPhase.FAILED,
            finished_at=api.second + self.clock_offset,
            exit_code=container.exit_code,
            reason=container.reason or ("Completed" if done else ""),
            stranded=False,
        )

    def _start(self, api: Api, pod: PodView) -> None:
        if pod.phase is PodPhase.RUNNING:  # its container is gone with the disk
            api.put_pod(pod, phase=PodPhase.FAILED, reason="ContainerStatusUnknown", exit_code=OUT_OF_MEMORY)
            return
        fate = self.rng.random()
        if fate < 0.03:
            api.put_pod(pod, phase=PodPhase.FAILED, reason="UnexpectedAdmissionError", message="no room")
        elif fate < 0.06:
            api.put_pod(pod, waiting_reason="ErrImagePull", waiting_message="no such image")
        elif fate < 0.6:
            ends_at = api.now + timedelta(seconds=self.rng.choice((0.5, 5, 20, 60)) / self.speed)
            code, reason = self.rng.choice(
                ((0, ""), (0, ""), (0, ""), (0, ""), (1, "Error"), (3, "Error"), (OUT_OF_MEMORY, "OOMKilled"))
            )
            self.containers[pod.uid] = Container(ends_at, code, reason)
            if pod.has_outputs:
                self.volumes[pod.uid] = Volume(
                    pod, over_limit=self.rng.random() < 0.03, no_room=self.rng.random() < 0.03
                )
            started_at = api.second + self.clock_offset
            api.put_pod(pod, phase=PodPhase.RUNNING, started_at=started_at, waiting_reason="", waiting_message="")

    def _upload(self, api: Api, gateway: Gateway) -> None:
        """Send one step of what waits. The gateway takes it once the attempt is in the job's status."""
        for uid, volume in self.volumes.items():
            if volume.kept:
                self._check(uid, volume, gateway)
            if volume.state not in (wire.VolumeState.SPOOLED, wire.VolumeState.SENDING) or self.rng.random() < 0.3:
                continue
            job = next((one for one in api.jobs.values() if one.uid == volume.pod.job_uid), None)
            if job is None:
                volume.state = wire.VolumeState.DISCARDED
            elif uid not in {attempt.pod_uid for attempt in job.status.attempts}:
                continue
            elif volume.state is wire.VolumeState.SPOOLED:
                refused = self.rng.random() < self.refused_share
                volume.state = wire.VolumeState.FAILED if refused else wire.VolumeState.SENDING
            else:
                volume.state, volume.kept = wire.VolumeState.DONE, True
                gateway.take(volume.pod, api.second)

    def _check(self, uid: str, volume: Volume, gateway: Gateway) -> None:
        """Keep a copy until its results are settled; send it again if the gateway has lost them."""
        if not gateway.holds(uid):
            volume.state, volume.kept = wire.VolumeState.SPOOLED, False
        elif gateway.is_settled(uid):
            volume.kept = False

    def beat(self, now: datetime) -> BeatView | None:
        """What its agent says now, if it says anything."""
        due = self.beaten_at is None or now - self.beaten_at >= INTERVAL
        if not (self.powered and self.agent and self.connected and due):
            return None
        self.beaten_at = now
        reports = {
            uid: wire.VolumeReport(
                pod_uid=uid,
                job_uid=volume.pod.job_uid,
                attempt=volume.pod.attempt,
                state=volume.state,
                over_limit=volume.over_limit and volume.state is wire.VolumeState.LIVE,
                no_room=volume.no_room and volume.state is wire.VolumeState.LIVE,
            )
            for uid, volume in self.volumes.items()
        }
        metrics = wire.Metrics(
            cpu_free_percent=90,
            memory_available_percent=80,
            memory_free_bytes=6 * GIB,
            disk_free_bytes=10 * GIB,
            celsius=self.celsius,
        )
        return BeatView(
            age=timedelta(),
            received_at=now,
            interval=INTERVAL,
            metrics=metrics,
            benchmark=wire.Benchmark(events_per_second=10_000 * self.speed, measured_at=now.replace(microsecond=0)),
            spool=wire.Spool(bytes_=0, limit_bytes=GIB),
            volumes=reports,
            agent_version="0.1.0",
        )
