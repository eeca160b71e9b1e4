"""The upload protocol of wire.py against a real gateway: the whole way, interruptions, and all that it refuses."""

import asyncio
import io
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from edgewise_agent.wire import OFFSET_HEADER, BlobStatus, Problem, UploadStatus, Verdict
from msgspec import json
from msgspec.structs import replace

from tests.gateway.sending import FACES, LOG, SECOND_UPLOAD, UPLOAD, complete, missing_offset, patch, put, send
from tests.gateway.surroundings import (
    JOB_UID,
    OTHER_JOB_UID,
    OTHER_POD_UID,
    POD_UID,
    World,
    eventually,
    plan_of,
    sha256,
)


async def test_files_come_home_verified_and_counted(world: World) -> None:
    async with world.gateway() as session:
        manifest = await send(session, {"faces.csv": FACES, "logs/run.txt": LOG, "empty.csv": b""})
        assert (manifest.namespace, manifest.job, manifest.job_uid) == ("demo", "faces", JOB_UID)
        assert (manifest.pod_uid, manifest.attempt, manifest.node) == (POD_UID, 1, "edge-1")
        assert [(file.name, file.bytes_, file.rows, file.sha256) for file in manifest.files] == [
            ("faces.csv", len(FACES), 2, sha256(FACES)),
            ("logs/run.txt", len(LOG), None, sha256(LOG)),
            ("empty.csv", 0, 0, sha256(b"")),
        ]

        async def announced() -> bool:
            return world.operator.manifests == [manifest]

        await eventually(announced, "the operator hears of the manifest")
        assert world.operator.tokens == {"Bearer gateway-token"}


async def test_every_step_may_be_repeated(world: World) -> None:
    async with world.gateway() as session:
        plan = plan_of({"faces.csv": FACES})
        assert (await put(session, plan)) == (await put(session, plan))
        assert await patch(session, FACES, FACES[:10], 0) == (200, BlobStatus(sha256=sha256(FACES), offset=10))
        assert await patch(session, FACES, FACES[:10], 0) == (409, BlobStatus(sha256=sha256(FACES), offset=10))
        assert await missing_offset(session, plan) == 10
        assert (await patch(session, FACES, FACES[10:], 10))[0] == 200
        assert (await patch(session, FACES, b"", len(FACES)))[0] == 200
        status, manifest = await complete(session)
        assert status == 200
        assert await complete(session) == (200, manifest)
        assert await put(session, plan) == (200, UploadStatus(missing=(), complete=True))
        assert (await patch(session, FACES, b"", len(FACES)))[0] == 200
        assert await complete(session) == (200, manifest)


async def test_same_content_travels_once(world: World) -> None:
    async with world.gateway() as session:
        files = {"a.csv": FACES, "b.csv": FACES, "c.txt": FACES}
        status, upload = await put(session, plan_of(files))
        assert (status, [blob.sha256 for blob in upload.missing]) == (200, [sha256(FACES)])
        manifest = await send(session, files)
        assert [file.rows for file in manifest.files] == [2, 2, None]
        assert len(world.on_volume(f"jobs/{JOB_UID}/blobs/*")) == 1


async def test_an_attempt_gets_what_an_earlier_one_brought(world: World) -> None:
    world.api.add_attempt()
    async with world.gateway() as session, world.client("agent-2") as second:
        await send(session, {"faces.csv": FACES})
        plan = plan_of({"faces.csv": FACES}, attempt=2, pod_name="faces-11111-2")
        assert await put(second, plan, SECOND_UPLOAD) == (200, UploadStatus(missing=()))
        _, manifest = await complete(second, SECOND_UPLOAD)
        assert (manifest.attempt, manifest.node, manifest.files[0].rows) == (2, "edge-2", 2)


