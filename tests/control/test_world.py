"""The caches hold the newest of what was seen, in whatever order watches and the writer's own answers arrive."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from edgewise.control.objects import NodeObject, decode_node, decode_pod
from edgewise.control.world import Cache, NodeSink, PodSink, World
from edgewise.domain.views import Installation, Key, PodPhase
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from tests.domain.builders import CRON_UID


@dataclass(frozen=True)
class Thing:
    uid: str
    resource_version: str


@given(st.permutations([Thing("a", str(version)) for version in range(1, 7)]))
def test_any_order_of_versions_ends_with_the_newest(seen: list[Thing]) -> None:
    cache: Cache[str, Thing] = Cache()
    for thing in seen:
        cache.put("x", thing)
    assert cache.objects["x"].resource_version == "6"


@given(st.permutations(["1", "2", "gone", "3"]))
def test_what_was_deleted_stays_deleted(events: list[str]) -> None:
    cache: Cache[str, Thing] = Cache()
    deleted = False
    for event in events:
        if event == "gone":
            cache.drop("x", "a")
            deleted = True
        else:
            kept = cache.put("x", Thing("a", event))
            assert not (kept and deleted)
    assert "x" not in cache.objects


def test_a_namesake_takes_the_place() -> None:
    cache: Cache[str, Thing] = Cache()
    cache.put("x", Thing("a", "9"))
    assert cache.put("x", Thing("b", "10"))
    assert not cache.drop("x", "a"), "the late deletion of the first must not take the second"
    assert cache.objects["x"].uid == "b"


def test_a_whole_list_drops_what_it_does_not_hold_unless_newer() -> None:
    cache: Cache[str, Thing] = Cache()
    for name, version in (("old", "5"), ("listed", "6"), ("newer", "20")):
        cache.put(name, Thing(name, version))
    assert cache.keep_only({"listed"}, 10)
    assert set(cache.objects) == {"listed", "newer"}


LABELS = {"job": "run", "job-uid": "j", "attempt": "1", "node": "e"}


def pod(**status: Any) -> bytes:
    labels = {
        "edgewise.dev/job": "run",
        "edgewise.dev/job-uid": "j",
        "edgewise.dev/attempt": "1",
        "edgewise.dev/node": "e",
    }
    volumes = [
        {"name": "file-key", "secret": {"secretName": "key"}},
        {
            "name": "edgewise-source",
            "csi": {"driver": "outputs.edgewise.dev", "volumeAttributes": {"bundle": "ab" * 32}},
        },
        {"name": "edgewise-outputs", "csi": {"driver": "outputs.edgewise.dev"}},
    ]
    owner = {"kind": "EdgeJob", "uid": "j", "controller": True}
    metadata = {"name": "run-j-1", "namespace": "demo", "uid": "p", "resourceVersion": "7"}
    return json.encode(
        {
            "metadata": metadata | {"labels": labels, "ownerReferences": [owner]},
            "spec": {
                "nodeName": "e",
                "volumes": volumes,
                "containers": [{"resources": {"requests": {"cpu": "250m", "memory": "1Gi"}}}],
            },
            "status": status,
        }
    )


def test_a_pod_is_read_as_kubelet_writes_it() -> None:
    ended = {
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": "2026-03-01T12:00:00Z",
        "finishedAt": "2026-03-01T12:00:09Z",
    }
    view = decode_pod(pod(phase="Failed", containerStatuses=[{"state": {"terminated": ended}}])).view(None)
    assert (view.phase, view.exit_code, view.reason) == (PodPhase.FAILED, 137, "OOMKilled")
    assert view.finished_at is not None
    assert view.started_at is not None
    assert (view.finished_at - view.started_at).total_seconds() == 9
    assert view.requests == {"cpu": 0.25, "memory": 2**30}
    assert (view.bound, view.has_outputs, view.attempt, view.node) == (True, True, 1, "e")
    assert view.bundle == "ab" * 32


def test_a_waiting_pod_says_why() -> None:
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    view = decode_pod(pod(phase="Pending", containerStatuses=[{"state": {"waiting": waiting}}])).view(None)
    assert (view.phase, view.waiting_reason, view.waiting_message) == (PodPhase.PENDING, "ErrImagePull", "not found")
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes"}
    assert decode_pod(pod(phase="Pending", conditions=[condition])).view(None).unschedulable == "0/4 nodes"


def test_running_since_is_when_it_was_first_seen_running() -> None:
    world = World(Installation())
    world.saw_pod(decode_pod(pod(phase="Running")))
    first = world.pods.objects[Key("demo", "run-j-1")]
    later = decode_pod(pod(phase="Running").replace(b'"resourceVersion":"7"', b'"resourceVersion":"8"'))
    world.saw_pod(later)
    second = world.pods.objects[Key("demo", "run-j-1")]
    assert first.running_since is not None
    assert second.running_since == first.running_since
    assert second == replace(first, resource_version="8")


def test_until_the_first_list_nobody_knows_the_live_pods() -> None:
    world = World(Installation())
    assert world.pods_on("e") is None
    PodSink(world).replaced([decode_pod(pod(phase="Running"))], 7)
    known = world.pods_on("e")
    assert known is not None
    assert [one.uid for one in known] == ["p"]
    assert world.touched.is_set()


def test_an_object_that_can_not_be_read_is_left_as_it_was() -> None:
    world = World(Installation())
    meta = {"name": "faces", "namespace": "demo", "uid": "u", "resourceVersion": "1", "generation": 1}
    world.saw("edgeapps", {"metadata": meta, "spec": {"image": "a:1"}})
    world.saw("edgeapps", {"metadata": meta | {"resourceVersion": "2"}, "spec": {"image": 7}})
    assert world.apps.objects[Key("demo", "faces")].spec.image == "a:1"


@pytest.mark.parametrize(
    ("truth", "lie"),
    [
        (b'"edgewise.dev/attempt":"1"', b'"edgewise.dev/attempt":"2"'),
        (b'"edgewise.dev/attempt":"1"', b'"edgewise.dev/attempt":"x"'),
        (b'"edgewise.dev/node":"e"', b'"edgewise.dev/node":""'),
        (b'"controller":true', b'"controller":false'),
        (b'"uid":"j"', b'"uid":"another"'),
    ],
)
def test_a_pod_that_only_claims_to_be_a_jobs_is_none(truth: bytes, lie: bytes) -> None:
    world = World(Installation())
    honest = pod(phase="Succeeded")
    assert truth in honest
    world.saw_pod(decode_pod(honest.replace(truth, lie)))
    assert not world.pods.objects


def test_a_pod_that_was_deleted_unseen_goes_with_the_next_list() -> None:
    world = World(Installation())
    sink = PodSink(world)
    sink.replaced([decode_pod(pod(phase="Running"))], 7)
    sink.replaced([], 9)
    assert not world.pods.objects


def test_power_lost_before_the_containers_start_was_kept_strands_the_pod() -> None:
    """As seen on a real device: the container exists, its sandbox is gone, and kubelet never starts it."""
    stuck = {"containerID": "containerd://9430", "state": {"waiting": {}}}
    sandbox = {"type": "PodReadyToStartContainers", "status": "False"}
    assert decode_pod(pod(phase="Pending", containerStatuses=[stuck], conditions=[sandbox])).view(None).stranded
    ready = sandbox | {"status": "True"}
    assert not decode_pod(pod(phase="Pending", containerStatuses=[stuck], conditions=[ready])).view(None).stranded


def test_a_refused_pod_waits_longer_each_time() -> None:
    world = World(Installation())
    world.refused("j", "no")
    first = world.refusals["j"]
    world.refused("j", "no")
    second = world.refusals["j"]
    assert (first.times, second.times) == (1, 2)
    assert second.retry_at > first.retry_at
    world.taken("j")
    assert world.snapshot().refusals == {}


def test_a_corrected_cron_job_is_offered_again_at_once() -> None:
    def cron(version: int, generation: int) -> dict[str, Any]:
        meta = {"name": "c", "namespace": "n", "uid": CRON_UID, "resourceVersion": str(version)}
        spec = {"schedule": "@daily", "jobTemplate": {"spec": {"appRef": {"name": "faces"}}}}
        return {"metadata": meta | {"generation": generation}, "spec": spec}

    world = World(Installation())
    world.saw("edgecronjobs", cron(1, 1))
    world.refused(CRON_UID, "no")
    world.saw("edgecronjobs", cron(2, 1))
    assert CRON_UID in world.snapshot().refusals, "its status was written"
    world.saw("edgecronjobs", cron(3, 2))
    assert world.snapshot().refusals == {}


def test_how_long_a_kubelet_has_been_away_is_known_without_any_clock_of_another() -> None:
    def node(ready: str, version: int) -> NodeObject:
        meta = {"name": "e", "uid": "u", "resourceVersion": str(version), "creationTimestamp": "2026-01-01T00:00:00Z"}
        condition = {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        return decode_node(json.encode({"metadata": meta, "status": {"conditions": [condition]}}))

    def lost() -> float:
        return world.snapshot().nodes["e"].kubelet_lost_for.total_seconds()

    now = 100.0
    world = World(Installation(), clock=lambda: now, leading_since=now)
    edge = {"name": "e", "uid": "u2", "resourceVersion": "1", "generation": 1}
    world.saw("edgenodes", {"metadata": edge, "spec": {}})
    NodeSink(world).replaced([node("Unknown", 1)], 1)
    assert lost() == 0, "a new leader has only just seen it"
    now = 160.0
    assert world.snapshot().leading_for == timedelta(seconds=60)
    NodeSink(world).replaced([node("Unknown", 2)], 2)
    assert lost() == 60
    NodeSink(world).changed(node("True", 3))
    assert lost() == 0
    NodeSink(world).changed(node("Unknown", 4))
    down = {"type": "Ready", "status": "False", "reason": "KubeletDown", "message": "", "observedGeneration": 1}
    told = {"conditions": [down | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    world.saw("edgenodes", {"metadata": edge | {"resourceVersion": "2"}, "spec": {}, "status": told})
    assert lost() == 300, "its predecessor has written that it was down"


def test_the_images_of_a_node_are_known_by_their_full_names() -> None:
    """Some container runtimes leave the registry out, and images without a name have none."""
    names = ["busybox:1.36", "docker.io/library/busybox@sha256:ab"]
    status = {"images": [{"names": names, "sizeBytes": 1}, {"names": None, "sizeBytes": 2}, {"sizeBytes": 3}]}
    meta = {"name": "e", "uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    node = decode_node(json.encode({"metadata": meta, "status": status}))
    expected = {"docker.io/library/busybox:1.36", "docker.io/library/busybox@sha256:ab"}
    assert node.view().images == expected
