"""Every attempt stays readable, be its files the job's results or not: partial outputs and logs."""

import aiohttp
import pytest
from edgewise.gateway.attempts import AttemptFiles
from edgewise_agent.wire import Verdict
from msgspec import json
from msgspec.structs import replace

from tests.gateway.reading import JOB, attempts_of, listing_of, published, refusal
from tests.gateway.sending import FACES, LOG, complete, put, send, send_second
from tests.gateway.surroundings import OTHER_POD_UID, POD_UID, World, eventually, plan_of

FIRST_LOGS = {"app/0.log": b"started\n", "app/10.log": b"started again\n", "app/2.log": b"second start\n"}
SECOND_LOGS = {"app/0.log": LOG}


async def described(session: aiohttp.ClientSession, path: str) -> AttemptFiles:
    async with session.get(f"{JOB}/{path}") as response:
        assert response.status == 200, await response.text()
        return json.decode(await response.read(), type=AttemptFiles)


async def text(session: aiohttp.ClientSession, path: str, accept: str = "*/*") -> tuple[str, bytes]:
    async with session.get(f"{JOB}/{path}", headers={"Accept": accept}) as response:
        return response.headers["Content-Type"], await response.read()


async def two_attempts(world: World, agent: aiohttp.ClientSession, user: aiohttp.ClientSession) -> None:
    """The first attempt failed with a part of its outputs, the second one brought the results."""
    world.api.add_attempt()
    world.operator.by_pod = {POD_UID: Verdict.PENDING, OTHER_POD_UID: Verdict.PUBLISHED}
    await send(agent, {"half.csv": b"a\n1\n"}, logs=FIRST_LOGS)
    await send_second(world, {"faces.csv": FACES}, logs=SECOND_LOGS)
    await published(user)
    world.operator.by_pod[POD_UID] = Verdict.SUPERSEDED

    async def settled() -> bool:
        return all(attempt.verdict is not Verdict.PENDING for attempt in (await attempts_of(user)).attempts)

    await eventually(settled, "both attempts have their verdict")