async def test_a_cut_connection_keeps_what_came(world: World) -> None:
    content = bytes(range(256)) * 4096
    half = len(content) // 2
    async with world.gateway() as session:
        plan = plan_of({"big.bin": content})
        assert await missing_offset(session, plan) == 0
        context = world.authority.client_context()
        reader, writer = await asyncio.open_connection("localhost", urlsplit(world.url).port, ssl=context)
        writer.write(
            f"PATCH {UPLOAD}/blobs/{sha256(content)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer agent-1\r\n"
            f"{OFFSET_HEADER}: 0\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        )
        writer.write(content[:half])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert reader.at_eof()

        async def kept() -> bool:
            return await missing_offset(session, plan) == half

        await eventually(kept, "what came before the cut is held")
        assert (await patch(session, content, content[half:], half))[0] == 200
        assert (await complete(session))[0] == 200


async def test_a_new_request_ends_one_that_hangs(world: World) -> None:
    content = b"x" * 1000
    async with world.gateway() as session:
        assert (await put(session, plan_of({"big.bin": content})))[0] == 200
        context = world.authority.client_context()
        reader, writer = await asyncio.open_connection("localhost", urlsplit(world.url).port, ssl=context)
        writer.write(
            f"PATCH {UPLOAD}/blobs/{sha256(content)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer agent-1\r\n"
            f"{OFFSET_HEADER}: 0\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        )
        writer.write(content[:600])
        await writer.drain()

        async def taken() -> bool:
            async with aiohttp.ClientSession(world.probes) as probes, probes.get("/metrics") as response:
                return "edgewise_gateway_received_bytes_total 600.0" in await response.text()

        await eventually(taken, "what the hanging request has sent is taken in")
        async with asyncio.timeout(5):
            status, answer = await patch(session, content, content, 0)
            hanging = (await reader.readline()).split()
        assert status == 409
        assert hanging[1] == b"409"
        assert (await patch(session, content, content[answer.offset :], answer.offset))[0] == 200
        assert (await complete(session))[0] == 200
        writer.close()
        await writer.wait_closed()


async def test_a_restarted_gateway_goes_on(world: World) -> None:
    plan = plan_of({"faces.csv": FACES})
    async with world.gateway() as session:
        assert (await put(session, plan))[0] == 200
        assert (await patch(session, FACES, FACES[:20], 0))[0] == 200
    async with world.gateway() as session:
        assert await patch(session, FACES, FACES[:20], 0) == (409, BlobStatus(sha256=sha256(FACES), offset=20))
        assert (await patch(session, FACES, FACES[20:], 20))[0] == 200
        status, manifest = await complete(session)
        assert (status, manifest.files[0].rows) == (200, 2)
    async with world.gateway() as session:
        assert await complete(session) == (200, manifest)


async def test_bytes_that_are_not_what_they_claim_are_dropped(world: World) -> None:
    async with world.gateway() as session:
        plan = plan_of({"faces.csv": FACES, "run.txt": LOG})
        assert (await put(session, plan))[0] == 200
        assert (await patch(session, LOG, LOG, 0))[0] == 200
        assert (await patch(session, FACES, b"?" * len(FACES), 0))[0] == 200
        async with session.post(f"{UPLOAD}/complete") as response:
            body = await response.read()
            assert response.status == 409
        assert json.decode(body, type=BlobStatus) == BlobStatus(sha256=sha256(FACES), offset=0)
        assert json.decode(body, type=Problem).reason == "BytesMissing"
        assert await missing_offset(session, plan) == 0
        assert (await patch(session, FACES, FACES, 0))[0] == 200
        assert (await complete(session))[0] == 200


async def test_an_incomplete_upload_is_not_completed(world: World) -> None:
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        assert (await patch(session, FACES, FACES[:5], 0))[0] == 200
        status, problem = await complete(session)
        assert (status, problem.reason) == (409, "BytesMissing")
        assert f"{sha256(FACES)} from byte 5" in problem.detail


async def test_a_complete_attempt_takes_no_other_files(world: World) -> None:
    async with world.gateway() as session:
        await send(session, {"faces.csv": FACES})
        status, problem = await put(session, plan_of({"faces.csv": LOG}))
        assert (status, problem.reason) == (422, "AlreadyComplete")


async def test_a_new_plan_keeps_the_bytes_that_both_name(world: World) -> None:
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES, "run.txt": LOG})))[0] == 200
        assert (await patch(session, FACES, FACES[:5], 0))[0] == 200
        assert (await patch(session, LOG, LOG[:5], 0))[0] == 200
        assert await missing_offset(session, plan_of({"renamed.csv": FACES})) == 5
        assert not world.on_volume(f"staging/*/*/{sha256(LOG)}.*")
        status, problem = await patch(session, LOG, LOG[5:], 5)
        assert (status, problem.reason) == (422, "NotInPlan")


