"""Slim shapes of the objects that the operator reads, and how they become the views that decisions look at."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from sys import intern
from typing import Any

from edgewise_agent.wire import BUNDLE_ATTRIBUTE
from msgspec import DecodeError, Raw, Struct, field, json
from pydantic import ValidationError

from edgewise.api import EdgeApp, EdgeCronJob, EdgeJob, EdgeNode, EdgeStream, PlacementStatus
from edgewise.domain.images import full_name
from edgewise.domain.pods import (
    ATTEMPT_LABEL,
    JOB_LABEL,
    JOB_UID_LABEL,
    NODE_LABEL,
    OUTPUTS_VOLUME,
    PLACEMENT_ANNOTATION,
    SOURCE_VOLUME,
)
from edgewise.domain.runs import RUN_NOW_ANNOTATION
from edgewise.domain.views import (
    AppView,
    CronView,
    JobView,
    Key,
    KubeNode,
    NodeView,
    PodPhase,
    PodView,
    StreamView,
    Taint,
)
from edgewise.notation import parse_quantity


class Owner(Struct, frozen=True):
    """Who an object belongs to."""

    kind: str = ""
    uid: str = ""
    controller: bool = False


class Meta(Struct, rename="camel", frozen=True):
    """An object's metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = "0"
    creation_timestamp: datetime = datetime.fromtimestamp(0, UTC)
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[Owner] = []


class Terminated(Struct, rename="camel", frozen=True):
    """How a container ended."""

    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Waiting(Struct, frozen=True):
    """Why a container does not run."""

    reason: str = ""
    message: str = ""


class Running(Struct, rename="camel", frozen=True):
    """Since when a container runs."""

    started_at: datetime | None = None


class ContainerState(Struct, frozen=True):
    """One of three."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Struct, frozen=True):
    """A container's state."""

    state: ContainerState = ContainerState()
    container_id: str = field(default="", name="containerID")


class ConditionStruct(Struct, frozen=True, rename="camel"):
    """A condition of a Pod or Node."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class PodStatus(Struct, rename="camel", frozen=True):
    """What kubelet and scheduler say of a pod."""

    phase: PodPhase = PodPhase.PENDING
    reason: str = ""
    message: str = ""
    conditions: list[ConditionStruct] = []
    container_statuses: list[ContainerStatus] = []


class Amounts(Struct, frozen=True):
    """A container's resources, as quantities."""

    requests: dict[str, str] = {}


class Container(Struct, frozen=True):
    """A container of a pod."""

    resources: Amounts = Amounts()


class CsiSource(Struct, rename="camel", frozen=True):
    """What a CSI volume asks of its driver."""

    volume_attributes: dict[str, str] = {}


class PodVolume(Struct, frozen=True):
    """A volume of a pod."""

    name: str
    csi: CsiSource | None = None


class PodSpec(Struct, rename="camel", frozen=True):
    """What a pod asks for."""

    node_name: str = ""
    containers: list[Container] = []
    volumes: list[PodVolume] = []


class PodObject(Struct, frozen=True):
    """A Pod."""

    metadata: Meta
    spec: PodSpec
    status: PodStatus = PodStatus()

    def view(self, running_since: datetime | None) -> PodView:
        """The pod as decisions see it. Raises ValueError for one that the operator can't have made."""
        labels, status = self.metadata.labels, self.status
        job, job_uid, attempt = (
            labels.get(JOB_LABEL, ""),
            labels.get(JOB_UID_LABEL, ""),
            int(labels.get(ATTEMPT_LABEL, "")),
        )
        if self.metadata.name != f"{job}-{job_uid[:5]}-{attempt}" or attempt < 1 or not labels.get(NODE_LABEL):
            raise ValueError("its labels do not fit its name")
        if not any(
            one.controller and one.kind == "EdgeJob" and one.uid == job_uid for one in self.metadata.owner_references
        ):
            raise ValueError("its controller is not the job of its labels")
        container = status.container_statuses[0] if status.container_statuses else ContainerStatus()
        state = container.state
        ended, waiting = state.terminated, state.waiting
        started_at = ended.started_at if ended else state.running.started_at if state.running else None
        conditions = {one.type: one for one in status.conditions}
        scheduled, sandbox = conditions.get("PodScheduled"), conditions.get("PodReadyToStartContainers")
        stranded = bool(container.container_id) and waiting is not None and not waiting.reason
        return PodView(
            key=Key(self.metadata.namespace, self.metadata.name),
            uid=self.metadata.uid,
            resource_version=self.metadata.resource_version,
            job_uid=job_uid,
            job=job,
            attempt=attempt,
            node=labels[NODE_LABEL],
            placement=_placement(self.metadata.annotations.get(PLACEMENT_ANNOTATION, "")),
            phase=status.phase,
            bound=bool(self.spec.node_name),
            deleting=self.metadata.deletion_timestamp is not None,
            created_at=self.metadata.creation_timestamp,
            running_since=running_since,
            started_at=started_at,
            finished_at=ended.finished_at if ended else None,
            exit_code=ended.exit_code if ended else None,
            reason=status.reason or (ended.reason if ended else ""),
            message=(ended.message if ended else "") or status.message,
            waiting_reason=waiting.reason if waiting else "",
            waiting_message=waiting.message if waiting else "",
            stranded=stranded and sandbox is not None and sandbox.status == "False",
            unschedulable=scheduled.message if scheduled and scheduled.reason == "Unschedulable" else "",
            requests=_summed(self.spec.containers),
            has_outputs=any(volume.name == OUTPUTS_VOLUME for volume in self.spec.volumes),
            bundle=next(filter(None, map(_bundle_of, self.spec.volumes)), ""),
        )


