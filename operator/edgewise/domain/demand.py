"""What one job asks of a device, and how much of a device is taken: the inputs of eligibility and policies."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgewise.api import EdgeAppSpec, EdgeJobSpec
from edgewise.domain.views import BeatView, Installation, Key, NodeView, PodPhase, PodView
from edgewise.notation import parse_quantity


@dataclass(frozen=True, slots=True)
class Demand:
    """A job that waits for a device. `requests` is in base units."""

    job: Key
    job_uid: str
    spec: EdgeJobSpec
    app: EdgeAppSpec
    requests: Mapping[str, float]
    failed_on: frozenset[str] = frozenset()
    """devices on which an earlier attempt ended badly: avoided, not forbidden"""
    set_uid: str = ""
    """the UID of the set that the job is a run of, if it is"""

    @property
    def kind(self) -> tuple[object, ...]:
        """What makes two demands the same to every device in one pass, in which an app is the same to all its jobs."""
        return self.app_key, self.spec.placement.model_dump_json(), self.failed_on, self.set_uid

    @property
    def app_key(self) -> Key:
        """The name of the app, which is in the job's namespace."""
        return Key(self.job.namespace, self.spec.app_ref.name)

    @property
    def bundle(self) -> str | None:
        """The bundle that the app needs, as devices name what they hold: `namespace/sha256`."""
        sha256 = bundle_sha256(self.app)
        return f"{self.job.namespace}/{sha256}" if sha256 else None


def bundle_sha256(app: EdgeAppSpec) -> str | None:
    """The bundle that holds the app's own files, if it has one."""
    bundle = app.source.bundle if app.source else None
    return bundle.digest.removeprefix("sha256:") if bundle else None


def requested(app: EdgeAppSpec) -> dict[str, float]:
    """What the scheduler will count for the app's pod: its requests, and its limits where no request is given."""
    quantities = {**app.resources.limits, **app.resources.requests}
    return {name: float(parse_quantity(quantity)) for name, quantity in quantities.items()}


def slots_of(node: NodeView, installation: Installation) -> int:
    """How many jobs may run on the device at once."""
    return node.spec.slots if node.spec.slots is not None else installation.default_slots


@dataclass(slots=True)
class Usage:
    """What the jobs on one device take. It grows while a batch is placed, so that the next job sees the reservation."""

    jobs: int = 0
    """jobs that hold one of the device's slots"""
    unreflected: int = 0
    """those of them that the device's newest beat can't show yet"""
    requests: Counter[str] = field(default_factory=Counter)
    unreflected_memory_bytes: float = 0.0
    siblings: Counter[str] = field(default_factory=Counter)
    """jobs by the UID of the set that they are runs of"""

    def take(self, requests: Mapping[str, float], *, reflected: bool, set_uid: str = "") -> None:
        """Count one job."""
        self.jobs += 1
        if set_uid:
            self.siblings[set_uid] += 1
        self.requests.update(requests)
        if not reflected:
            self.unreflected += 1
            self.unreflected_memory_bytes += requests.get("memory", 0.0)


def is_reflected(pod: PodView, beat: BeatView | None) -> bool:
    """Whether the beat's mean was measured wholly while the pod ran, so that its load is in the figures."""
    return beat is not None and pod.running_since is not None and beat.received_at - beat.interval >= pod.running_since


def usage_of(
    nodes: Mapping[str, NodeView], pods: Iterable[PodView], sets: Mapping[str, str] | None = None
) -> dict[str, Usage]:
    """The usage of each device by the job pods that have not ended. `sets`: each run's set, by the job's UID."""
    sets = sets or {}
    usage = {name: Usage() for name in nodes}
    for pod in pods:
        if pod.node in usage and pod.phase in (PodPhase.PENDING, PodPhase.RUNNING, PodPhase.UNKNOWN):
            usage[pod.node].take(
                pod.requests, reflected=is_reflected(pod, nodes[pod.node].beat), set_uid=sets.get(pod.job_uid, "")
            )
    return usage