async def test_more_bytes_than_planned_are_refused(world: World) -> None:
    async def endless() -> Any:
        for _ in range(3):
            yield FACES

    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        status, problem = await patch(session, FACES, FACES + b"more", 0)
        assert (status, problem.reason) == (422, "TooManyBytes")
        headers = {OFFSET_HEADER: "0"}
        async with session.patch(f"{UPLOAD}/blobs/{sha256(FACES)}", data=endless(), headers=headers) as response:
            assert response.status == 422
        assert await missing_offset(session, plan_of({"faces.csv": FACES})) == 0


@pytest.mark.parametrize("offset", ["", "-1", "1e3", "٣", "99999999999999999999"])
async def test_an_offset_must_be_a_number(world: World, offset: str) -> None:
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        headers = {OFFSET_HEADER: offset} if offset else {}
        async with session.patch(f"{UPLOAD}/blobs/{sha256(FACES)}", data=FACES, headers=headers) as response:
            problem = json.decode(await response.read(), type=Problem)
            assert (response.status, problem.reason) == (422, "BadOffset")


@pytest.mark.parametrize(
    ("token", "status", "reason"),
    [
        (None, 401, "NoToken"),
        ("stolen", 401, "TokenRefused"),
        ("ada", 401, "TokenRefused"),
        ("pod-1", 403, "NotAnAgent"),
        ("unbound", 403, "NotAnAgent"),
        ("agent-2", 403, "NotYourPod"),
    ],
)
async def test_only_the_agent_of_the_pods_node_may_send(
    world: World, token: str | None, status: int, reason: str
) -> None:
    async with world.gateway() as right, world.client(token) as session:
        refused = await put(session, plan_of({"faces.csv": FACES}))
        assert (refused[0], refused[1].reason) == (status, reason)
        assert (await put(right, plan_of({"faces.csv": FACES})))[0] == 200
        for answer in (await patch(session, FACES, FACES, 0), await complete(session)):
            assert (answer[0], answer[1].reason) == (status, reason)
        assert await missing_offset(right, plan_of({"faces.csv": FACES})) == 0


async def test_an_attempt_that_the_status_does_not_have_yet_must_wait(world: World) -> None:
    attempts = world.api.jobs["demo", "faces"]["status"].pop("attempts")
    async with world.gateway() as session:
        status, problem = await put(session, plan_of({"faces.csv": FACES}))
        assert (status, problem.reason) == (425, "AttemptNotRecorded")
        world.api.jobs["demo", "faces"]["status"]["attempts"] = attempts
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200


@pytest.mark.parametrize(
    ("recorded", "status"),
    [
        ([(number, "edge-2", OTHER_POD_UID) for number in range(2, 102)], 410),
        ([(1, "edge-1", OTHER_POD_UID)], 410),
        ([(1, "edge-1", "")], 425),
        ([], 425),
    ],
    ids=["dropped from the status", "its number is another pod's", "its pod is not known yet", "none yet"],
)
async def test_an_attempt_that_will_never_be_in_the_status_is_discarded(
    world: World, recorded: list[tuple[int, str, str]], status: int
) -> None:
    attempts = world.api.jobs["demo", "faces"]["status"]["attempts"]
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        assert (await patch(session, FACES, FACES[:5], 0))[0] == 200
        attempts[:] = [{"number": number, "node": node, "podUID": uid} for number, node, uid in recorded]
        answer, problem = await put(session, plan_of({"faces.csv": FACES}))
        expected = "AttemptForgotten" if status == 410 else "AttemptNotRecorded"
        assert (answer, problem.reason) == (status, expected)
        assert bool(world.on_volume("staging/*/*")) == (status == 425)


async def test_a_plan_must_be_of_the_pods_attempt(world: World) -> None:
    async with world.gateway() as session:
        for plan in (
            plan_of({"faces.csv": FACES}, attempt=2),
            plan_of({"faces.csv": FACES}, pod_name="faces-22222-1"),
        ):
            status, problem = await put(session, plan)
            assert (status, problem.reason) == (422, "AttemptMismatch")


