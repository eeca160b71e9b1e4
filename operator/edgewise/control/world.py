"""What the operator knows: caches of the cluster's objects, fed by watches, beats and its own writes.

Owns the caches and the building of a Snapshot from them. It decides nothing and writes nothing. An observation that
is older than what is known is ignored, so the order in which watches and the writer's own answers arrive is no matter.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Protocol, TypeVar

from edgewise_agent import wire
from pydantic import ValidationError

from edgewise.api import EdgeNodeStatus
from edgewise.beats.table import BeatTable
from edgewise.control.leases import LeaseTable
from edgewise.control.objects import NodeObject, PodObject, app_view, cron_view, edge_node_view, job_view, stream_view
from edgewise.domain.fleet import ready_reason
from edgewise.domain.liveness import KUBELET_DOWN, late
from edgewise.domain.views import (
    AppView,
    CronView,
    Installation,
    JobView,
    Key,
    KubeNode,
    NodeView,
    PodPhase,
    PodView,
    Refusal,
    Snapshot,
    StreamView,
)

GONE_REMEMBERED: Final = 10_000
"""How many deleted objects' UIDs are remembered, so that a late answer does not bring one back."""

FIRST_REFUSAL: Final = timedelta(seconds=5)
LONGEST_REFUSAL: Final = timedelta(minutes=5)

logger = logging.getLogger(__name__)


class Versioned(Protocol):
    """What a cache needs of a view."""

    @property
    def uid(self) -> str:
        """The object's UID."""

    @property
    def resource_version(self) -> str:
        """The object's version: a number that grows with each change."""


View = TypeVar("View", bound=Versioned)
Name = TypeVar("Name", Key, str)


@dataclass(slots=True)
class Cache(Generic[Name, View]):
    """The newest known version of each object of one kind."""

    objects: dict[Name, View] = field(default_factory=dict)
    _gone: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def put(self, name: Name, view: View) -> bool:
        """Keep `view` unless something newer is known; whether it was kept."""
        known = self.objects.get(name)
        if view.uid in self._gone or (known is not None and not _newer(view, known)):
            return False
        self.objects[name] = view
        return True

    def holds(self, name: Name, uid: str, version: str) -> bool:
        """Whether this version of the object, or a newer one, is known, so that it need not be read again."""
        known = self.objects.get(name)
        return known is not None and known.uid == uid and int(known.resource_version) >= int(version)

    def drop(self, name: Name, uid: str) -> bool:
        """The object is gone; whether it was known."""
        self._gone[uid] = None
        while len(self._gone) > GONE_REMEMBERED:
            self._gone.popitem(last=False)
        known = self.objects.get(name)
        if known is None or known.uid != uid:
            return False
        del self.objects[name]
        return True

    def keep_only(self, uids: set[str], version: int) -> bool:
        """Drop what a whole list as of `version` does not hold; whether anything was dropped."""
        missing = [
            (name, view.uid)
            for name, view in self.objects.items()
            if view.uid not in uids and int(view.resource_version) <= version
        ]
        for name, uid in missing:
            self.drop(name, uid)
        return bool(missing)


def _newer(view: Versioned, known: Versioned) -> bool:
    return int(view.resource_version) > int(known.resource_version)


