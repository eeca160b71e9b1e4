"""The operator as the fake cluster sees it: caches fed by watches, plans, and writes that may fail, in part or unseen.

It keeps to what control/ promises: an older observation never replaces a newer one, a deleted object never comes back,
a lost race is no error, and nothing outlives a crash but what the API holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from random import Random
from typing import Any, Final, Generic, TypeVar

from edgewise.api import EdgeAppSpec, EdgeAppStatus, Outcome
from edgewise.domain.actions import Action, CreateNode, CreatePod, CreateRun, DeletePod, PatchSpec, PatchStatus
from edgewise.domain.conditions import holds
from edgewise.domain.fleet import app_patch
from edgewise.domain.liveness import out_of_service
from edgewise.domain.members import at_most
from edgewise.domain.pods import NODE_LABEL
from edgewise.domain.verdicts import verdict
from edgewise.domain.views import (
    AppView,
    BeatView,
    Installation,
    JobView,
    Key,
    KubeNode,
    LeaseView,
    NodeView,
    PodPhase,
    PodView,
    Refusal,
    Snapshot,
)
from edgewise_agent import wire

from tests.domain.simulator_api import START, Api, Change, Refused
from tests.domain.simulator_device import INTERVAL

INSTALLATION: Final = Installation(default_slots=2, beat_interval=INTERVAL, gateway_url="https://gateway")

RENEWAL: Final = timedelta(seconds=10)
"""How often a kubelet renews its Lease."""


def _app(name: str, **spec: Any) -> AppView:
    """An EdgeApp whose status is written already."""
    body = EdgeAppSpec.model_validate({"image": f"{name}:1", **spec})
    view = AppView(Key("demo", name), f"uid-{name}", 1, "1", body, EdgeAppStatus())
    patch = app_patch(view, START)
    return replace(view, status=EdgeAppStatus.model_validate(patch.new if patch else {}))


APPS: Final = {
    app.key: app for app in (_app("faces", outputs={}), _app("plain"), _app("strict", outputs={"minFiles": 2}))
}
"""EdgeApps that are there; jobs may name another."""

View = TypeVar("View", JobView, PodView, NodeView)


class Fate(Enum):
    """What becomes of one write."""

    DONE = "done"
    FAILED = "failed"
    UNSEEN = "done, but the answer is lost"


@dataclass(slots=True)
class Cache(Generic[View]):
    """The newest known version of each object of one kind."""

    objects: dict[Key, View] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def put(self, key: Key, view: View) -> None:
        """Keep the view unless something newer is known."""
        known = self.objects.get(key)
        if view.uid in self.gone or (known and int(known.resource_version) >= int(view.resource_version)):
            return
        self.objects[key] = view

    def drop(self, key: Key, uid: str) -> None:
        """The object is gone."""
        self.gone.add(uid)
        known = self.objects.get(key)
        if known is not None and known.uid == uid:
            del self.objects[key]


@dataclass(slots=True)
class Operator:
    """One leading operator."""

    api: Api
    alive: bool = True
    jobs: Cache[JobView] = field(default_factory=Cache)
    pods: Cache[PodView] = field(default_factory=Cache)
    nodes: Cache[NodeView] = field(default_factory=Cache)
    kube: dict[str, KubeNode] = field(default_factory=dict)
    beats: dict[str, BeatView] = field(default_factory=dict)
    running_since: dict[str, datetime] = field(default_factory=dict)
    manifests: dict[str, wire.Manifest] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    inbox: list[Change] = field(default_factory=list)
    """watch events under way"""
    deaf: set[str] = field(default_factory=set)
    """the kinds whose watches hang"""
    missed: bool = False
    """whether watches have lost events, which only a new list brings"""
    leading_since: datetime | None = None

    def crash(self) -> None:
        """SIGKILL: everything in memory is lost."""
        fresh = Operator(self.api, alive=False)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def start(self) -> None:
        """A new leader lists everything."""
        self.alive, self.leading_since = True, self.api.now
        self.relist()

    def relist(self) -> None:
        """The caches become what the API holds; what watches still bring is older."""
        self.collect()
        self.inbox.clear()
        self.missed = False
        for view in list(self.jobs.objects.values()):
            if self.api.jobs.get(view.key) is None or self.api.jobs[view.key].uid != view.uid:
                self.jobs.drop(view.key, view.uid)
        for pod in list(self.pods.objects.values()):
            if self.api.pods.get(pod.key) is None or self.api.pods[pod.key].uid != pod.uid:
                self.pods.drop(pod.key, pod.uid)
        for job in self.api.jobs.values():
            self.jobs.put(job.key, job)
        for pod in self.api.pods.values():
            self.saw_pod(pod)
        for key, node in self.api.nodes.items():
            self.nodes.put(key, node)
        self.kube = dict(self.api.kube)

    def collect(self) -> None:
        """Take what has changed from the API into the watches; they lose it while nobody leads."""
        self.inbox += self.api.changes if self.alive else []
        self.api.changes.clear()

    def listen(self, rng: Random | None = None) -> None:
        """Read the watches that do not hang. With `rng` events come late and in any order."""
        self.collect()
        late = [change for change in self.inbox if change.kind in self.deaf or (rng and rng.random() < 0.3)]
        now = [change for change in self.inbox if change not in late]
        if rng:
            rng.shuffle(now)
        for change in now:
            self._hear(change)
        self.inbox = late

    def _hear(self, change: Change) -> None:
        match change.view:
            case JobView():
                self.jobs.put(change.key, change.view)
            case PodView():
                self.saw_pod(change.view)
            case NodeView():
                self.nodes.put(change.key, change.view)
            case KubeNode():
                self.kube[change.key.name] = self.api.kube[change.key.name]
            case None if change.kind == "jobs":
                self.jobs.drop(change.key, change.uid)
            case None:
                self.pods.drop(change.key, change.uid)

    def saw_pod(self, pod: PodView) -> None:
        """A pod as the API holds it; since when it runs is the operator's own observation."""
        if pod.phase is PodPhase.RUNNING:
            self.running_since.setdefault(pod.uid, self.api.now)
        self.pods.put(pod.key, replace(pod, running_since=self.running_since.get(pod.uid)))

    def ask(self, manifest: wire.Manifest) -> wire.Verdict:
        """The gateway's question."""
        decided = verdict(manifest, self.jobs.objects.get(Key(manifest.namespace, manifest.job)))
        if decided is wire.Verdict.PENDING:
            self.manifests[manifest.pod_uid] = manifest
        else:
            self.manifests.pop(manifest.pod_uid, None)
        return decided

    def snapshot(self) -> Snapshot:
        """Everything known now."""
        now = self.api.now
        by_job: dict[str, tuple[PodView, ...]] = {}
        for pod in self.pods.objects.values():
            by_job[pod.job_uid] = (*by_job.get(pod.job_uid, ()), pod)
        nodes = {}
        for node in self.nodes.objects.values():
            beat = self.beats.get(node.name)
            aged = replace(beat, age=now - beat.received_at) if beat else None
            leading_for = now - (self.leading_since or now)
            known, lease = self.kube.get(node.name), self._lease(node.name, leading_for)
            nodes[node.name] = replace(node, kube=known, beat=aged, lease=lease, leading_for=leading_for)
        return Snapshot(
            nodes=nodes,
            apps=APPS,
            jobs=dict(self.jobs.objects),
            pods=by_job,
            manifests=dict(self.manifests),
            refusals=dict(self.refusals),
            newcomers={name: self.kube[name] for name in self.beats if name not in nodes and name in self.kube},
            installation=INSTALLATION,
        )

    def _lease(self, name: str, leading_for: timedelta) -> LeaseView | None:
        """The kubelet's Lease, read of devices that are silent. Without a beat its clock's offset is not known."""
        age, beat = self.api.now - self.api.contact[name], self.beats.get(name)
        if beat is None:
            return LeaseView(min(age, leading_for), RENEWAL)
        return LeaseView(age, RENEWAL) if self.api.now - beat.received_at >= 1.5 * INTERVAL else None

    # --- writing

    def apply(self, snapshot: Snapshot, actions: Sequence[Action], fates: Sequence[Fate]) -> None:
        """Carry out the actions in this order, as far as there are fates; then the operator has crashed."""
        for action, fate in zip(actions, fates, strict=False):
            if fate is Fate.FAILED:
                continue
            try:
                self._carry_out(snapshot, action, seen=fate is Fate.DONE)
            except Refused as refused:
                if isinstance(action, CreatePod | CreateRun) and fate is Fate.DONE:
                    uid = action.job_uid if isinstance(action, CreatePod) else action.owner_uid
                    times = self.refusals[uid].times + 1 if uid in self.refusals else 1
                    delay = min(timedelta(minutes=5), timedelta(seconds=5) * 2 ** min(times - 1, 10))
                    self.refusals[uid] = Refusal(str(refused), self.api.now + delay, times)

    def _carry_out(self, snapshot: Snapshot, action: Action, *, seen: bool) -> None:
        match action:
            case CreatePod():
                pod = self._create_pod(snapshot, action)
                if seen:
                    self.refusals.pop(action.job_uid, None)
                    self.saw_pod(pod)
            case CreateRun():
                run = self._create_run(action)
                if seen:
                    self.refusals.pop(action.owner_uid, None)
                    self.jobs.put(run.key, run)
            case PatchSpec():
                changed = self.api.patch_spec(action)
                if seen:
                    self.jobs.put(changed.key, changed)
            case DeletePod():
                left = self.api.delete_pod(action.pod, action.uid, action.resource_version)
                if seen and left:
                    self.saw_pod(left)
            case PatchStatus():
                written = self.api.patch_status(action)
                if seen and isinstance(written, JobView):
                    self.jobs.put(written.key, written)
                elif seen and isinstance(written, NodeView):
                    self.nodes.put(Key("", written.name), written)
            case CreateNode():
                raise AssertionError("every device has its EdgeNode")

    def _create_run(self, action: CreateRun) -> JobView:
        """Create a run. One of that name is ours only if its controller is this very set."""
        meta = action.manifest["metadata"]
        try:
            return self.api.create_job(action.manifest)
        except Refused:
            there = self.api.jobs.get(Key(meta["namespace"], meta["name"]))
            if there is None or there.set_uid != action.owner_uid:
                raise
            return there

    def _create_pod(self, snapshot: Snapshot, action: CreatePod) -> PodView:
        """Create a pod. Any other pod of the job that may yet run must have been known to the plan."""
        meta = action.manifest["metadata"]
        key = Key(meta["namespace"], meta["name"])
        known = {pod.uid for pod in snapshot.pods.get(action.job_uid, ())}
        try:
            pod = self.api.create_pod(action.manifest)
        except Refused:
            there = self.api.pods.get(key)
            if there is None or there.job_uid != action.job_uid:
                raise
            return there
        for other in self.api.pods.values():
            rival = other.job_uid == action.job_uid and not other.ended and other.uid not in known
            assert not rival or other.uid == pod.uid, (
                f"{pod.key} starts beside {other.key}, which the plan did not know"
            )
        return pod


