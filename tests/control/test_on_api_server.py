"""Reflector, writer, Lease and certificates against a real API server: races, gaps and restarts included."""

import asyncio
import base64
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from edgewise.api import API_VERSION, KINDS, EdgeJobStatus, Phase, merge_patch
from edgewise.control.audit import Audit
from edgewise.control.certificates import Certificates
from edgewise.control.leadership import LeadershipLost, lead_when_elected
from edgewise.control.objects import PodObject, decode_pod
from edgewise.control.reflector import Forgotten, Reflector
from edgewise.control.settings import Settings
from edgewise.control.teller import MOST_WAITING, UNTOLD, Teller
from edgewise.control.world import World
from edgewise.control.writer import Writer
from edgewise.domain.actions import CreatePod, CreateRun, DeletePod, DeleteRun, Event, PatchStatus
from edgewise.domain.pods import build_pod
from edgewise.domain.runs import SCHEDULED_ANNOTATION, build_run
from edgewise.domain.views import CronView, Installation, JobView, Key
from edgewise.kube.client import MERGE_PATCH, KubeClient, Refused, Unreachable
from msgspec import json

from tests.control.waiting import SOON, until
from tests.domain.builders import app


@dataclass
class Seen:
    """A sink that remembers names."""

    names: set[str] = field(default_factory=set)
    lists: int = 0

    def replaced(self, objects: list[PodObject], version: int) -> None:
        self.names = {pod.metadata.name for pod in objects}
        self.lists += 1

    def changed(self, item: PodObject) -> None:
        self.names.add(item.metadata.name)

    def deleted(self, item: PodObject) -> None:
        self.names.discard(item.metadata.name)


