"""Files of a stream: home while its run goes on, listed with those of all its runs, and kept as long as it says."""

import io
import tarfile
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import pytest
from edgewise.gateway.retention import remove_overdue
from edgewise.gateway.streams import StreamListing
from edgewise.gateway.sweep import sweep_once
from edgewise_agent.wire import UploadPlan, Verdict
from msgspec import json
from msgspec.structs import replace

from tests.gateway.reading import refusal
from tests.gateway.sending import bring_home, patch, put
from tests.gateway.surroundings import JOB_UID, OTHER_JOB_UID, OTHER_POD_UID, POD_UID, World, eventually, plan_of
from tests.gateway.test_retention import rounds

STREAM_UID: Final = "55555555-5555-4555-8555-555555555555"
OLD_STREAM_UID: Final = "66666666-6666-4666-8666-666666666666"
STREAM: Final = "/v1/namespaces/demo/streams/scan"
RUNS: Final = {"scan-1": (JOB_UID, POD_UID), "scan-2": (OTHER_JOB_UID, OTHER_POD_UID)}
A, B, C = b"n\n1\n", b"n\n1\n2\n", b"n\n1\n2\n3\n"


def add_run(world: World, name: str, stream_uid: str = STREAM_UID, retention: str | None = None) -> None:
    job_uid, pod_uid = RUNS[name]
    attempt = {"number": 1, "node": "edge-1", "podName": f"{name}-1", "podUID": pod_uid}
    owner = {"kind": "EdgeStream", "name": "scan", "uid": stream_uid, "controller": True}
    metadata = {
        "name": name,
        "namespace": "demo",
        "uid": job_uid,
        "creationTimestamp": f"2026-01-0{name[-1]}T00:00:00Z",
        "ownerReferences": [owner],
    }
    spec: dict[str, Any] = {"retention": {"results": retention}} if retention else {}
    world.api.jobs["demo", name] = {"metadata": metadata, "spec": spec, "status": {"attempts": [attempt]}}


@pytest.fixture
def streaming(world: World) -> World:
    """A stream with two runs, and ada who may read its files."""
    world.api.jobs.clear()
    world.api.streams["demo", "scan"] = STREAM_UID
    world.api.stream_readers.add(("ada", "demo", "scan"))
    add_run(world, "scan-1")
    add_run(world, "scan-2")
    return world


def path_of(run: str) -> str:
    job_uid, pod_uid = RUNS[run]
    return f"/v1/uploads/{job_uid}/{pod_uid}"


def planned(run: str, files: dict[str, bytes], *, ahead: bool) -> UploadPlan:
    return replace(plan_of(files, pod_name=f"{run}-1"), job=run, ahead=ahead)


async def send_ahead(agent: aiohttp.ClientSession, run: str, files: dict[str, bytes]) -> None:
    """Files of a run that goes on."""
    status, answer = await put(agent, planned(run, files, ahead=True), path_of(run))
    assert status == 200, answer
    contents = {blob.sha256: blob for blob in answer.missing}
    for file, content in zip(planned(run, files, ahead=True).files, files.values(), strict=True):
        if contents.pop(file.sha256, None):
            assert (await patch(agent, content, content, 0, path_of(run)))[0] == 200


async def send_whole(agent: aiohttp.ClientSession, run: str, files: dict[str, bytes]) -> None:
    """What a run leaves at its end."""
    await bring_home(agent, planned(run, files, ahead=False), list(files.values()), path_of(run))


async def page(user: aiohttp.ClientSession, address: str = f"{STREAM}/files") -> StreamListing:
    async with user.get(address) as response:
        assert response.status == 200, await response.text()
        return json.decode(await response.read(), type=StreamListing)


async def names(user: aiohttp.ClientSession) -> list[str]:
    return [file.name for file in (await page(user)).files]


async def content(user: aiohttp.ClientSession, address: str) -> bytes:
    async with user.get(address) as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def test_a_file_is_served_while_its_run_goes_on(streaming: World) -> None:
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        assert await names(user) == []
        await send_ahead(agent, "scan-1", {"a.csv": A})
        (file,) = (await page(user)).files
        assert (file.name, file.rows, file.bytes_) == ("scan-1/a.csv", 1, len(A))
        assert await content(user, file.url) == await content(user, f"{STREAM}/files/scan-1/a.csv") == A
        async with user.get(file.url, headers={"Range": "bytes=2-"}) as response:
            assert (response.status, await response.read()) == (206, A[2:])
        await send_ahead(agent, "scan-1", {"a.csv": A, "sub/b.csv": B})
        assert await names(user) == ["scan-1/a.csv", "scan-1/sub/b.csv"]
    async with streaming.gateway(), streaming.client("ada") as user:
        assert await names(user) == ["scan-1/a.csv", "scan-1/sub/b.csv"], "also after a restart"