async def test_bytes_without_a_plan_must_wait_for_it(world: World) -> None:
    async with world.gateway() as session:
        assert (await patch(session, FACES, FACES, 0))[0] == 425
        status, problem = await complete(session)
        assert (status, problem.reason) == (425, "NoPlan")


@pytest.mark.parametrize("recreated", [False, True])
async def test_a_deleted_job_wants_nothing_any_more(world: World, recreated: bool) -> None:
    if recreated:
        world.api.add_job(OTHER_JOB_UID, [])
    else:
        world.api.jobs.clear()
    async with world.gateway() as session:
        status, problem = await put(session, plan_of({"faces.csv": FACES}))
        assert (status, problem.reason) == (410, "JobGone")


async def test_what_was_sent_of_a_deleted_job_is_dropped(world: World) -> None:
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        assert (await patch(session, FACES, FACES[:5], 0))[0] == 200
        world.api.jobs.clear()
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 410
        assert not world.on_volume("staging/*")
        assert not world.on_volume("jobs/*")
        assert not world.on_volume("names/*/*")


async def test_no_plan_makes_another_devices_bytes_go(world: World) -> None:
    plan = plan_of({"faces.csv": FACES})
    async with world.gateway() as session, world.client("agent-2") as other:
        assert (await put(session, plan))[0] == 200
        assert (await patch(session, FACES, FACES[:5], 0))[0] == 200
        for made_up in (replace(plan, job="no-such-job"), replace(plan, namespace="elsewhere")):
            for sender in (other, session):
                assert (await put(sender, made_up))[0] == 410
        world.api.jobs.clear()
        assert (await put(other, plan))[0] == 410
        assert [path.stat().st_size for path in world.on_volume("staging/*/*/*.part")] == [5]
        assert (await put(session, plan))[0] == 410
        assert not world.on_volume("staging/*")


@pytest.mark.parametrize("away", ["broken", "without_kinds"])
async def test_an_api_server_in_trouble_costs_no_results(world: World, away: str) -> None:
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        setattr(world.api, away, True)
        status, problem = await put(session, plan_of({"faces.csv": FACES}))
        assert (status, problem.reason) == (503, "ClusterUnreachable")
        setattr(world.api, away, False)
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/v1/uploads/{JOB_UID}/not-a-uid", json.encode(plan_of({}))),
        (f"/v1/uploads/..%2F..%2Fetc/{POD_UID}", json.encode(plan_of({}))),
        (UPLOAD, b"{"),
        (UPLOAD, b"\xff"),
        (UPLOAD, json.encode(replace(plan_of({}), namespace="../demo"))),
        (UPLOAD, json.encode(plan_of({"../faces.csv": FACES}))),
        (UPLOAD, json.encode(plan_of({"a": FACES, "a/b": FACES}))),
        (UPLOAD, b" " * (25 * 2**20)),
    ],
)
async def test_bad_plans_are_refused(world: World, path: str, body: bytes) -> None:
    async with world.gateway() as session, session.put(path, data=io.BytesIO(body)) as response:
        problem = json.decode(await response.read(), type=Problem)
        assert response.status == 422
        assert problem.reason in ("BadPath", "BadPlan")
        assert problem.detail
    assert not world.on_volume("staging/*")


async def test_the_api_server_is_not_asked_about_every_piece(world: World) -> None:
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        before = list(world.api.asked)
        for offset in range(len(FACES)):
            assert (await patch(session, FACES, FACES[offset : offset + 1], offset))[0] == 200
        assert world.api.asked == before


async def test_a_verdict_comes_later_than_the_restart(world: World) -> None:
    world.operator.verdicts = [503, Verdict.PENDING, 503]
    async with world.gateway() as session:
        manifest = await send(session, {"faces.csv": FACES})

        async def asked_thrice() -> bool:
            return len(world.operator.manifests) >= 3

        await eventually(asked_thrice, "the operator is asked again and again")
    world.operator.verdicts = [Verdict.PUBLISHED]
    world.operator.manifests.clear()
    async with world.gateway():

        async def settled() -> bool:
            return bool(world.on_volume("jobs/*/published.json"))

        await eventually(settled, "the verdict arrives after the restart")
        assert world.operator.manifests == [manifest]
