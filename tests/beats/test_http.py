"""What the operator answers to a beat: over HTTP, with the world's own caches behind it."""

from collections.abc import AsyncIterator, Iterable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from edgewise.beats.http import Intake
from edgewise.control.world import World
from edgewise.domain.views import Installation, PodPhase, PodView
from edgewise.kube.client import KubeClient
from edgewise.kube.tokens import Tokens
from edgewise_agent import wire
from kubernetes.aio import client
from msgspec import json

from tests.beats.test_table import beat
from tests.domain.builders import JOB_UID, pod

AGENT, GATEWAY = "system:serviceaccount:edgewise-system:edgewise-agent", "gateway"
RUNNING, ENDED = pod(has_outputs=False), pod(PodPhase.SUCCEEDED, attempt=2, has_outputs=False)
WITH_OUTPUTS, ELSEWHERE = pod(attempt=3), pod(attempt=4, node="edge-2", has_outputs=False)


async def whose(request: web.Request) -> web.Response:
    """The API server: every token is the agent's on edge-1."""
    asked = (await request.json())["spec"]
    user = {"username": AGENT, "extra": {"authentication.kubernetes.io/node-name": ["edge-1"]}}
    return web.json_response({"status": {"authenticated": True, "audiences": asked["audiences"], "user": user}})


@pytest.fixture
async def intake() -> AsyncIterator[Intake]:
    api = web.Application()
    api.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", whose)
    async with TestServer(api) as server, aiohttp.ClientSession() as session:
        kube = KubeClient(client.Configuration(host=str(server.make_url("")).rstrip("/")), session)
        yield Intake(World(Installation()), Tokens(kube), AGENT, GATEWAY)


async def answer(intake: Intake, volumes: Iterable[wire.VolumeReport] = ()) -> wire.BeatAnswer:
    report = wire.Beat(
        **{name: getattr(beat(1), name) for name in wire.Beat.__struct_fields__ if name != "volumes"},
        volumes=tuple(volumes),
    )
    async with TestServer(intake.application()) as server, aiohttp.ClientSession() as session:
        headers = {"Authorization": "Bearer token"}
        async with session.post(server.make_url("/v1/beats"), data=json.encode(report), headers=headers) as response:
            assert response.status == 200, await response.text()
            return json.decode(await response.read(), type=wire.BeatAnswer)


def knows(intake: Intake, *pods: PodView) -> None:
    """The operator's caches are complete."""
    world = intake._receiver
    assert isinstance(world, World)
    for one in pods:
        world.pods.put(one.key, one)
    world.pods_known = intake.ready = True


async def test_an_answer_names_the_pods_whose_logs_are_wanted(intake: Intake) -> None:
    knows(intake, RUNNING, ENDED, WITH_OUTPUTS, ELSEWHERE)
    told = await answer(intake)
    assert set(told.live_pods or ()) == {RUNNING.uid, ENDED.uid, WITH_OUTPUTS.uid}
    assert told.running == 2
    assert told.logs_of is not None
    assert [(one.pod_uid, one.ended) for one in told.logs_of] == [(RUNNING.uid, False), (ENDED.uid, True)]


async def test_what_the_beat_reports_as_taken_is_named_no_more(intake: Intake) -> None:
    knows(intake, RUNNING, ENDED)
    taken = wire.VolumeReport(pod_uid=ENDED.uid, job_uid=JOB_UID, attempt=2, state=wire.VolumeState.SPOOLED)
    told = await answer(intake, [taken])
    assert told.logs_of is not None
    assert [one.pod_uid for one in told.logs_of] == [RUNNING.uid]


async def test_an_operator_that_does_not_know_the_pods_names_none(intake: Intake) -> None:
    told = await answer(intake)
    assert (told.live_pods, told.logs_of) == (None, None)
