"""The fake cluster's API server, with the controllers beside it: scheduler, node lifecycle, garbage collector.

Owns the objects and what the API promises about them: resource versions, preconditions, merge patches, names that
exist once, graceful deletion. It also keeps what really happened (`succeeded`), which only checks may look at.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from edgewise.api import EdgeJobSpec, EdgeJobStatus, EdgeNodeStatus, merge_patch, spec_body, status_body
from edgewise.api.edge_job import CHANGEABLE
from edgewise.control.objects import PodObject, job_view
from edgewise.domain.actions import PatchSpec, PatchStatus
from edgewise.domain.conditions import holds
from edgewise.domain.members import read
from edgewise.domain.views import JobView, Key, KubeNode, NodeView, PodView
from msgspec import convert, json

START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
LOST_AFTER = timedelta(seconds=40)
"""Without a word of its kubelet for this long, a Node's readiness is Unknown (as the node controller has it)."""


class Refused(Exception):
    """The API server says no: Conflict, NotFound, AlreadyExists or Forbidden."""


@dataclass(frozen=True, slots=True)
class Change:
    """One watch event; without a view the object is gone."""

    kind: str
    key: Key
    uid: str
    version: int
    view: JobView | PodView | NodeView | KubeNode | None


@dataclass(slots=True)
class Api:
    """Every object of the cluster."""

    rng: Random
    now: datetime = START
    version: int = 0
    uids: int = 0
    jobs: dict[Key, JobView] = field(default_factory=dict)
    pods: dict[Key, PodView] = field(default_factory=dict)
    nodes: dict[Key, NodeView] = field(default_factory=dict)
    kube: dict[str, KubeNode] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    """what has yet to be watched"""
    contact: dict[str, datetime] = field(default_factory=dict)
    """when each kubelet was last heard"""
    crowded: set[str] = field(default_factory=set)
    """devices that others' pods fill"""
    refusing: bool = False
    """whether a webhook refuses every pod"""
    succeeded: set[str] = field(default_factory=set)
    """the UIDs of the pods whose app has really ended well"""

    @property
    def second(self) -> datetime:
        """Now, as the API writes times."""
        return self.now.replace(microsecond=0)

    def uid(self) -> str:
        """A new UID, whatever the seeds of the steps."""
        self.uids += 1
        return str(UUID(int=Random(self.uids).getrandbits(128)))  # noqa: S311

    # --- objects

    def put_job(self, job: JobView) -> None:
        """Create or change a job."""
        self.jobs[job.key] = job = replace(job, resource_version=self._next())
        self._told("jobs", job.key, job.uid, job)

    def delete_job(self, key: Key) -> None:
        """Delete a job at once: it has no finalizer. Its pods are the garbage collector's."""
        self._told("jobs", key, self.jobs.pop(key).uid, None)

    def create_job(self, manifest: Mapping[str, Any]) -> JobView:
        """Create a run of a set from its manifest, read exactly as the operator reads it."""
        raw = json.decode(json.encode(manifest))
        raw["metadata"] |= {"uid": self.uid(), "generation": 1, "resourceVersion": "0"}
        job = job_view(raw)
        if job.key in self.jobs:
            raise Refused("AlreadyExists")
        if self.refusing:
            raise Refused("Forbidden")
        owner = next((one for one in self.jobs.values() if one.uid == job.set_uid), None)
        if owner is not None and owner.status.runs is not None and job.spec.index is not None:
            over = read(owner.status.runs.succeeded_indexes) | read(owner.status.runs.failed_indexes)
            assert job.spec.index not in over, f"{job.key} is made again, though its set has told of its end"
        self.put_job(replace(job, created_at=self.second))
        return self.jobs[job.key]

    def patch_spec(self, action: PatchSpec) -> JobView:
        """Change a job's spec by merge patch, under its version, within what may change."""
        job = self.jobs.get(action.job)
        if job is None:
            raise Refused("NotFound")
        if job.resource_version != action.resource_version:
            raise Refused("Conflict")
        assert set(action.spec) <= CHANGEABLE
        assert not (job.spec.cancel and action.spec.get("cancel") is False)
        spec = EdgeJobSpec.model_validate(_merge(spec_body(job.spec), action.spec))
        assert spec != job.spec, f"{job.key}: a write that changes nothing"
        self.put_job(replace(job, spec=spec, generation=job.generation + 1))
        return self.jobs[job.key]

    def put_pod(self, pod: PodView, **values: Any) -> None:
        """Change a pod."""
        self.pods[pod.key] = pod = replace(pod, resource_version=self._next(), **values)
        self._told("pods", pod.key, pod.uid, pod)

    def remove_pod(self, pod: PodView) -> None:
        """The pod is gone."""
        self._told("pods", pod.key, self.pods.pop(pod.key).uid, None)

    def put_node(self, node: NodeView) -> None:
        """Create or change an EdgeNode."""
        key = Key("", node.name)
        self.nodes[key] = node = replace(node, resource_version=self._next())
        self._told("nodes", key, node.uid, node)

    def put_kube(self, name: str, node: KubeNode) -> None:
        """Create or change a Node."""
        self.kube[name] = node
        self._told("kube", Key("", name), node.uid, node)

    def _next(self) -> str:
        self.version += 1
        return str(self.version)

    def _told(self, kind: str, key: Key, uid: str, view: JobView | PodView | NodeView | KubeNode | None) -> None:
        self.version += view is None
        self.changes.append(Change(kind, key, uid, self.version, view))

    # --- what the operator asks

    def create_pod(self, manifest: Mapping[str, Any]) -> PodView:
        """Create a pod from a manifest, read exactly as the operator reads it."""
        pod = convert(json.decode(json.encode(manifest)), PodObject).view(None)
        if pod.key in self.pods:
            raise Refused("AlreadyExists")
        if self.refusing:
            raise Refused("Forbidden")
        self.put_pod(replace(pod, uid=self.uid(), created_at=self.second))
        return self.pods[pod.key]

    def delete_pod(self, key: Key, uid: str, version: str | None = None) -> PodView | None:
        """Delete a pod; one that a kubelet has to end first is returned."""
        pod = self.pods.get(key)
        if pod is None:
            raise Refused("NotFound")
        if pod.uid != uid or (version is not None and pod.resource_version != version):
            raise Refused("Conflict")
        if pod.bound and not pod.ended:
            if not pod.deleting:
                self.put_pod(pod, deleting=True)
            return self.pods[key]
        self.remove_pod(pod)
        return None

    def patch_status(self, action: PatchStatus) -> JobView | NodeView | None:
        """Write a status by merge patch, under its version. What comes out must be exactly what was meant."""
        if action.plural == "edgenodes":
            node = self.nodes.get(action.key)
            self._current(node, action)
            if node is not None:
                _merged(status_body(node.status), action)
                self.put_node(replace(node, status=EdgeNodeStatus.model_validate(action.new)))
            return self.nodes.get(action.key)
        job = self.jobs.get(action.key)
        self._current(job, action)
        if job is not None:
            status = EdgeJobStatus.model_validate_json(json.encode(_merged(status_body(job.status), action)))
            assert status_body(status) == action.new, f"{action.key}: the status changes on its way through JSON"
            check_transition(job.status, status, self.succeeded)
            self.put_job(replace(job, status=status))
        return self.jobs.get(action.key)

    def _current(self, view: JobView | NodeView | None, action: PatchStatus) -> None:
        if view is None:
            raise Refused("NotFound")
        if view.resource_version != action.resource_version:
            raise Refused("Conflict")

    # --- what goes on beside it

    def tick(self) -> None:
        """One round of the cluster's own controllers."""
        owners = {job.uid for job in self.jobs.values()}
        for job in list(self.jobs.values()):
            if job.set_uid and job.set_uid not in owners and self.rng.random() < 0.5:
                self.delete_job(job.key)
        for pod in list(self.pods.values()):
            if pod.job_uid not in owners:
                if not pod.deleting and self.rng.random() < 0.5:
                    self.delete_pod(pod.key, pod.uid)
            elif not pod.bound and not pod.deleting:
                self._schedule(pod)
            elif self.kube[pod.node].taints and not pod.ended:
                self._evict(pod)
        for name, node in self.kube.items():
            if node.ready is not None and self.now - self.contact[name] >= LOST_AFTER:
                self.put_kube(name, replace(node, ready=None, ready_since=self.second))

    def _evict(self, pod: PodView) -> None:
        """A node that is out of service: its pods are deleted and, where no kubelet is there to do so, removed."""
        if self.kube[pod.node].ready:
            self.delete_pod(pod.key, pod.uid)
        else:
            self.remove_pod(pod)

    def _schedule(self, pod: PodView) -> None:
        node = self.kube[pod.node]
        if pod.node in self.crowded or node.unschedulable or node.taints or not node.ready:
            if not pod.unschedulable:
                self.put_pod(pod, unschedulable="0/3 nodes are available")
        elif self.rng.random() < 0.8:
            self.put_pod(pod, bound=True, unschedulable="")

    def heard(self, name: str) -> None:
        """A kubelet has renewed its lease."""
        self.contact[name] = self.now
        node = self.kube[name]
        if not node.ready:
            self.put_kube(name, replace(node, ready=True, ready_since=self.second))


