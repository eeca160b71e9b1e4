"""What the writer and the audit make of an API server's answers, against a server that gives just those."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from edgewise.api import KINDS
from edgewise.control.audit import DEFINITIONS, Audit
from edgewise.control.teller import Teller
from edgewise.control.world import World
from edgewise.control.writer import Writer
from edgewise.domain.actions import DeleteRun
from edgewise.domain.views import Installation
from edgewise.kube.client import KubeClient, Refused
from kubernetes.aio import client as kubernetes

from tests.domain.builders import NOW
from tests.domain.test_schedule_runs import run

NOT_FOUND = (404, "NotFound")
UNSERVED = (404, "")
"""what an API server says of a path that it does not know, or not yet"""
LISTS = "/apis/edgewise.dev/v1alpha1/"
ABSENT = {f"{LISTS}edgecronjobs": UNSERVED, f"{DEFINITIONS}/edgecronjobs.edgewise.dev": NOT_FOUND}


@dataclass
class Api:
    """An API server without any objects, and the answers in which it differs from that."""

    client: KubeClient
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    """statuses and reasons by path"""
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """by path"""

    def answer(self, request: web.Request) -> web.Response:
        """What any request is answered."""
        if request.path in self.answers:
            status, reason = self.answers[request.path]
            return web.json_response({"reason": reason, "message": "no"}, status=status)
        return web.json_response(self.bodies.get(request.path, {"metadata": {"resourceVersion": "9"}, "items": []}))


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    async def answer(request: web.Request) -> web.Response:
        return served.answer(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        host = str(server.make_url("")).rstrip("/")
        served = Api(KubeClient(kubernetes.Configuration(host=host), session))
        yield served


@pytest.mark.parametrize(("answer", "known"), [(NOT_FOUND, False), ((409, "Conflict"), False), (UNSERVED, True)])
async def test_a_run_that_is_gone_already_is_forgotten(api: Api, answer: tuple[int, str], known: bool) -> None:
    """Else `Replace` would wait for it until the next list."""
    world, gone = World(Installation()), run(NOW)
    world.jobs.put(gone.key, gone)
    api.answers[f"{LISTS}namespaces/demo/edgejobs/{gone.key.name}"] = answer
    writer = Writer(api.client, world, Teller(api.client, "test"))
    assert await writer.apply([DeleteRun(gone.key, gone.uid)]) == 0
    assert bool(world.jobs.objects) == known


async def test_a_kind_that_the_cluster_does_not_have_yet_holds_up_no_other(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an upgrade whose CRDs nobody has applied."""
    api.answers = ABSENT
    audit = Audit(api.client, World(Installation()))
    await audit.once()
    await audit.once()
    assert audit.complete.is_set()
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "edgecronjobs" in warning
    assert "kubectl apply" in warning


async def test_a_kind_that_comes_later_is_read_and_its_watch_expected(api: Api) -> None:
    api.answers = ABSENT
    world = World(Installation())
    audit = Audit(api.client, world)
    await audit.once()
    meta = {"name": "nightly", "namespace": "demo", "uid": "c", "resourceVersion": "8", "generation": 1}
    template = {"spec": {"appRef": {"name": "faces"}}}
    cron = {"metadata": meta, "spec": {"schedule": "@daily", "jobTemplate": template}}
    listed = {"metadata": {"resourceVersion": "9"}, "items": [cron]}
    api.answers = {}
    api.bodies = {f"{LISTS}edgecronjobs": listed, f"{LISTS}namespaces/demo/edgecronjobs/nightly": cron}
    for _ in range(2):
        await audit.once()
    assert [key.name for key in world.crons.objects] == ["nightly"]
    assert "the watch of edgecronjobs has stopped" in (audit.fault(timedelta(0)) or "")


@pytest.mark.parametrize("kind", [kind.plural for kind in KINDS])
async def test_a_list_that_is_not_found_although_its_kind_is_there_counts_for_nothing(api: Api, kind: str) -> None:
    """An API server that has only just started may say so. Results would be taken for nobody's."""
    api.answers = {f"{LISTS}{kind}": UNSERVED}
    audit = Audit(api.client, World(Installation()))
    with pytest.raises(Refused):
        await audit.once()
    assert not audit.complete.is_set()
