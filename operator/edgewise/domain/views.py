"""What decisions look at: one frozen snapshot of the cluster, built by control/world.py.

Owns the shapes only. Times are aware UTC on the operator's clock; ages are monotonic. A view never changes; a
newer event makes a new one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from edgewise_agent import wire

from edgewise.api import (
    EdgeAppSpec,
    EdgeAppStatus,
    EdgeCronJobSpec,
    EdgeCronJobStatus,
    EdgeJobSpec,
    EdgeJobStatus,
    EdgeNodeSpec,
    EdgeNodeStatus,
    EdgeStreamSpec,
    EdgeStreamStatus,
    Outcome,
    PlacementStatus,
)
from edgewise.api.edge_stream import job_spec
from edgewise.domain.conditions import holds


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A namespaced object's name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a Node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class KubeNode:
    """What Kubernetes says of a device: its Node object.

    `allocatable` is in base units (cores, bytes, counts). `ready` is None when the node controller has lost contact
    with the kubelet (condition Ready is Unknown).
    """

    uid: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    unschedulable: bool
    ready: bool | None
    ready_since: datetime | None
    """when `ready` last changed, as the API server's side wrote it"""
    allocatable: Mapping[str, float]
    architecture: str
    images: frozenset[str] = frozenset()
    """full names of the images that are there already; kubelet lists the largest 50 only"""


@dataclass(frozen=True, slots=True)
class BeatView:
    """The newest beat of a device. `age` counts from its arrival, or from the start of leadership if that is later."""

    age: timedelta
    received_at: datetime
    interval: timedelta
    metrics: wire.Metrics
    benchmark: wire.Benchmark | None
    spool: wire.Spool
    volumes: Mapping[str, wire.VolumeReport]
    """by pod UID"""
    agent_version: str
    bundles: frozenset[str] = frozenset()
    """the bundles that the device holds, as `namespace/sha256`"""
    reporting_since: datetime | None = None
    """when the present run of beats began: no beat is missing since, and they are all of one agent process"""


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A kubelet's Lease. `age` counts from its last renewal, on the operator's clock; it is renewed every `renewal`."""

    age: timedelta
    renewal: timedelta


@dataclass(frozen=True, slots=True)
class NodeView:
    """A device. `kube` is None when there is no Node of that name (any more), `beat` when no agent has reported."""

    name: str
    uid: str
    generation: int
    resource_version: str
    spec: EdgeNodeSpec
    status: EdgeNodeStatus
    kube: KubeNode | None
    beat: BeatView | None
    lease: LeaseView | None
    """read only while no fresh beat comes; None: not read"""
    leading_for: timedelta
    """how long this operator has led, so how long it could have received a beat"""
    kubelet_lost_for: timedelta = timedelta()
    """how long Kubernetes has had no contact with the kubelet, as far as this operator can know; 0 while it has"""


@dataclass(frozen=True, slots=True)
class AppView:
    """An EdgeApp."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    spec: EdgeAppSpec
    status: EdgeAppStatus


@dataclass(frozen=True, slots=True)
class Stay:
    """One attempt's time on a device, in seconds since the epoch."""

    app: Key
    node: str
    begin: float
    end: float
    succeeded: bool


@dataclass(frozen=True, slots=True)
class JobView:
    """An EdgeJob, and what each pass would else work out of it anew: finished jobs are many, and never change."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    created_at: datetime
    deleting: bool
    spec: EdgeJobSpec
    status: EdgeJobStatus
    cron_uid: str = ""
    """the UID of the EdgeCronJob that controls it, if one does"""
    stream_uid: str = ""
    """the UID of the EdgeStream that controls it, if one does"""
    app: Key = field(init=False, compare=False)
    """the name of its app, which is in the job's namespace"""
    finished: bool = field(init=False, compare=False)
    """whether it has ended for good"""
    stays: tuple[Stay, ...] = field(init=False, compare=False)
    """its attempts that have begun and ended"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "app", Key(self.key.namespace, self.spec.app_ref.name))
        object.__setattr__(self, "finished", holds(self.status.conditions, "Finished"))
        object.__setattr__(self, "stays", tuple(self._stays()))

    def _stays(self) -> Iterator[Stay]:
        for attempt in self.status.attempts:
            begin, end = attempt.started_at, attempt.finished_at
            if begin is not None and end is not None and begin <= end:
                succeeded = attempt.outcome is Outcome.SUCCEEDED
                yield Stay(self.app, attempt.node, begin.timestamp(), end.timestamp(), succeeded)


@dataclass(frozen=True, slots=True)
class CronView:
    """An EdgeCronJob."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    created_at: datetime
    deleting: bool
    run_now: str
    """the value of its annotation edgewise.dev/run-now; empty: it has none"""
    spec: EdgeCronJobSpec
    status: EdgeCronJobStatus