def bare_pod(name: str) -> dict[str, Any]:
    """A pod that no scheduler takes."""
    spec = {"schedulerName": "nobody", "containers": [{"name": "app", "image": "none:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"test": "yes"}}, "spec": spec}


async def test_reflector_lists_follows_and_survives_silence(client: KubeClient, namespace: str) -> None:
    path, sink = f"/api/v1/namespaces/{namespace}/pods", Seen()
    await client.ask("POST", path, bare_pod("first"))
    reflector = Reflector(client, path, decode_pod, sink, {"labelSelector": "test=yes"}, silence=timedelta(seconds=1))
    running = asyncio.create_task(reflector.run())
    try:
        await until(lambda: sink.names == {"first"}, "the first list")
        assert reflector.complete.is_set()
        await client.ask("POST", path, bare_pod("second"))
        await until(lambda: sink.names == {"first", "second"}, "the second pod by watch")
        await until(lambda: sink.lists > 1, "another list after a silence of over a second")
        await client.ask("DELETE", f"{path}/first", {"gracePeriodSeconds": 0})
        await until(lambda: sink.names == {"second"}, "the deletion by watch")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_reflector_lists_anew_when_the_server_has_forgotten(client: KubeClient, namespace: str) -> None:
    """A watch from a version that is not there any more gets 410 Gone, which is no fault but a reason to list."""
    path, sink = f"/api/v1/namespaces/{namespace}/pods", Seen()
    reflector = Reflector(client, path, decode_pod, sink)
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    with pytest.raises(Forgotten, match="too old"):
        reflector.take(json.encode(gone))
    failed = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd is away"}}
    with pytest.raises(Refused, match="etcd is away"):
        reflector.take(json.encode(failed))
    bookmark = {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "42"}}}
    reflector.take(json.encode(bookmark))
    assert not sink.names


async def test_no_server_is_unreachable(kubeconfig: Any) -> None:
    client = await KubeClient.connect(kubeconfig)
    client._configuration.host = "https://127.0.0.1:9"
    with pytest.raises(Unreachable, match="GET /version"):
        await client.ask("GET", "/version")
    await client.close()


@pytest_asyncio.fixture
async def job(client: KubeClient, namespace: str, kinds: None) -> JobView:
    """A suspended EdgeJob, which a running operator leaves alone."""
    body = {
        "apiVersion": "edgewise.dev/v1alpha1",
        "kind": "EdgeJob",
        "metadata": {"name": "run", "namespace": namespace},
        "spec": {"appRef": {"name": "faces"}, "suspend": True},
    }
    answer = await client.ask("POST", f"/apis/edgewise.dev/v1alpha1/namespaces/{namespace}/edgejobs", body)
    world = World(Installation())
    world.saw("edgejobs", json.decode(answer))
    return world.jobs.objects[Key(namespace, "run")]


def creation(job: JobView) -> CreatePod:
    manifest = build_pod(job, app().spec, attempt=1, node="nowhere", placement="{}", priority_class="", deadline=None)
    manifest["spec"]["schedulerName"] = "nobody"
    return CreatePod(job.key, job.uid, manifest)


async def test_a_pod_is_made_once_and_known_at_once(client: KubeClient, job: JobView) -> None:
    world = World(Installation())
    writer = Writer(client, world, Teller(client, "test"))
    for _ in range(2):  # the second as after a crash between the creation and its record
        assert await writer.apply([creation(job)]) == 0
    pods = list(world.pods.objects.values())
    assert [(pod.key.name, pod.job_uid, pod.node) for pod in pods] == [(f"run-{job.uid[:5]}-1", job.uid, "nowhere")]
    listed = json.decode(await client.ask("GET", f"/api/v1/namespaces/{job.key.namespace}/pods"))
    assert len(listed["items"]) == 1


async def test_a_strangers_pod_of_that_name_is_not_taken_for_ours(client: KubeClient, job: JobView) -> None:
    name = creation(job).manifest["metadata"]["name"]
    await client.ask("POST", f"/api/v1/namespaces/{job.key.namespace}/pods", bare_pod(name))
    world = World(Installation())
    assert await Writer(client, world, Teller(client, "test")).apply([creation(job)]) == 0
    assert not world.pods.objects
    assert "already exists" in world.refusals[job.uid].message


async def test_deleting_is_of_that_very_pod(client: KubeClient, job: JobView) -> None:
    world = World(Installation())
    writer = Writer(client, world, Teller(client, "test"))
    await writer.apply([creation(job)])
    pod = next(iter(world.pods.objects.values()))
    path = f"/api/v1/namespaces/{pod.key.namespace}/pods/{pod.key.name}"
    other = "99999999-0000-4000-8000-000000000000"
    assert await writer.apply([DeletePod(pod.key, other)]) == 0
    assert await writer.apply([DeletePod(pod.key, pod.uid, resource_version="1")]) == 0
    assert json.decode(await client.ask("GET", path))["metadata"]["uid"] == pod.uid, "both preconditions failed"
    assert await writer.apply([DeletePod(pod.key, pod.uid, pod.resource_version)]) == 0
    with pytest.raises(Refused, match="NotFound"):
        await client.ask("GET", path)
    assert await writer.apply([DeletePod(pod.key, pod.uid)]) == 0, "gone already is as asked"


@pytest_asyncio.fixture
async def cron(client: KubeClient, namespace: str, kinds: None) -> CronView:
    """A suspended EdgeCronJob of suspended EdgeJobs."""
    template = {"spec": {"appRef": {"name": "faces"}, "suspend": True}}
    body = {
        "apiVersion": "edgewise.dev/v1alpha1",
        "kind": "EdgeCronJob",
        "metadata": {"name": "nightly", "namespace": namespace},
        "spec": {"schedule": "@daily", "suspend": True, "jobTemplate": template},
    }
    answer = await client.ask("POST", f"/apis/edgewise.dev/v1alpha1/namespaces/{namespace}/edgecronjobs", body)
    world = World(Installation())
    world.saw("edgecronjobs", json.decode(answer))
    return world.crons.objects[Key(namespace, "nightly")]


def a_run(cron: CronView) -> CreateRun:
    key = Key(cron.key.namespace, f"{cron.key.name}-29540000")
    return CreateRun(cron.key, cron.uid, build_run(cron, key, (SCHEDULED_ANNOTATION, "2026-03-01T23:20:00Z")))


async def test_a_run_is_made_once_and_known_at_once(client: KubeClient, cron: CronView) -> None:
    world = World(Installation())
    writer = Writer(client, world, Teller(client, "test"))
    for _ in range(2):  # the second as after a crash between the creation and its record
        assert await writer.apply([a_run(cron)]) == 0
    [run] = world.jobs.objects.values()
    assert (run.key.name, run.cron_uid) == ("nightly-29540000", cron.uid)
    other = "99999999-0000-4000-8000-000000000000"
    assert await writer.apply([DeleteRun(run.key, other)]) == 0
    assert world.jobs.objects, "a namesake is not deleted"
    assert await writer.apply([DeleteRun(run.key, run.uid)]) == 0
    assert not world.jobs.objects, "what is deleted is known at once, too"
    assert await writer.apply([DeleteRun(run.key, run.uid)]) == 0, "gone already is as asked"


async def test_a_strangers_job_of_that_name_is_not_taken_for_a_run(client: KubeClient, cron: CronView) -> None:
    strangers = a_run(cron).manifest
    del strangers["metadata"]["ownerReferences"]
    path = f"/apis/edgewise.dev/v1alpha1/namespaces/{cron.key.namespace}/edgejobs"
    await client.ask("POST", path, strangers)
    world = World(Installation())
    assert await Writer(client, world, Teller(client, "test")).apply([a_run(cron)]) == 0
    assert not world.jobs.objects
    assert "already exists" in world.refusals[cron.uid].message


def patch(job: JobView, phase: Phase) -> PatchStatus:
    return PatchStatus(
        "edgejobs", job.key, job.resource_version, EdgeJobStatus(phase=Phase.PENDING), EdgeJobStatus(phase=phase)
    )


async def test_a_status_is_written_only_over_what_was_seen(client: KubeClient, job: JobView) -> None:
    world = World(Installation())
    writer = Writer(client, world, Teller(client, "test"))
    path = f"/apis/edgewise.dev/v1alpha1/namespaces/{job.key.namespace}/edgejobs/run"
    assert await writer.apply([patch(job, Phase.BOUND)]) == 0
    known = world.jobs.objects[job.key]
    assert known.status.phase == "Bound"
    assert await writer.apply([patch(job, Phase.RUNNING)]) == 0, (
        "a lost race is settled: the newer state comes by watch"
    )
    assert json.decode(await client.ask("GET", path))["status"]["phase"] == "Bound"
    assert await writer.apply([patch(replace(job, resource_version=known.resource_version), Phase.RUNNING)]) == 0
    assert json.decode(await client.ask("GET", path))["status"]["phase"] == "Running"


async def test_events_are_shown_with_their_object(client: KubeClient, job: JobView) -> None:
    teller = Teller(client, "operator-1")
    writer = Writer(client, World(Installation()), teller)
    event = Event("EdgeJob", job.key, job.uid, warning=True, reason="Stalled", message="why" + "°" * 2000)
    assert await writer.apply([replace(patch(job, Phase.BOUND), events=(event,))]) == 0
    assert await writer.apply([replace(patch(job, Phase.BOUND), events=(event,))]) == 0, "a lost race tells nothing"
    await teller.tell_all()
    query = {"fieldSelector": f"involvedObject.uid={job.uid}"}
    events = json.decode(await client.ask("GET", f"/api/v1/namespaces/{job.key.namespace}/events", query=query))
    assert [(one["type"], one["reason"], one["message"][:4]) for one in events["items"]] == [
        ("Warning", "Stalled", "why°")
    ]


async def test_events_that_nobody_can_take_are_dropped_and_not_piled_up(kubeconfig: Any) -> None:
    client = await KubeClient.connect(kubeconfig)
    client._configuration.host = "https://127.0.0.1:9"
    teller = Teller(client, "operator-1")
    event = Event("EdgeJob", Key("demo", "run"), "uid", warning=False, reason="Placed", message="")
    before = UNTOLD._value.get()
    teller.tell([event] * (MOST_WAITING + 2))
    assert UNTOLD._value.get() == before + 2
    await teller.tell_all()
    assert UNTOLD._value.get() == before + 2 + MOST_WAITING
    await client.close()


async def test_audit_drops_ghosts_and_sees_a_watch_that_has_stopped(client: KubeClient, job: JobView) -> None:
    world = World(Installation())
    audit = Audit(client, world)
    await audit.once()
    assert not audit.complete.is_set(), "the cache has not seen the job"
    await audit.once()
    assert audit.fault(timedelta(0)) is not None
    assert "behind the API server" in (audit.fault(timedelta(0)) or "")
    ghost = replace(job, key=Key("demo", "ghost"), uid="ghost", resource_version="1")
    world.jobs.put(ghost.key, ghost)
    await audit.once()
    assert ghost.key not in world.jobs.objects


async def hear_all(client: KubeClient, world: World) -> None:
    """Tell the world of all objects of our kinds, as their watches would: other tests may have left some."""
    for kind in KINDS:
        for raw in json.decode(await client.ask("GET", f"/apis/{API_VERSION}/{kind.plural}"))["items"]:
            world.told(kind.plural, None, raw)


async def test_audit_reads_what_a_watch_has_missed(client: KubeClient, job: JobView) -> None:
    """Once the caches are complete: the watch has told of the job, and then no more."""
    world = World(Installation())
    audit = Audit(client, world)
    await hear_all(client, world)
    audit.complete.set()
    path = f"/apis/edgewise.dev/v1alpha1/namespaces/{job.key.namespace}/edgejobs/run"
    await client.ask("PATCH", path, {"spec": {"priority": 7}}, content_type=MERGE_PATCH)
    await audit.once()
    assert world.jobs.objects[job.key].spec.priority == 0, "it may be on its way"
    await audit.once()
    assert world.jobs.objects[job.key].spec.priority == 7
    assert "the watch of edgejobs has stopped" in (audit.fault(timedelta(0)) or "")
    assert audit.fault(timedelta(minutes=1)) is None
    await hear_all(client, world)
    await audit.once()
    assert audit.fault(timedelta(0)) is None, "the watch speaks again"


def settings(namespace: str, pod: str = "operator-1") -> Settings:
    return Settings(namespace=namespace, pod_name=pod)


async def test_certificates_are_made_kept_and_trusted(client: KubeClient, namespace: str) -> None:
    first = Certificates(client, settings(namespace))
    await first.ensure()
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    names = {one["metadata"]["name"]: one for one in json.decode(await client.ask("GET", secrets))["items"]}
    assert {"edgewise-ca", "edgewise-operator-tls", "edgewise-gateway-tls"} <= set(names)
    trusted = json.decode(await client.ask("GET", f"/api/v1/namespaces/{namespace}/configmaps/edgewise-ca"))
    assert trusted["data"]["ca.crt"].encode() == base64.b64decode(names["edgewise-ca"]["data"]["tls.crt"])

    await Certificates(client, settings(namespace)).ensure()
    again = {one["metadata"]["name"]: one for one in json.decode(await client.ask("GET", secrets))["items"]}
    assert {name: one["metadata"]["resourceVersion"] for name, one in again.items()} == {
        name: one["metadata"]["resourceVersion"] for name, one in names.items()
    }, "nothing is due, so nothing is written"

    emptied = {"data": {"tls.crt": "", "tls.key": ""}}
    await client.ask("PATCH", f"{secrets}/edgewise-gateway-tls", emptied, content_type=MERGE_PATCH)
    await first.ensure()
    mended = json.decode(await client.ask("GET", f"{secrets}/edgewise-gateway-tls"))
    assert b"BEGIN CERTIFICATE" in base64.b64decode(mended["data"]["tls.crt"])


async def test_existing_certificates_are_only_read(client: KubeClient, namespace: str) -> None:
    existing = Settings(namespace=namespace, pod_name="operator-1", tls_mode="Existing")
    with pytest.raises(Refused, match="edgewise-operator-tls is missing"):
        await Certificates(client, existing).ensure()


async def test_one_leads_and_the_next_takes_over(client: KubeClient, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    for name in ("operator-1", "operator-2"):
        await client.ask("POST", pods, bare_pod(name))
    leading: list[str] = []

    def leader(name: str) -> "asyncio.Task[None]":
        async def lead() -> None:
            leading.append(name)
            await asyncio.Event().wait()

        return asyncio.create_task(lead_when_elected(client, settings(namespace, name), lead))

    async def labelled() -> list[str]:
        query = {"labelSelector": "edgewise.dev/leader=true"}
        return [one["metadata"]["name"] for one in json.decode(await client.ask("GET", pods, query=query))["items"]]

    first = leader("operator-1")
    await until(lambda: leading == ["operator-1"], "the first leads")
    second = leader("operator-2")
    assert await labelled() == ["operator-1"]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await until(lambda: leading == ["operator-1", "operator-2"], "the second takes over")
    assert await labelled() == ["operator-2"]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_a_leader_whose_lease_is_taken_ends(client: KubeClient, namespace: str) -> None:
    await client.ask("POST", f"/api/v1/namespaces/{namespace}/pods", bare_pod("operator-1"))
    started = asyncio.Event()

    async def lead() -> None:
        started.set()
        await asyncio.Event().wait()

    leading = asyncio.create_task(lead_when_elected(client, settings(namespace), lead))
    await started.wait()
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/edgewise-operator"
    taken = {"spec": {"holderIdentity": "operator-2", "leaseDurationSeconds": 3600}}
    await client.ask("PATCH", lease, taken, content_type=MERGE_PATCH)
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(leading, 2 * SOON)


async def test_a_part_that_fails_ends_the_leader(client: KubeClient, namespace: str) -> None:
    await client.ask("POST", f"/api/v1/namespaces/{namespace}/pods", bare_pod("operator-1"))

    async def lead() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await lead_when_elected(client, settings(namespace), lead)


def test_a_merge_patch_removes_what_is_no_more() -> None:
    assert merge_patch({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1}}) == {"a": None, "b": {"d": None}}