def _bundle_of(volume: PodVolume) -> str:
    """The SHA-256 of the bundle that the volume holds; empty for other volumes."""
    return volume.csi.volume_attributes.get(BUNDLE_ATTRIBUTE, "") if volume.csi and volume.name == SOURCE_VOLUME else ""


class TaintStruct(Struct, frozen=True):
    """A taint of a Node."""

    key: str
    effect: str
    value: str = ""


class NodeSpec(Struct, frozen=True):
    """What the cluster says of a node."""

    unschedulable: bool = False
    taints: list[TaintStruct] = []


class NodeInfo(Struct, frozen=True):
    """What kubelet says of the machine."""

    architecture: str = ""


class NodeImage(Struct, frozen=True):
    """An image that a node has."""

    names: list[str] | None = None


class NodeStatus(Struct, rename="camel", frozen=True):
    """What kubelet says of a node."""

    allocatable: dict[str, str] = {}
    conditions: list[ConditionStruct] = []
    node_info: NodeInfo = field(default_factory=NodeInfo)
    images: list[NodeImage] | None = None


class NodeObject(Struct, frozen=True):
    """A Node."""

    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    def view(self) -> KubeNode:
        """The node as decisions see it."""
        ready = next((one for one in self.status.conditions if one.type == "Ready"), ConditionStruct("Ready"))
        return KubeNode(
            uid=self.metadata.uid,
            labels=self.metadata.labels,
            taints=tuple(Taint(one.key, one.value, one.effect) for one in self.spec.taints),
            unschedulable=self.spec.unschedulable,
            ready={"True": True, "False": False}.get(ready.status),
            ready_since=ready.last_transition_time,
            allocatable={name: float(parse_quantity(amount)) for name, amount in self.status.allocatable.items()},
            architecture=self.status.node_info.architecture,
            # A fleet has few images: each name is held once, not once a device.
            images=frozenset(
                intern(full_name(name)) for image in self.status.images or () for name in image.names or ()
            ),
        )


def decode_pod(raw: bytes | Raw) -> PodObject:
    """A Pod from JSON."""
    return json.decode(raw, type=PodObject)


def decode_node(raw: bytes | Raw) -> NodeObject:
    """A Node from JSON."""
    return json.decode(raw, type=NodeObject)


def app_view(raw: Any) -> AppView:
    """An EdgeApp as decisions see it. Raises pydantic's ValidationError."""
    app = EdgeApp.model_validate(raw)
    meta = app.metadata
    key = Key(meta.namespace, meta.name)
    return AppView(key, meta.uid, meta.generation, meta.resource_version, app.spec, app.status)


def job_view(raw: Any) -> JobView:
    """An EdgeJob as decisions see it. Raises pydantic's ValidationError."""
    job = EdgeJob.model_validate(raw)
    meta = job.metadata
    return JobView(
        key=Key(meta.namespace, meta.name),
        uid=meta.uid,
        generation=meta.generation,
        resource_version=meta.resource_version,
        created_at=meta.creation_timestamp or datetime.now(UTC),
        deleting=meta.deletion_timestamp is not None,
        spec=job.spec,
        status=job.status,
        cron_uid=meta.controller("EdgeCronJob"),
        stream_uid=meta.controller("EdgeStream"),
    )


def cron_view(raw: Any) -> CronView:
    """An EdgeCronJob as decisions see it. Raises pydantic's ValidationError."""
    cron = EdgeCronJob.model_validate(raw)
    meta = cron.metadata
    return CronView(
        key=Key(meta.namespace, meta.name),
        uid=meta.uid,
        generation=meta.generation,
        resource_version=meta.resource_version,
        created_at=meta.creation_timestamp or datetime.now(UTC),
        deleting=meta.deletion_timestamp is not None,
        run_now=meta.annotations.get(RUN_NOW_ANNOTATION, ""),
        spec=cron.spec,
        status=cron.status,
    )


def stream_view(raw: Any) -> StreamView:
    """An EdgeStream as decisions see it. Raises pydantic's ValidationError."""
    stream = EdgeStream.model_validate(raw)
    meta = stream.metadata
    return StreamView(
        key=Key(meta.namespace, meta.name),
        uid=meta.uid,
        generation=meta.generation,
        resource_version=meta.resource_version,
        created_at=meta.creation_timestamp or datetime.now(UTC),
        deleting=meta.deletion_timestamp is not None,
        spec=stream.spec,
        status=stream.status,
    )


def edge_node_view(raw: Any) -> NodeView:
    """An EdgeNode before anything else is known of its device. Raises pydantic's ValidationError."""
    node = EdgeNode.model_validate(raw)
    return NodeView(
        name=node.metadata.name,
        uid=node.metadata.uid,
        generation=node.metadata.generation,
        resource_version=node.metadata.resource_version,
        spec=node.spec,
        status=node.status,
        kube=None,
        beat=None,
        lease=None,
        leading_for=timedelta(),
    )


@lru_cache(maxsize=4096)  # each of a pod's events brings it anew
def _placement(text: str) -> PlacementStatus | None:
    """The decision of a pod's annotation; None where somebody has spoilt it."""
    try:
        return PlacementStatus.model_validate(json.decode(text))  # a third of the time that model_validate_json takes
    except (ValidationError, DecodeError):
        return None


def _summed(containers: list[Container]) -> dict[str, float]:
    total: dict[str, float] = {}
    for container in containers:
        for name, amount in container.resources.requests.items():
            total[name] = total.get(name, 0.0) + float(parse_quantity(amount))
    return total