def check_plan(snapshot: Snapshot, actions: Sequence[Action]) -> None:
    """What no plan may ask for, by what it knew."""
    live = [pod for pods in snapshot.pods.values() for pod in pods if not pod.ended]
    taken = {name: sum(pod.node == name for pod in live) for name in snapshot.nodes}
    for action in actions:
        if isinstance(action, DeletePod):
            assert _ends_by_right(snapshot, action.uid), f"{action.pod} is deleted before its end is written"
        if not isinstance(action, CreatePod):
            continue
        name = action.manifest["metadata"]["labels"][NODE_LABEL]
        slots = snapshot.nodes[name].spec.slots
        taken[name] += 1
        assert taken[name] <= (INSTALLATION.default_slots if slots is None else slots), f"{name} is over-booked"
        assert not snapshot.jobs[action.job].is_set, f"{action.job} is a set, and runs nothing itself"
        for pod in snapshot.pods.get(action.job_uid, ()):
            rival = not pod.ended and not _given_up(snapshot, snapshot.jobs[action.job], pod)
            assert not rival, f"{action.manifest['metadata']['name']} starts beside {pod.key}"


def check_sets(snapshot: Snapshot, actions: Sequence[Action]) -> None:
    """How many runs of each set may go on at once, and how many on one device."""
    placed = {one.job_uid: one for one in actions if isinstance(one, CreatePod)}
    for owner in snapshot.jobs.values():
        if not owner.is_set or owner.deleting:
            continue
        runs = [job for job in snapshot.jobs.values() if job.set_uid == owner.uid and not job.finished]
        if owner.spec.placement.every_device is None:
            made = sum(isinstance(one, CreateRun) and one.owner_uid == owner.uid for one in actions)
            most = owner.spec.parallelism or owner.spec.completions
            assert not made or made + len(runs) <= most, f"{owner.key} has too many runs"
        else:
            known = owner.status.runs.total if owner.status.runs else None
            total = known or sum(job.set_uid == owner.uid for job in snapshot.jobs.values())
            most = at_most(owner.spec.placement.every_device.max_concurrent, max(total, 1))
            begun = {run.uid for run in runs if run.status.attempts or snapshot.pods.get(run.uid)}
            new = {run.uid for run in runs if run.uid in placed} - begun
            assert not new or len(new | begun) <= most, f"{owner.key} goes on on too many devices"
        devices = [
            one.manifest["metadata"]["labels"][NODE_LABEL]
            for one in placed.values()
            if snapshot.jobs[one.job].set_uid == owner.uid
        ]
        for pod in (pod for run in runs for pod in snapshot.pods.get(run.uid, ()) if not pod.ended):
            devices += [pod.node] if any(pod.node == node for node in devices) else []
        most_each = owner.spec.placement.max_per_device
        crowded = [node for node in devices if most_each is not None and devices.count(node) > most_each]
        assert not crowded, f"{owner.key} has too many runs on {crowded}"


