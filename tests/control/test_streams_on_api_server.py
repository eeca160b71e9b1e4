"""An EdgeStream against a real API server: what the plan asks for is carried out and read back, restarts included."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio
from edgewise.api import KINDS, EdgeStreamStatus, Outcome, StreamPhase
from edgewise.api.schema import status_body
from edgewise.control.teller import Teller
from edgewise.control.world import World
from edgewise.control.writer import Writer
from edgewise.domain.actions import PatchSpec
from edgewise.domain.plan import plan
from edgewise.domain.stream_runs import is_outdated, run_of
from edgewise.domain.views import Installation, JobView, Key, StreamView
from edgewise.kube.client import MERGE_PATCH, KubeClient
from msgspec import json

from tests.api.examples import STREAM
from tests.domain.test_streams import ended

GROUP = "/apis/edgewise.dev/v1alpha1"


@dataclass
class Stage:
    """An operator without devices, whose caches are what the API server held when it last looked."""

    client: KubeClient
    namespace: str
    world: World

    async def look(self) -> None:
        """Start anew, with no memory of what was before."""
        self.world = World(Installation())
        self.world.pods_known = True
        for kind in KINDS:
            listed = json.decode(await self.client.ask("GET", f"{GROUP}/{kind.plural}"))
            for item in listed["items"]:
                if item["metadata"].get("namespace") == self.namespace:
                    self.world.saw(kind.plural, item)

    async def work(self, now: datetime | None = None, passes: int = 6) -> None:
        """Plan and apply until nothing is left to do."""
        writer = Writer(self.client, self.world, Teller(self.client, "test"))
        for _ in range(passes):
            made = plan(self.world.snapshot(), now or datetime.now(UTC))
            assert not made.faults, made.faults
            if not made.actions:
                return
            assert await writer.apply(made.actions) == 0
        raise AssertionError(f"there is still {made.actions}")

    async def edit(self, **spec: Any) -> None:
        path = f"{GROUP}/namespaces/{self.namespace}/edgestreams/scan"
        answer = await self.client.ask("PATCH", path, {"spec": spec}, content_type=MERGE_PATCH)
        self.world.saw("edgestreams", json.decode(answer))

    async def end(self, name: str) -> None:
        """The run has ended, long ago."""
        path = f"{GROUP}/namespaces/{self.namespace}/edgejobs/{name}/status"
        status = status_body(ended(ago=-3600, outcome=Outcome.FAILED)) | {"observedGeneration": 1}
        answer = await self.client.ask("PATCH", path, {"status": status}, content_type=MERGE_PATCH)
        self.world.saw("edgejobs", json.decode(answer))

    @property
    def stream(self) -> StreamView:
        return self.world.streams.objects[Key(self.namespace, "scan")]

    @property
    def status(self) -> EdgeStreamStatus:
        return self.stream.status

    def run(self, number: int) -> JobView:
        return self.world.jobs.objects[Key(self.namespace, f"scan-{number}")]

    async def names(self) -> list[str]:
        listed = json.decode(await self.client.ask("GET", f"{GROUP}/namespaces/{self.namespace}/edgejobs"))
        return sorted(item["metadata"]["name"] for item in listed["items"])


@pytest_asyncio.fixture
async def stage(client: KubeClient, namespace: str, kinds: None) -> Stage:
    """An EdgeStream with every field of its template, and no EdgeApp."""
    spec = {**STREAM["spec"], "suspend": False}
    body = {**{name: STREAM[name] for name in ("apiVersion", "kind")}, "metadata": {"name": "scan"}, "spec": spec}
    await client.ask("POST", f"{GROUP}/namespaces/{namespace}/edgestreams", body)
    made = Stage(client, namespace, World(Installation()))
    await made.look()
    return made


async def test_a_run_is_made_once_and_is_as_its_template_says(stage: Stage) -> None:
    await stage.work()
    await stage.look()
    await stage.work()
    assert await stage.names() == ["scan-1"]
    assert (stage.status.run, stage.status.phase) == ("scan-1", StreamPhase.PENDING)
    run = run_of(stage.stream, stage.run(1))
    assert run is not None
    assert not is_outdated(stage.stream, run), "what the API server adds to a spec is no edit of the template"


async def test_a_run_that_was_made_just_before_a_crash_is_taken_for_what_it_is(stage: Stage) -> None:
    made = plan(stage.world.snapshot(), datetime.now(UTC))
    assert await Writer(stage.client, World(Installation()), Teller(stage.client, "test")).apply(made.actions) == 0
    assert await Writer(stage.client, World(Installation()), Teller(stage.client, "test")).apply(made.actions) == 0
    await stage.look()
    await stage.work()
    assert await stage.names() == ["scan-1"]
    assert stage.status.run_number == 1


async def test_the_next_run_follows_after_its_pause(stage: Stage) -> None:
    await stage.work()
    await stage.end("scan-1")
    over = stage.run(1).status.completion_time
    assert over is not None
    await stage.work(over + timedelta(seconds=9))
    assert (stage.status.phase, stage.status.next_run_at) == (StreamPhase.RESTARTING, over + timedelta(seconds=10))
    await stage.look()
    await stage.work(over + timedelta(seconds=10))
    assert (stage.status.run, stage.status.restarts, stage.status.quick_ends) == ("scan-2", 1, 1)
    assert await stage.names() == ["scan-1", "scan-2"]


async def test_suspend_ends_the_run_and_resuming_starts_another(stage: Stage) -> None:
    await stage.work()
    await stage.edit(suspend=True)
    await stage.work()
    assert stage.run(1).spec.cancel
    assert (stage.run(1).status.phase, stage.status.phase) == ("Cancelled", StreamPhase.SUSPENDED)
    await stage.look()
    await stage.edit(suspend=False)
    await stage.work()
    assert (stage.status.run, stage.status.restarts) == ("scan-2", 0)


async def test_an_edit_of_the_template_replaces_the_run(stage: Stage) -> None:
    await stage.work()
    await stage.edit(jobTemplate={"spec": {"args": ["--other"]}})
    await stage.work()
    assert stage.run(1).status.phase == "Cancelled"
    assert stage.run(2).spec.args == ("--other",)
    assert stage.status.run == "scan-2"


async def test_priority_and_retention_reach_the_run_that_goes_on(stage: Stage) -> None:
    await stage.work()
    await stage.edit(jobTemplate={"spec": {"priority": 9, "retention": {"pods": "Forever", "results": "7d"}}})
    await stage.work()
    spec = stage.run(1).spec
    assert (spec.priority, spec.retention.pods, spec.retention.results, spec.cancel) == (9, None, "7d", False)
    assert await stage.names() == ["scan-1"]


async def test_a_spec_is_changed_only_as_it_was_seen(stage: Stage) -> None:
    await stage.work()
    run = stage.run(1)
    stale = PatchSpec(run.key, str(int(run.resource_version) - 1), {"cancel": True})
    writer = Writer(stage.client, stage.world, Teller(stage.client, "test"))
    assert await writer.apply([stale]) == 0, "a lost race is settled: the newer state comes by watch"
    await stage.look()
    assert not stage.run(1).spec.cancel
    assert await writer.apply([replace(stale, resource_version=run.resource_version)]) == 0
    await stage.look()
    assert stage.run(1).spec.cancel