async def test_a_file_that_is_not_whole_is_not_listed(streaming: World) -> None:
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        status, _ = await put(agent, planned("scan-1", {"a.csv": A, "b.csv": B}, ahead=True), path_of("scan-1"))
        assert status == 200
        assert (await patch(agent, A, A, 0, path_of("scan-1")))[0] == 200
        assert (await patch(agent, B, B[:3], 0, path_of("scan-1")))[0] == 200
        assert await names(user) == ["scan-1/a.csv"]
        assert (await refusal(user, f"{STREAM}/files/scan-1/b.csv"))[1].reason == "NoSuchFile"


async def test_what_is_home_stays_when_the_app_removes_or_changes_its_own(streaming: World) -> None:
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        await send_ahead(agent, "scan-1", {"a.csv": A, "b.csv": A})
        await send_ahead(agent, "scan-1", {"b.csv": B})
        await send_whole(agent, "scan-1", {"c.csv": C})
        assert await names(user) == ["scan-1/a.csv", "scan-1/b.csv", "scan-1/c.csv"]
        for name, expected in (("a", A), ("b", B), ("c", C)):
            assert await content(user, f"{STREAM}/files/scan-1/{name}.csv") == expected


async def test_the_end_of_a_run_may_be_said_twice(streaming: World) -> None:
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        await send_ahead(agent, "scan-1", {"a.csv": A})
        await send_whole(agent, "scan-1", {"b.csv": B})
        await send_whole(agent, "scan-1", {"b.csv": B})
        assert await names(user) == ["scan-1/a.csv", "scan-1/b.csv"]


async def test_all_runs_are_in_one_listing_page_by_page(streaming: World) -> None:
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        await send_ahead(agent, "scan-2", {"a.csv": B, "b.csv": C})
        await send_whole(agent, "scan-1", {"a.csv": A, "z.csv": A})
        expected = ["scan-1/a.csv", "scan-1/z.csv", "scan-2/a.csv", "scan-2/b.csv"]
        assert await names(user) == expected
        for limit in (1, 2, 3, 4):
            found: list[str] = []
            following: str | None = f"{STREAM}/files?limit={limit}"
            while following is not None:
                listing = await page(user, following)
                assert 0 < len(listing.files) <= limit
                found += [file.name for file in listing.files]
                following = listing.next
            assert found == expected
        for after, rest in (("scan-0/x.csv", 0), ("scan-1/m.csv", 1), ("scan-1/zz.csv", 2), ("scan-9/a.csv", 4)):
            listed = (await page(user, f"{STREAM}/files?after={after}")).files
            assert [file.name for file in listed] == expected[rest:], "also after what is not there any more"
        for bad in ("0", "10001", "x", ""):
            assert await refusal(user, f"{STREAM}/files?limit={bad}") == (422, (await refused_limit(user, bad)))


async def refused_limit(user: aiohttp.ClientSession, text: str) -> Any:
    status, problem = await refusal(user, f"{STREAM}/files?limit={text}")
    assert (status, problem.reason) == (422, "BadLimit")
    return problem


async def test_archives_hold_all_runs(streaming: World) -> None:
    expected = {"scan-1/a.csv": A, "scan-2/a.csv": B}
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        await send_ahead(agent, "scan-1", {"a.csv": A})
        await send_whole(agent, "scan-2", {"a.csv": B})
        with tarfile.open(fileobj=io.BytesIO(await content(user, f"{STREAM}/archive.tar"))) as tar:
            members = {one.name: tar.extractfile(one) for one in tar}
            assert {name: file.read() for name, file in members.items() if file} == expected
        with zipfile.ZipFile(io.BytesIO(await content(user, f"{STREAM}/archive.zip"))) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == expected


async def test_who_may_not_get_the_stream_gets_no_file_of_it(streaming: World) -> None:
    async with streaming.gateway() as agent, streaming.client("bob") as user:
        await send_ahead(agent, "scan-1", {"a.csv": A})
        for path in ("files", "files/scan-1/a.csv", "archive.tar", "archive.zip"):
            status, problem = await refusal(user, f"{STREAM}/{path}")
            assert (status, problem.reason) == (403, "NotAllowed")
            assert "edgestreams.edgewise.dev/scan" in problem.detail