@dataclass(frozen=True, slots=True)
class StreamView:
    """An EdgeStream."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    created_at: datetime
    deleting: bool
    spec: EdgeStreamSpec
    status: EdgeStreamStatus
    run_spec: EdgeJobSpec = field(init=False, compare=False)
    """what the spec of a run is by its template"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "run_spec", job_spec(self.spec.job_template.spec))


class PodPhase(Enum):
    """Kubernetes' own pod phases."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class PodView:
    """A job's pod, cut down to what decisions need.

    `node` is the device it was created for (its required affinity), `bound` whether the scheduler has bound it.
    `running_since` is when this operator first saw it running, on the operator's own clock; `started_at` and
    `finished_at` are what the device's kubelet wrote.
    """

    key: Key
    uid: str
    resource_version: str
    job_uid: str
    job: str
    attempt: int
    node: str
    placement: PlacementStatus | None
    """the decision that chose the node, from the pod's annotation"""
    phase: PodPhase
    bound: bool
    deleting: bool
    created_at: datetime
    running_since: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    """why the pod or its container ended (OOMKilled, Evicted, DeadlineExceeded …)"""
    message: str = ""
    waiting_reason: str = ""
    """why its container does not run yet (ImagePullBackOff, ContainerCreating …)"""
    waiting_message: str = ""
    stranded: bool = False
    """whether its container exists but can never run: the device lost power before its start was on its disk"""
    unschedulable: str = ""
    """the scheduler's message when it finds no room"""
    requests: Mapping[str, float] = field(default_factory=dict)
    """in base units (cores, bytes, counts)"""
    has_outputs: bool = False
    """whether it has an output volume, so results to wait for"""
    bundle: str = ""
    """the SHA-256 of the bundle that it mounts, if it does"""

    def began(self, now: datetime) -> datetime | None:
        """When its app started: kubelet's word where the device's clock can be right, else since when it was seen."""
        if self.started_at is not None and self.created_at <= self.started_at <= now:
            return self.started_at
        return self.running_since

    @property
    def ended(self) -> bool:
        """Whether its containers have ended for good."""
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server has refused a job's pod, or a run of a cron job or stream; it is offered again at `retry_at`."""

    message: str
    retry_at: datetime
    times: int


@dataclass(frozen=True, slots=True)
class Tenancy:
    """What a namespace gets of the fleet: `share` against other namespaces' where devices are short."""

    share: float = 1.0
    max_running: int | None = None
    """how many of its jobs may have a device at once; None: any number"""


@dataclass(frozen=True, slots=True)
class Installation:
    """What the installation's settings say about decisions."""

    default_policy: str = "ExpectedFinish"
    default_slots: int = 4
    beat_interval: timedelta = timedelta(seconds=10)
    priority_class: str = ""
    gateway_url: str = ""
    """the address under which users reach results, without a trailing slash"""
    starvation: timedelta = timedelta(hours=1)
    """how long a job may be passed by others of a higher priority, or that fit in smaller gaps"""
    tenancies: Mapping[str, Tenancy] = field(default_factory=dict)
    """by namespace"""
    default_tenancy: Tenancy = Tenancy()

    def tenancy(self, namespace: str) -> Tenancy:
        """What that namespace gets."""
        return self.tenancies.get(namespace, self.default_tenancy)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one planning pass looks at."""

    nodes: Mapping[str, NodeView]
    apps: Mapping[Key, AppView]
    jobs: Mapping[Key, JobView]
    pods: Mapping[str, tuple[PodView, ...]]
    """every job pod, by its job's UID"""
    manifests: Mapping[str, wire.Manifest]
    """results that the gateway holds and has asked a verdict for, by pod UID"""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """by the UID of the EdgeJob, EdgeCronJob or EdgeStream"""
    newcomers: Mapping[str, KubeNode] = field(default_factory=dict)
    """devices whose agent reports but that have no EdgeNode yet"""
    crons: Mapping[Key, CronView] = field(default_factory=dict)
    streams: Mapping[Key, StreamView] = field(default_factory=dict)
    installation: Installation = field(default_factory=Installation)
    leading_for: timedelta = timedelta.max
    """how long this operator has led, so that devices and the gateway can have told it what they hold"""
