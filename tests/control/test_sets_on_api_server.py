"""Sets against a real API server: their runs are made once, follow their set, and what is written is taken."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest
import pytest_asyncio
from edgewise.control.teller import Teller
from edgewise.control.world import World
from edgewise.control.writer import Writer
from edgewise.domain.actions import CreateRun, PatchSpec, PatchStatus
from edgewise.domain.plan import plan
from edgewise.domain.views import Installation, JobView, Key
from edgewise.kube.client import MERGE_PATCH, KubeClient
from msgspec import json

GROUP: Final = "/apis/edgewise.dev/v1alpha1/namespaces"
SPEC: Final[dict[str, Any]] = {
    "appRef": {"name": "faces"},
    "completions": 3,
    "parallelism": 2,
    "maxFailedIndexes": 1,
    "placement": {"maxPerDevice": 1},
    "disconnect": {"replaceAfterSeconds": "Never"},
    "retention": {"pods": "Forever"},
    "priority": 5,
}


class Operator:
    """World, plan and writer, one pass at a time."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.world = World(Installation())
        self.writer = Writer(client, self.world, Teller(client, "test"))

    async def watch(self) -> None:
        """See everything that is there, and that nothing else is."""
        for plural in ("edgeapps", "edgejobs"):
            answer = json.decode(await self.client.ask("GET", f"{GROUP}/{self.namespace}/{plural}"))
            for item in answer["items"]:
                self.world.saw(plural, item)
            uids = {item["metadata"]["uid"] for item in answer["items"]}
            self.world.compare(plural, uids, int(answer["metadata"]["resourceVersion"]))

    async def passes(self, count: int = 1) -> None:
        """Plan and carry out what is about sets and their runs."""
        for _ in range(count):
            actions = plan(self.world.snapshot(), datetime.now(UTC)).actions
            assert await self.writer.apply(one for one in actions if isinstance(one, CreateRun | PatchSpec)) == 0
            statuses = [one for one in actions if isinstance(one, PatchStatus) and one.plural == "edgejobs"]
            assert await self.writer.apply(statuses) == 0

    def job(self, name: str) -> JobView:
        return self.world.jobs.objects[Key(self.namespace, name)]

    def names(self) -> set[str]:
        return {key.name for key in self.world.jobs.objects}


@pytest_asyncio.fixture
async def operator(client: KubeClient, namespace: str, kinds: None) -> Operator:
    """An operator that knows a set of three and its app."""
    kind = {"apiVersion": "edgewise.dev/v1alpha1"}
    app = {**kind, "kind": "EdgeApp", "metadata": {"name": "faces"}, "spec": {"image": "faces:1"}}
    await client.ask("POST", f"{GROUP}/{namespace}/edgeapps", app)
    body = {**kind, "kind": "EdgeJob", "metadata": {"name": "scan"}, "spec": SPEC}
    await client.ask("POST", f"{GROUP}/{namespace}/edgejobs", body)
    operator = Operator(client, namespace)
    await operator.watch()
    return operator


async def test_runs_are_made_as_the_api_server_takes_them(operator: Operator) -> None:
    await operator.passes(2)
    assert operator.names() == {"scan", "scan-0", "scan-1"}
    owner, run = operator.job("scan"), operator.job("scan-1")
    assert (run.set_uid, run.set_name, run.spec.index, run.spec.completions) == (owner.uid, "scan", 1, 3)
    assert not run.is_set
    assert run.spec.disconnect.replace_after_seconds is None
    assert run.spec.retention.pods is None
    assert run.spec.placement.max_per_device == 1
    assert (run.spec.parallelism, run.spec.max_failed_indexes) == (None, None)
    assert owner.status.runs is not None
    assert (owner.status.runs.total, owner.status.runs.progress) == (3, "0/3")


async def test_a_new_operator_makes_none_again(client: KubeClient, operator: Operator) -> None:
    """Also one that does not know of them yet, as when the last one was killed before its watch told."""
    blind = Operator(client, operator.namespace)
    await blind.watch()
    await operator.passes()
    uids = {name: operator.job(name).uid for name in operator.names()}
    await blind.passes()
    await blind.watch()
    assert {name: blind.job(name).uid for name in blind.names()} == uids


async def test_a_strangers_job_of_a_runs_name_is_not_taken_for_one(client: KubeClient, operator: Operator) -> None:
    body = {
        "apiVersion": "edgewise.dev/v1alpha1",
        "kind": "EdgeJob",
        "metadata": {"name": "scan-0"},
        "spec": {"appRef": {"name": "faces"}, "suspend": True},
    }
    await client.ask("POST", f"{GROUP}/{operator.namespace}/edgejobs", body)
    await operator.passes()
    assert "already exists" in operator.world.refusals[operator.job("scan").uid].message
    await operator.watch()
    await operator.passes()
    stalled = next(one for one in operator.job("scan").status.conditions if one.type == "Stalled")
    assert (stalled.status, stalled.reason) == ("True", "NameTaken")
    assert operator.job("scan-0").set_uid == ""


@pytest.mark.parametrize(
    ("edit", "field", "value"),
    [
        ({"suspend": True}, "suspend", True),
        ({"priority": -7}, "priority", -7),
        ({"cancel": True}, "cancel", True),
        ({"retention": {"pods": None, "results": "7d"}}, "retention", ("1h", "7d")),
        ({"retention": {"pods": "Forever"}}, "retention", (None, None)),
    ],
)
async def test_an_edit_reaches_the_runs(
    client: KubeClient, operator: Operator, edit: dict[str, Any], field: str, value: object
) -> None:
    await operator.passes()
    path = f"{GROUP}/{operator.namespace}/edgejobs/scan"
    await client.ask("PATCH", path, {"spec": edit}, content_type=MERGE_PATCH)
    await operator.watch()
    await operator.passes(3)
    for name in ("scan-0", "scan-1"):
        found = getattr(operator.job(name).spec, field)
        assert (found if field != "retention" else (found.pods, found.results)) == value
    actions = plan(operator.world.snapshot(), datetime.now(UTC)).actions
    assert not [one for one in actions if isinstance(one, CreateRun | PatchSpec)], "and then it is left alone"


async def test_a_run_that_has_changed_meanwhile_is_steered_anew(client: KubeClient, operator: Operator) -> None:
    await operator.passes()
    path = f"{GROUP}/{operator.namespace}/edgejobs"
    await client.ask("PATCH", f"{path}/scan", {"spec": {"priority": 9}}, content_type=MERGE_PATCH)
    await client.ask("PATCH", f"{path}/scan-0", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE_PATCH)
    operator.world.saw("edgejobs", json.decode(await client.ask("GET", f"{path}/scan")))
    await operator.passes()
    assert operator.job("scan-0").spec.priority == 5, "a lost race is no error"
    await operator.watch()
    await operator.passes()
    assert operator.job("scan-0").spec.priority == 9


async def test_a_cancelled_set_ends_with_its_runs(client: KubeClient, operator: Operator) -> None:
    await operator.passes()
    path = f"{GROUP}/{operator.namespace}/edgejobs/scan"
    await client.ask("PATCH", path, {"spec": {"cancel": True}}, content_type=MERGE_PATCH)
    await operator.watch()
    await operator.passes(4)
    assert all(operator.job(name).finished for name in ("scan", "scan-0", "scan-1"))
    assert operator.job("scan").status.phase == "Cancelled"
    assert operator.names() == {"scan", "scan-0", "scan-1"}