async def test_a_name_means_the_stream_that_has_it_now(streaming: World) -> None:
    add_run(streaming, "scan-1", OLD_STREAM_UID)
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        await send_ahead(agent, "scan-1", {"a.csv": A})
        assert await names(user) == [], "the stream of that name has brought nothing yet"
        await send_ahead(agent, "scan-2", {"a.csv": B})
        assert await names(user) == ["scan-2/a.csv"]
        old = await page(user, f"{STREAM}/files?uid={OLD_STREAM_UID}")
        assert [file.name for file in old.files] == ["scan-1/a.csv"]
        assert await content(user, old.files[0].url) == A
        assert (await refusal(user, f"{STREAM}/files?uid={JOB_UID}"))[1].reason == "NoSuchStream"
        streaming.api.streams.clear()
        assert await names(user) == ["scan-2/a.csv"], "the last one of that name"
        streaming.api.stream_readers.add(("ada", "demo", "other"))
        status, problem = await refusal(user, "/v1/namespaces/demo/streams/other/files")
        assert (status, problem.reason) == (404, "NoSuchStream")


async def test_a_jobs_files_that_went_ahead_are_not_served(world: World) -> None:
    """What `docs/decisions/on-close.md` says of jobs holds on."""
    async with world.gateway() as agent:
        status, _ = await put(agent, replace(plan_of({"a.csv": A}), ahead=True))
        assert status == 200
        assert (await patch(agent, A, A, 0))[0] == 200
    assert world.on_volume("jobs/*/blobs/*") == []
    assert world.on_volume("jobs/*/early/*") == []


# --- how long they stay


async def test_a_run_whose_device_never_came_back_keeps_its_files(streaming: World) -> None:
    """Its upload is dropped in time, its EdgeJob is gone: what had come home stays until its time is over."""
    add_run(streaming, "scan-1", retention="30d")
    async with streaming.gateway() as agent:
        await send_ahead(agent, "scan-1", {"a.csv": A})
        status, _ = await put(agent, planned("scan-1", {"a.csv": A, "b.csv": B}, ahead=True), path_of("scan-1"))
        assert status == 200
        assert (await patch(agent, B, B[:3], 0, path_of("scan-1")))[0] == 200
    del streaming.api.jobs["demo", "scan-1"]
    now = datetime.now(UTC)
    async with rounds(streaming) as (volume, cluster):
        assert await sweep_once(volume, cluster, -1) == 1
        assert await remove_overdue(volume, cluster, timedelta(days=7), now + timedelta(days=29)) == 0
    async with streaming.gateway(), streaming.client("ada") as user:
        assert await names(user) == ["scan-1/a.csv"]
        assert await content(user, f"{STREAM}/files/scan-1/a.csv") == A
    async with rounds(streaming) as (volume, cluster):
        assert await remove_overdue(volume, cluster, timedelta(days=7), now + timedelta(days=31)) == 1
    async with streaming.gateway(), streaming.client("ada") as user:
        assert await names(user) == []
    assert streaming.on_volume("jobs/*") == []
    assert streaming.on_volume("streams/demo/scan/*") == []


async def test_each_file_goes_when_its_own_time_is_over(streaming: World) -> None:
    """A run may last for a year, so its files do not wait for its end; only what would come again stays."""
    add_run(streaming, "scan-1", retention="1h")
    hour = timedelta(hours=1)
    async with streaming.gateway() as agent:
        await send_ahead(agent, "scan-1", {"a.csv": A, "b.csv": B})
        await send_ahead(agent, "scan-1", {"b.csv": B})
    came = datetime.now(UTC)
    async with rounds(streaming) as (volume, cluster):
        assert await remove_overdue(volume, cluster, timedelta(days=7), came + hour - timedelta(minutes=1)) == 0
        assert await remove_overdue(volume, cluster, timedelta(days=7), came + hour) == 1
        assert await remove_overdue(volume, cluster, timedelta(days=7), came + hour) == 0
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        assert await names(user) == ["scan-1/b.csv"], "its device still offers it"
        assert (await refusal(user, f"{STREAM}/files/scan-1/a.csv"))[1].reason == "NoSuchFile"
        assert len(streaming.on_volume("jobs/*/blobs/*")) == 1
        await send_ahead(agent, "scan-1", {"c.csv": C})
    async with rounds(streaming) as (volume, cluster):
        assert await remove_overdue(volume, cluster, timedelta(days=7), came + hour) == 1
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        assert await names(user) == ["scan-1/c.csv"]
        await send_whole(agent, "scan-1", {"c.csv": C})
        assert await names(user) == ["scan-1/c.csv"]
        assert await content(user, f"{STREAM}/files/scan-1/c.csv") == C


