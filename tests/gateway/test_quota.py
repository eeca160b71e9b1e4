"""How much a namespace may keep: what does not fit waits, is told why, and goes on once there is room."""

from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest
from edgewise.gateway import quota
from edgewise.gateway.cluster import Cluster
from edgewise.gateway.quota import ANNOTATION
from edgewise.gateway.store import Store
from edgewise.gateway.sweep import sweep_once
from edgewise.gateway.volume import Volume
from edgewise.kube.client import KubeClient
from edgewise_agent.wire import UploadPlan, Verdict

from tests.gateway.sending import SECOND_UPLOAD, bring_home, complete, patch, put, send
from tests.gateway.surroundings import World, eventually, plan_of

FIRST, SECOND = b"1" * 600, b"2" * 600


def second_plan() -> UploadPlan:
    return plan_of({"second.bin": SECOND}, attempt=2, pod_name="faces-11111-2")


@pytest.mark.parametrize("by_annotation", [True, False])
async def test_what_is_over_the_quota_waits(world: World, by_annotation: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "KNOWN_SECONDS", 0.0)
    world.api.add_attempt()
    if by_annotation:
        world.api.annotations = {ANNOTATION: "1000"}
    world.settings = replace(world.settings, namespace_quota=None if by_annotation else 1000)
    async with world.gateway() as agent, world.client("agent-2") as other:
        await send(agent, {"first.bin": FIRST})
        for _ in range(2):
            status, problem = await put(other, second_plan(), SECOND_UPLOAD)
            assert (status, problem.reason) == (507, "QuotaExceeded")
            assert "namespace demo may take 1000 bytes" in problem.detail
            assert ANNOTATION in problem.detail
        assert (await patch(other, SECOND, SECOND, 0, SECOND_UPLOAD))[0] == 507
        assert not world.on_volume("staging/*/*/*.part")
        world.api.annotations = {ANNOTATION: "2Ki"}
        await bring_home(other, second_plan(), [SECOND], SECOND_UPLOAD)


async def test_the_first_one_that_fits_gets_the_room(world: World) -> None:
    world.api.add_attempt()
    world.settings = replace(world.settings, namespace_quota=1000)
    async with world.gateway() as agent, world.client("agent-2") as other:
        assert (await put(agent, plan_of({"first.bin": FIRST})))[0] == 200
        assert (await put(other, second_plan(), SECOND_UPLOAD))[0] == 507
        assert (await put(agent, plan_of({"first.bin": FIRST})))[0] == 200
        assert (await patch(agent, FIRST, FIRST, 0))[0] == 200
        assert (await complete(agent))[0] == 200


async def test_what_one_that_waits_is_told_does_not_move_with_the_others(world: World) -> None:
    """It is in the job's status: another sentence at each retry would be a write at each retry."""
    world.api.add_attempt()
    world.settings = replace(world.settings, namespace_quota=700)
    files = {"a": b"a" * 300}
    async with world.gateway() as agent, world.client("agent-2") as other:
        assert (await put(agent, plan_of(files)))[0] == 200
        before = await put(other, second_plan(), SECOND_UPLOAD)
        assert (await put(agent, plan_of(files | {"b": b"b" * 100})))[0] == 200
        assert await put(other, second_plan(), SECOND_UPLOAD) == before
        assert before[0] == 507


async def test_those_that_wait_do_not_keep_each_other_out(world: World) -> None:
    world.api.add_attempt()
    world.settings = replace(world.settings, namespace_quota=500)
    async with world.gateway() as agent, world.client("agent-2") as other:
        assert (await put(agent, plan_of({"first.bin": FIRST})))[0] == 507
        assert (await put(other, second_plan(), SECOND_UPLOAD))[0] == 507
        small = plan_of({"a": b"x" * 500}, attempt=2, pod_name="faces-11111-2")
        await bring_home(other, small, [b"x" * 500], SECOND_UPLOAD)


async def test_a_restart_forgets_no_bytes(world: World) -> None:
    world.api.add_attempt()
    world.settings = replace(world.settings, namespace_quota=1000)
    async with world.gateway() as agent:
        assert (await put(agent, plan_of({"first.bin": FIRST})))[0] == 200
        assert (await patch(agent, FIRST, FIRST[:450], 0))[0] == 200
    async with world.gateway() as agent, world.client("agent-2") as other:
        assert (await put(other, second_plan(), SECOND_UPLOAD))[0] == 507
        assert (await patch(agent, FIRST, FIRST[450:], 450))[0] == 200
        assert (await complete(agent))[0] == 200


async def test_what_is_removed_makes_room(world: World) -> None:
    world.settings = replace(world.settings, namespace_quota=1000)
    world.operator.verdicts = [Verdict.GONE]
    world.api.add_attempt()
    async with world.gateway() as agent, world.client("agent-2") as other:
        await send(agent, {"first.bin": FIRST})
        await fits(other)


async def test_what_the_sweep_drops_makes_room(world: World) -> None:
    world.settings = replace(world.settings, namespace_quota=1000)
    world.api.add_attempt()
    async with world.gateway() as agent, world.client("agent-2") as other:
        plan = plan_of({"first.bin": FIRST, "damaged.bin": b"3" * 300})
        assert (await put(agent, plan))[0] == 200
        assert (await patch(agent, FIRST, FIRST, 0))[0] == 200
        assert (await patch(agent, b"3" * 300, b"4" * 300, 0))[0] == 200
        assert (await complete(agent))[0] == 409
        await bring_home(other, plan_of({"x": b"x"}, attempt=2, pod_name="faces-11111-2"), [b"x"], SECOND_UPLOAD)
    assert len(world.on_volume("jobs/*/blobs/*")) == 2
    store = Store(world.settings.data_dir)
    store.open()
    volume = Volume(store)
    kube = await KubeClient.connect(world.settings.kubeconfig)
    try:
        assert await volume.held_bytes("demo", frozenset()) == 601
        assert await sweep_once(volume, Cluster(kube), idle_seconds=0, given_up=timedelta(0)) == 1
        assert await volume.held_bytes("demo", frozenset()) == 1
    finally:
        volume.close()
        await kube.close()


async def fits(session: aiohttp.ClientSession) -> None:
    async def taken() -> bool:
        return bool((await put(session, second_plan(), SECOND_UPLOAD))[0] == 200)

    await eventually(taken, "the second upload fits")


@pytest.mark.parametrize("text", ["much", "-5Gi", ""])
async def test_a_quota_that_can_not_be_read_leaves_the_default(world: World, text: str) -> None:
    world.api.annotations = {ANNOTATION: text}
    world.settings = replace(world.settings, namespace_quota=100)
    async with world.gateway() as agent:
        assert "may take 100 bytes" in (await put(agent, plan_of({"first.bin": FIRST})))[1].detail


async def test_content_that_is_here_already_costs_nothing(world: World) -> None:
    world.settings = replace(world.settings, namespace_quota=600)
    world.api.add_attempt()
    async with world.gateway() as agent, world.client("agent-2") as other:
        await send(agent, {"first.bin": FIRST})
        await bring_home(other, plan_of({"same.bin": FIRST}, attempt=2, pod_name="faces-11111-2"), [], SECOND_UPLOAD)