@dataclass(slots=True)
class World:
    """The caches. `touched` is set whenever something may have changed what should be done."""

    installation: Installation
    beats: BeatTable = field(default_factory=BeatTable)
    leases: LeaseTable = field(default_factory=LeaseTable)
    touched: asyncio.Event = field(default_factory=asyncio.Event)
    pressing: asyncio.Event = field(default_factory=asyncio.Event)
    """set when a job is new, and waits for its first device"""
    stirred: bool = False
    """whether devices have reported: worth a look, but not at once"""
    jobs: Cache[Key, JobView] = field(default_factory=Cache)
    apps: Cache[Key, AppView] = field(default_factory=Cache)
    crons: Cache[Key, CronView] = field(default_factory=Cache)
    streams: Cache[Key, StreamView] = field(default_factory=Cache)
    edge_nodes: Cache[str, NodeView] = field(default_factory=Cache)
    pods: Cache[Key, PodView] = field(default_factory=Cache)
    kube_nodes: dict[str, KubeNode] = field(default_factory=dict)
    kubelets_lost: dict[str, float] = field(default_factory=dict)
    """since when, as this operator has seen it, Kubernetes has had no contact with a device's kubelet; monotonic"""
    manifests: dict[str, wire.Manifest] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    """the versions of objects that could not be read, by UID"""
    watched_at: dict[str, float] = field(default_factory=dict)
    """when a watch last told something, by plural, on the monotonic clock"""
    pods_known: bool = False
    """whether every pod is in the cache, so that absence means something"""
    leading_since: float = field(default_factory=time.monotonic)
    clock: Callable[[], float] = time.monotonic

    # --- what the watches of our own kinds say

    def told(self, plural: str, event_type: str | None, raw: Mapping[str, Any]) -> None:
        """An event of a watch; its type is None for what was there before the watch began."""
        self.watched_at[plural] = self.clock()
        self.saw(plural, raw, deleted=event_type == "DELETED")

    def saw(self, plural: str, raw: Mapping[str, Any], *, deleted: bool = False) -> None:
        """An object of ours as the API holds it. One that can't be read is logged and left as it was."""
        meta = raw["metadata"]
        try:
            changed = self._saw(plural, raw, meta, deleted=deleted)
        except ValidationError as error:
            where = f"{meta.get('namespace', '')}/{meta['name']}".lstrip("/")
            logger.warning("%s %s can't be read: %s; correct it by kubectl edit", plural, where, error)
            self.unreadable[meta["uid"]] = meta["resourceVersion"]
            return
        self.unreadable.pop(meta["uid"], None)
        if changed:
            self.touched.set()

    def _saw(self, plural: str, raw: Mapping[str, Any], meta: Mapping[str, Any], *, deleted: bool) -> bool:
        key = Key(meta.get("namespace", ""), meta["name"])
        match plural:
            case "edgejobs":
                if deleted:
                    self.refusals.pop(meta["uid"], None)
                    return self.jobs.drop(key, meta["uid"])
                if self.jobs.holds(key, meta["uid"], meta["resourceVersion"]):
                    return False  # the writer's own answer was faster
                if key not in self.jobs.objects:
                    self.pressing.set()
                return self.jobs.put(key, job_view(raw))
            case "edgeapps":
                return self.apps.drop(key, meta["uid"]) if deleted else self.apps.put(key, app_view(raw))
            case "edgecronjobs":
                if deleted:
                    self.refusals.pop(meta["uid"], None)
                    return self.crons.drop(key, meta["uid"])
                cron = cron_view(raw)
                self._perhaps_corrected(cron, self.crons.objects.get(key))
                return self.crons.put(key, cron)
            case "edgestreams":
                if deleted:
                    self.refusals.pop(meta["uid"], None)
                    return self.streams.drop(key, meta["uid"])
                stream = stream_view(raw)
                self._perhaps_corrected(stream, self.streams.objects.get(key))
                return self.streams.put(key, stream)
            case "edgenodes":
                if deleted:
                    return self.edge_nodes.drop(key.name, meta["uid"])
                return self.edge_nodes.put(key.name, edge_node_view(raw))
            case other:
                raise ValueError(f"no cache for {other}")

    def _perhaps_corrected(self, view: CronView | StreamView, known: CronView | StreamView | None) -> None:
        """What was refused may have been corrected by an edit, so it is offered again at once."""
        if known is not None and known.generation != view.generation:
            self.refusals.pop(view.uid, None)

    def compare(self, plural: str, uids: set[str], version: int) -> dict[str, str]:
        """Drop what a whole list as of `version` does not hold. Returns the known versions by UID."""
        match plural:
            case "edgejobs":
                return self._compare(self.jobs, uids, version)
            case "edgeapps":
                return self._compare(self.apps, uids, version)
            case "edgecronjobs":
                return self._compare(self.crons, uids, version)
            case "edgestreams":
                return self._compare(self.streams, uids, version)
            case "edgenodes":
                return self._compare(self.edge_nodes, uids, version)
            case other:
                raise ValueError(f"no cache for {other}")

    def _compare(self, cache: Cache[Name, View], uids: set[str], version: int) -> dict[str, str]:
        if cache.keep_only(uids, version):
            self.touched.set()
        return {**{view.uid: view.resource_version for view in cache.objects.values()}, **self.unreadable}

    # --- what the reflectors say

    def saw_pod(self, pod: PodObject) -> None:
        """A job's pod as the API holds it."""
        key = Key(pod.metadata.namespace, pod.metadata.name)
        known = self.pods.objects.get(key)
        running_since = known.running_since if known and known.uid == pod.metadata.uid else None
        if pod.status.phase is PodPhase.RUNNING and running_since is None:
            running_since = datetime.now(UTC)
        try:
            view = pod.view(running_since)
        except ValueError as error:
            logger.warning("pod %s has a job's label but is none of ours: %s", key, error)
            return
        if self.pods.put(key, view):
            self.touched.set()

    def pod_gone(self, pod: PodObject) -> None:
        """A job's pod has been deleted."""
        if self.pods.drop(Key(pod.metadata.namespace, pod.metadata.name), pod.metadata.uid):
            self.touched.set()

    def saw_kube_node(self, node: NodeObject) -> None:
        """A Node as the API holds it."""
        view = node.view()
        if self.kube_nodes.get(node.metadata.name) != view:
            self.kube_nodes[node.metadata.name] = view
            self._note_contact(node.metadata.name)
            self.touched.set()

    def saw_kube_nodes(self, nodes: Iterable[NodeObject]) -> None:
        """All Nodes that there are."""
        gone, self.kube_nodes = self.kube_nodes.keys(), {node.metadata.name: node.view() for node in nodes}
        for name in gone | self.kube_nodes.keys():
            self._note_contact(name)
        self.touched.set()

    def _note_contact(self, name: str) -> None:
        """Note whether Kubernetes has contact with a kubelet, and since when not."""
        node = self.kube_nodes.get(name)
        if node is not None and node.ready is None:
            self.kubelets_lost.setdefault(name, self.clock())
        else:
            self.kubelets_lost.pop(name, None)

    def kube_node_gone(self, node: NodeObject) -> None:
        """A Node has been deleted."""
        self.beats.forget(node.metadata.name)
        if self.kube_nodes.pop(node.metadata.name, None) is not None:
            self._note_contact(node.metadata.name)
            self.touched.set()

    # --- what the writer says

    def refused(self, uid: str, message: str) -> None:
        """The API server refuses a job's pod, or a run of a cron job or stream: it is offered again later and later."""
        times = self.refusals[uid].times + 1 if uid in self.refusals else 1
        delay = min(LONGEST_REFUSAL, FIRST_REFUSAL * 2 ** min(times - 1, 10))
        self.refusals[uid] = Refusal(message, (datetime.now(UTC) + delay).replace(microsecond=0), times)
        self.touched.set()

    def taken(self, uid: str) -> None:
        """The API server has taken the pod of this job, or the run of this cron job or stream."""
        if self.refusals.pop(uid, None) is not None:
            self.touched.set()

    def job_gone(self, key: Key, uid: str) -> None:
        """A job has been deleted."""
        if self.jobs.drop(key, uid):
            self.touched.set()

    # --- what devices and the gateway say

    def heard(self, beat: wire.Beat) -> datetime:
        """A device has reported. Returns when, on the operator's clock."""
        received_at = self.beats.take(beat)
        self.stirred = True
        return received_at

    def offered(self, manifest: wire.Manifest) -> None:
        """The gateway holds these results and asks what becomes of them."""
        if self.manifests.get(manifest.pod_uid) != manifest:
            self.manifests[manifest.pod_uid] = manifest
            self.touched.set()

    def settled(self, manifest: wire.Manifest) -> None:
        """The gateway knows the final verdict."""
        self.manifests.pop(manifest.pod_uid, None)

    def pods_on(self, node: str) -> tuple[PodView, ...] | None:
        """The job pods that live on a device; None while the operator does not know."""
        if not self.pods_known:
            return None
        return tuple(pod for pod in self.pods.objects.values() if pod.node == node)

    def job(self, key: Key) -> JobView | None:
        """The job of that name."""
        return self.jobs.objects.get(key)

    def is_unreadable(self, uid: str) -> bool:
        """Whether an object of that UID is there but could not be read: then nothing is known of it."""
        return uid in self.unreadable

    def silent_nodes(self) -> set[str]:
        """The devices of which no fresh beat has come."""
        nodes = self._nodes().values()
        return {node.name for node in nodes if node.beat is None or late(node, self.installation.beat_interval)}

    # --- what decisions look at

    def _nodes(self) -> dict[str, NodeView]:
        """Every device with all that is known of it now."""
        leading_for = timedelta(seconds=self.clock() - self.leading_since)
        return {
            name: NodeView(
                name=name,
                uid=node.uid,
                generation=node.generation,
                resource_version=node.resource_version,
                spec=node.spec,
                status=node.status,
                kube=self.kube_nodes.get(name),
                beat=self.beats.view(name),
                lease=self.leases.view(name, self.beats.clock_offset(name)),
                leading_for=leading_for,
                kubelet_lost_for=self._kubelet_lost_for(name, node.status),
            )
            for name, node in self.edge_nodes.objects.items()
        }

    def _kubelet_lost_for(self, name: str, status: EdgeNodeStatus) -> timedelta:
        """How long a kubelet has been away. Of the time before it led, a leader knows what its predecessor wrote."""
        if name not in self.kubelets_lost:
            return timedelta()
        known = KUBELET_DOWN if ready_reason(status) == "KubeletDown" else timedelta()
        return known + timedelta(seconds=self.clock() - self.kubelets_lost[name])

    def snapshot(self) -> Snapshot:
        """Everything known now, frozen."""
        by_job: dict[str, list[PodView]] = {}
        for pod in self.pods.objects.values():
            by_job.setdefault(pod.job_uid, []).append(pod)
        return Snapshot(
            nodes=self._nodes(),
            apps=dict(self.apps.objects),
            jobs=dict(self.jobs.objects),
            pods={uid: tuple(pods) for uid, pods in by_job.items()},
            manifests=dict(self.manifests),
            refusals=dict(self.refusals),
            newcomers={
                name: self.kube_nodes[name]
                for name in self.beats.devices()
                if name not in self.edge_nodes.objects and name in self.kube_nodes
            },
            crons=dict(self.crons.objects),
            streams=dict(self.streams.objects),
            installation=self.installation,
            leading_for=timedelta(seconds=self.clock() - self.leading_since),
        )


@dataclass(slots=True)
class PodSink:
    """Feeds the pods' reflector into the world."""

    world: World

    def replaced(self, objects: list[PodObject], version: int) -> None:
        """A whole list of pods."""
        uids = {pod.metadata.uid for pod in objects}
        for pod in objects:
            self.world.saw_pod(pod)
        if self.world.pods.keep_only(uids, version) or not self.world.pods_known:
            self.world.pods_known = True
            self.world.touched.set()

    def changed(self, item: PodObject) -> None:
        """A pod is new or different."""
        self.world.saw_pod(item)

    def deleted(self, item: PodObject) -> None:
        """A pod is gone."""
        self.world.pod_gone(item)


@dataclass(slots=True)
class NodeSink:
    """Feeds the Nodes' reflector into the world."""

    world: World

    def replaced(self, objects: list[NodeObject], version: int) -> None:
        """A whole list of Nodes."""
        self.world.saw_kube_nodes(objects)

    def changed(self, item: NodeObject) -> None:
        """A Node is new or different."""
        self.world.saw_kube_node(item)

    def deleted(self, item: NodeObject) -> None:
        """A Node is gone."""
        self.world.kube_node_gone(item)