def _merged(body: dict[str, Any], action: PatchStatus) -> dict[str, Any]:
    assert action.old == body, f"{action.key}: the write starts from a status that the API does not hold"
    assert action.old != action.new, f"{action.key}: a write that changes nothing"
    merged = _merge(deepcopy(body), merge_patch(action.old, action.new))
    assert merged == action.new, f"{action.key}: the merge patch does not give the status that was meant"
    return merged


def _merge(target: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7386."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, Mapping):
            old = target.get(name)
            target[name] = _merge(old if isinstance(old, dict) else {}, value)
        else:
            target[name] = value
    return target


def check_transition(old: EdgeJobStatus, new: EdgeJobStatus, succeeded: set[str]) -> None:
    """What no status may do, whatever has happened."""
    numbers = [attempt.number for attempt in new.attempts]
    assert len(set(numbers)) == len(numbers), f"attempts share a number: {new.attempts}"
    uids = [attempt.pod_uid for attempt in new.attempts]
    assert len(set(uids)) == len(uids), f"attempts share a pod: {new.attempts}"
    if old.results and old.results.pod_uid:
        assert new.results == old.results, f"published twice: {old.results}, then {new.results}"
    if new.results and new.results.pod_uid:
        assert new.results.pod_uid in succeeded, f"published, but not succeeded: {new.results}"
        assert new.results.pod_uid in uids, f"published, but no attempt: {new.results}"
    if holds(old.conditions, "Finished"):
        assert holds(new.conditions, "Finished"), "a finished job goes on"
        assert new.completion_time == old.completion_time
    if old.runs and new.runs:
        assert old.runs.total in (None, new.runs.total), "a set's number of runs changes"
        for name in ("succeeded_indexes", "failed_indexes"):
            assert read(getattr(old.runs, name)) <= read(getattr(new.runs, name)), f"{name} are forgotten"
    if holds(new.conditions, "Complete") and new.runs is None:
        assert succeeded & set(uids), f"complete without success: {new.attempts}"
        assert not holds(new.conditions, "Failed")