async def test_files_that_are_wanted_for_ever_stay(streaming: World) -> None:
    async with streaming.gateway() as agent:
        await send_ahead(agent, "scan-1", {"a.csv": A, "b.csv": B})
        await send_ahead(agent, "scan-1", {"b.csv": B})
    del streaming.api.jobs["demo", "scan-1"]
    async with rounds(streaming) as (volume, cluster):
        much_later = datetime.now(UTC) + timedelta(days=4000)
        assert await sweep_once(volume, cluster, -1) == 1
        assert await remove_overdue(volume, cluster, timedelta(days=7), much_later) == 0
    async with streaming.gateway(), streaming.client("ada") as user:
        assert await names(user) == ["scan-1/a.csv", "scan-1/b.csv"]


async def test_files_of_a_run_that_has_ended_go_like_any_results(streaming: World) -> None:
    add_run(streaming, "scan-1", retention="1h")
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        await send_ahead(agent, "scan-1", {"a.csv": A})
        await send_whole(agent, "scan-1", {"b.csv": B})

        async def settled() -> bool:
            return bool(streaming.on_volume("jobs/*/published.json"))

        await eventually(settled, "the operator's verdict is known")
        assert await names(user) == ["scan-1/a.csv", "scan-1/b.csv"]
    async with rounds(streaming) as (volume, cluster):
        later = datetime.now(UTC) + timedelta(hours=2)
        assert await remove_overdue(volume, cluster, timedelta(days=7), later) == 2
    async with streaming.gateway(), streaming.client("ada") as user:
        assert await names(user) == []
        status, problem = await refusal(user, f"{STREAM}/files/scan-1/a.csv")
        assert (status, problem.reason) == (404, "NoSuchFile")
    assert streaming.on_volume("jobs/*/blobs/*") == []


async def test_a_verdict_of_gone_takes_nothing_that_was_home_before(streaming: World) -> None:
    streaming.operator.verdicts = [Verdict.GONE]
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        await send_ahead(agent, "scan-1", {"a.csv": A})
        await send_whole(agent, "scan-1", {"b.csv": B})

        async def removed() -> bool:
            return not streaming.on_volume("jobs/*/attempts/*")

        await eventually(removed, "the manifest is gone")
        assert await names(user) == ["scan-1/a.csv"]
        assert await content(user, f"{STREAM}/files/scan-1/a.csv") == A


# --- what a crash leaves


@pytest.mark.parametrize("torn", [b"{", b'{"name": "x.csv", "bytes_": 4', b"\x00" * 9000])
async def test_a_torn_line_is_forgotten_and_no_other(streaming: World, torn: bytes) -> None:
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        await send_ahead(agent, "scan-1", {"a.csv": A})
        (log,) = streaming.on_volume("jobs/*/early/*")
        with log.open("ab") as file:
            file.write(torn)
        assert await names(user) == ["scan-1/a.csv"]
        await send_ahead(agent, "scan-1", {"a.csv": A, "b.csv": B})
        assert await names(user) == ["scan-1/a.csv", "scan-1/b.csv"]
    assert len(log.read_bytes().splitlines()) == 2


async def test_a_crash_before_the_note_costs_nothing(streaming: World) -> None:
    """The content was verified and moved, and the gateway died before it noted that: the next plan notes it."""
    async with streaming.gateway() as agent:
        await send_ahead(agent, "scan-1", {"a.csv": A})
    (log,) = streaming.on_volume("jobs/*/early/*")
    log.unlink()
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        assert await names(user) == []
        await send_ahead(agent, "scan-1", {"a.csv": A})
        assert await names(user) == ["scan-1/a.csv"]


async def test_damaged_bytes_are_never_listed(streaming: World) -> None:
    wrong = b"n\n9\n"
    async with streaming.gateway() as agent, streaming.client("ada") as user:
        status, _ = await put(agent, planned("scan-1", {"a.csv": A}, ahead=True), path_of("scan-1"))
        assert status == 200
        assert (await patch(agent, A, wrong, 0, path_of("scan-1")))[0] == 200
        assert await names(user) == []
        await send_whole(agent, "scan-1", {"a.csv": A})
        assert await content(user, f"{STREAM}/files/scan-1/a.csv") == A
