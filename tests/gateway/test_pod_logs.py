"""Logs of pods without output volume: kept under their attempt, never a job's results, and nobody waits for them."""

import aiohttp
import pytest
from edgewise.gateway.attempts import AttemptFiles
from edgewise_agent.wire import Manifest, RefusedFile, UploadPlan, Verdict
from msgspec import json
from msgspec.structs import replace

from tests.gateway.reading import JOB, attempts_of, listing_of, published, refusal
from tests.gateway.sending import FACES, LOG, UPLOAD, bring_home, complete, put, send_second
from tests.gateway.surroundings import OTHER_POD_UID, POD_UID, World, eventually, plan_of

LOGS = {"app/0.log": LOG, "init/0.log": b"ready\n"}


def logs_plan(logs: dict[str, bytes] | None = None) -> UploadPlan:
    return replace(plan_of({}, logs=LOGS if logs is None else logs), logs_only=True)


async def bring_logs(agent: aiohttp.ClientSession) -> Manifest:
    return await bring_home(agent, logs_plan(), list(LOGS.values()))


async def has_verdict(user: aiohttp.ClientSession) -> None:
    async def settled() -> bool:
        return all(attempt.verdict is not Verdict.PENDING for attempt in (await attempts_of(user)).attempts)

    await eventually(settled, "the logs have their verdict")


async def test_they_are_served_under_their_attempt(world: World) -> None:
    world.operator.verdicts = [Verdict.SUPERSEDED]
    async with world.gateway() as agent, world.client("ada") as user:
        manifest = await bring_logs(agent)
        assert manifest.logs_only
        assert manifest.files == ()
        await has_verdict(user)
        (attempt,) = (await attempts_of(user)).attempts
        assert (attempt.number, attempt.pod_uid, attempt.verdict) == (1, POD_UID, Verdict.SUPERSEDED)
        assert (attempt.files, attempt.logs) == (0, 2)
        async with user.get(f"{JOB}/attempts/1/logs") as response:
            listed = json.decode(await response.read(), type=AttemptFiles)
        assert [log.name for log in listed.logs] == list(LOGS)
        for name, content in LOGS.items():
            async with user.get(f"{JOB}/attempts/1/logs/{name}") as response:
                assert (response.status, await response.read()) == (200, content)
    assert [sent.logs_only for sent in world.operator.manifests] == [True], "the operator is told what they are"


async def test_a_job_without_outputs_has_nothing_on_its_way(world: World) -> None:
    """Neither while its logs come, nor before their verdict, nor afterwards: its listing speaks of files."""
    world.operator.verdicts = [Verdict.PENDING]
    async with world.gateway() as agent, world.client("ada") as user:
        assert (await put(agent, logs_plan()))[0] == 200
        assert (await listing_of(user)).state == "Pending"
        await bring_logs(agent)
        assert (await listing_of(user)).state == "Pending"
        world.operator.verdicts = [Verdict.SUPERSEDED]
        await has_verdict(user)
        assert (await listing_of(user)).state == "Pending"
        assert (await refusal(user, f"{JOB}/archive.tar"))[1].reason == "NoResultsYet"


async def test_files_are_on_their_way_whatever_logs_are(world: World) -> None:
    world.api.add_attempt()
    world.operator.by_pod = {POD_UID: Verdict.SUPERSEDED, OTHER_POD_UID: Verdict.PENDING}
    async with world.gateway() as agent, world.client("ada") as user:
        await bring_logs(agent)
        await send_second(world, {"faces.csv": FACES})
        assert (await listing_of(user)).state == "Uploading"
        world.operator.by_pod[OTHER_POD_UID] = Verdict.PUBLISHED
        assert [file.name for file in (await published(user)).files] == ["faces.csv"]


async def test_their_device_need_keep_no_copy_once_they_are_set_aside(world: World) -> None:
    world.operator.verdicts = [Verdict.SUPERSEDED]
    async with world.gateway() as agent:
        await bring_logs(agent)

        async def settled() -> bool:
            async with agent.get(UPLOAD) as response:
                return bool((await response.json()).get("settled", False))

        await eventually(settled, "the verdict is on the volume")


@pytest.mark.parametrize(
    "plan",
    [
        replace(plan_of({"faces.csv": FACES}, logs=LOGS), logs_only=True),
        replace(logs_plan(), ahead=True),
        replace(logs_plan(), refused=(RefusedFile(name="link", reason="Symlink"),), refused_count=1),
    ],
)
async def test_a_plan_that_has_files_is_not_one_of_logs_alone(world: World, plan: UploadPlan) -> None:
    async with world.gateway() as agent:
        status, problem = await put(agent, plan)
        assert (status, problem.reason) == (422, "BadPlan")
        assert "without output volume" in problem.detail


async def test_a_pod_without_any_log_may_say_so(world: World) -> None:
    async with world.gateway() as agent:
        assert (await put(agent, logs_plan({})))[0] == 200
        status, manifest = await complete(agent)
        assert (status, manifest.logs) == (200, ())