async def test_all_attempts_are_listed_with_their_verdict(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await two_attempts(world, agent, user)
        first, second = (await attempts_of(user)).attempts
        assert (first.number, first.pod_uid, first.node, first.verdict) == (1, POD_UID, "edge-1", Verdict.SUPERSEDED)
        assert (first.bytes_, first.files, first.logs) == (4, 1, 3)
        assert (second.number, second.pod_uid, second.node) == (2, OTHER_POD_UID, "edge-2")
        assert (second.verdict, second.files, second.logs) == (Verdict.PUBLISHED, 1, 1)


async def test_a_failed_attempt_is_readable_after_its_job_and_device_are_gone(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await two_attempts(world, agent, user)
    world.api.jobs.clear()
    async with world.gateway(), world.client("ada") as user:
        attempt = await described(user, "attempts/1/files")
        assert (attempt.attempt, attempt.pod_uid, attempt.verdict) == (1, POD_UID, Verdict.SUPERSEDED)
        (file,) = attempt.files
        assert (file.name, file.rows) == ("half.csv", 1)
        for url in (file.url, f"{JOB}/attempts/1/files/half.csv"):
            async with user.get(url) as response:
                assert (response.status, await response.read()) == (200, b"a\n1\n")
        for log in (await described(user, "attempts/1/logs")).logs:
            async with user.get(log.url) as response:
                assert await response.read() == FIRST_LOGS[log.name]


async def test_logs_are_no_results(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        manifest = await send(agent, {"faces.csv": FACES}, logs={"app/0.csv": FACES, "app/1.log": LOG})
        assert [(log.name, log.bytes_, log.rows) for log in manifest.logs] == [
            ("app/0.csv", len(FACES), None),
            ("app/1.log", len(LOG), None),
        ]
        assert [file.name for file in (await published(user)).files] == ["faces.csv"]
        async with user.get(f"{JOB}/archive.tar") as response:
            assert LOG not in await response.read()
        assert (await refusal(user, f"{JOB}/files/app/1.log"))[1].reason == "NoSuchFile"
        assert (await refusal(user, f"{JOB}/attempts/1/files/app/1.log"))[1].reason == "NoSuchFile"
        assert (await refusal(user, f"{JOB}/attempts/1/logs/faces.csv"))[1].reason == "NoSuchFile"


@pytest.mark.parametrize(
    ("accept", "content_type", "is_log"),
    [
        ("text/plain", "text/plain; charset=utf-8", True),
        ("text/html, text/plain;q=0.9, */*", "text/plain; charset=utf-8", True),
        ("application/json, text/plain, */*", "application/json", False),
        ("*/*", "application/json", False),
    ],
)
async def test_the_newest_log_as_text(world: World, accept: str, content_type: str, is_log: bool) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, {"faces.csv": FACES}, logs=FIRST_LOGS)
        kind, body = await text(user, "attempts/1/logs", accept)
        assert (kind, body == FIRST_LOGS["app/10.log"]) == (content_type, is_log)
        async with user.get(f"{JOB}/attempts/1/logs/app/0.log", headers={"Range": "bytes=0-3"}) as response:
            assert (response.status, await response.read()) == (206, b"star")
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_log_that_has_grown_makes_no_other_attempt(world: World) -> None:
    async with world.gateway() as agent:
        manifest = await send(agent, {"faces.csv": FACES}, logs={"app/0.log": LOG})
        status, answer = await put(agent, plan_of({"faces.csv": FACES}, logs={"app/0.log": LOG * 2}))
        assert (status, answer.complete) == (200, True)
        assert await complete(agent) == (200, manifest)


async def test_logs_are_checked_like_files(world: World) -> None:
    async with world.gateway() as agent:
        plan = plan_of({}, logs={"../0.log": LOG})
        assert "The log '../0.log' has an empty part" in (await put(agent, plan))[1].detail
        plan = plan_of({"a": LOG}, logs={"b": LOG})
        plan = replace(plan, logs=(replace(plan.logs[0], bytes_=1),))
        assert "another file with the same SHA-256" in (await put(agent, plan))[1].detail
        assert (await put(agent, plan_of({"a/b": FACES}, logs={"a": LOG})))[0] == 200


@pytest.mark.parametrize(
    ("token", "path", "status", "reason"),
    [
        ("ada", "attempts/2/files", 404, "NoSuchAttempt"),
        ("ada", "attempts/01/files", 404, "NoSuchAttempt"),
        ("ada", "attempts/..%2F1/logs", 404, "NoSuchAttempt"),
        ("ada", "attempts/1/files/none.csv", 404, "NoSuchFile"),
        ("ada", "attempts/1/logs/app/9.log", 404, "NoSuchFile"),
        ("pod-1", "attempts", 403, "NotAllowed"),
        ("pod-1", "attempts/1/logs/app/0.log", 403, "NotAllowed"),
        (None, "attempts/1/files", 401, "NoToken"),
    ],
)
async def test_refusals(world: World, token: str | None, path: str, status: int, reason: str) -> None:
    async with world.gateway() as agent, world.client(token) as user:
        await send(agent, {"faces.csv": FACES}, logs=SECOND_LOGS)
        answer, problem = await refusal(user, f"{JOB}/{path}")
        assert (answer, problem.reason) == (status, reason)


async def test_an_attempt_without_logs(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        assert (await attempts_of(user)).attempts == ()
        await send(agent, {"faces.csv": FACES})
        assert (await described(user, "attempts/1/logs")).logs == ()
        async with user.get(f"{JOB}/attempts/1/logs", headers={"Accept": "text/plain"}) as response:
            assert response.status == 404
            assert b"NoLogs" in await response.read()


async def test_a_failed_job_waits_for_nothing(world: World) -> None:
    world.operator.verdicts = [Verdict.SUPERSEDED]
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, {"half.csv": FACES})

        async def settled() -> bool:
            return (await listing_of(user)).state == "Pending"

        await eventually(settled, "nothing is on its way any more")
        status, problem = await refusal(user, f"{JOB}/files/half.csv")
        assert (status, problem.reason) == (404, "NoResultsYet")
        assert f"{JOB}/attempts" in problem.detail


async def test_a_folder_of_results_alone_is_enough_to_go_on(world: World) -> None:
    """A backup of `jobs` holds everything: what had no verdict in it gets one."""
    world.operator.verdicts = [Verdict.PENDING]
    async with world.gateway() as agent:
        await send(agent, {"faces.csv": FACES})
    for path in world.settings.data_dir.iterdir():
        if path.name != "jobs":
            path.rename(world.settings.data_dir.parent / path.name)
    world.operator.verdicts = [Verdict.PUBLISHED]
    async with world.gateway(), world.client("ada") as user:
        assert (await published(user)).attempt == 1