def _ends_by_right(snapshot: Snapshot, uid: str) -> bool:
    """Whether a crash right after this deletion would be understood, by what is written of the job."""
    [pod] = [pod for pods in snapshot.pods.values() for pod in pods if pod.uid == uid]
    job = next((job for job in snapshot.jobs.values() if job.uid == pod.job_uid), None)
    if job is None:
        return True
    attempts = {one.pod_uid: one for one in job.status.attempts}
    numbers = {one.number for one in job.status.attempts}
    if holds(job.status.conditions, "Finished"):
        return True
    if uid not in attempts:
        return pod.attempt in numbers or pod.attempt < min(numbers, default=0)
    written = attempts[uid]
    return written.outcome not in (Outcome.STARTING, Outcome.RUNNING) or written.reason == "Unschedulable"


def check_published(operator: Operator) -> None:
    """What may not be left undone: a success whose results are home is the job's, wherever its device is now."""
    for job in operator.jobs.objects.values():
        if job.deleting or job.spec.suspend or holds(job.status.conditions, "Finished"):
            continue
        alive = {
            one.pod_uid for one in job.status.attempts if one.outcome not in (Outcome.SUPERSEDED, Outcome.CANCELLED)
        }
        for pod in operator.pods.objects.values():
            complete = pod.phase is PodPhase.SUCCEEDED and pod.uid in operator.manifests
            assert not (complete and pod.uid in alive), f"{pod.key} is complete, but {job.key} goes on"


def _given_up(snapshot: Snapshot, job: JobView, pod: PodView) -> bool:
    """Whether a pod that may be running is out of reach: its device is dead, or was and is not back yet."""
    node = snapshot.nodes[pod.node]
    if _dead(snapshot, pod.node) or out_of_service(node):
        return True
    lost = any(one.pod_uid == pod.uid and one.outcome is Outcome.LOST for one in job.status.attempts)
    silent = node.beat.age if node.beat else node.leading_for
    return lost and (silent >= 1.5 * INTERVAL or node.kube is None or not node.kube.ready)


def _dead(snapshot: Snapshot, name: str) -> bool:
    """Whether agent and kubelet of a device have both been silent for long enough."""
    node = snapshot.nodes[name]
    silent = node.beat.age if node.beat else node.leading_for
    lost = node.kube is None or node.kube.ready is None or (node.lease is not None and node.lease.age > RENEWAL)
    return silent >= 2 * INTERVAL and lost
