"""Users fetch results: listing, ranges, archives, and the refusals that say what to do."""

import io
import os
import tarfile
import zipfile
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime

import aiohttp
import pytest
from edgewise.gateway.archive import Packed, zip_pieces
from edgewise.gateway.files import Listing
from edgewise.gateway.results import Results
from edgewise_agent.wire import RefusedFile, ResultFile, Verdict
from msgspec.structs import replace

from tests.gateway.reading import JOB, attempts_of, listing_of, published, refusal
from tests.gateway.sending import FACES, LOG, complete, put, send, send_second
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

FILES = {"faces.csv": FACES, "deep/größe 1.csv": b"a\n1\n", "run.txt": LOG, "again.csv": FACES}


async def test_the_listing_leads_to_every_byte(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, FILES)
        listing = await published(user)
        assert (listing.namespace, listing.job, listing.uid, listing.attempt) == ("demo", "faces", JOB_UID, 1)
        assert (listing.state, listing.node) == ("Complete", "edge-1")
        assert {file.name: (file.bytes_, file.rows, file.sha256) for file in listing.files} == {
            "faces.csv": (len(FACES), 2, sha256(FACES)),
            "deep/größe 1.csv": (4, 1, sha256(b"a\n1\n")),
            "run.txt": (len(LOG), None, sha256(LOG)),
            "again.csv": (len(FACES), 2, sha256(FACES)),
        }
        for file in listing.files:
            async with user.get(file.url) as response:
                assert await response.read() == FILES[file.name]


async def test_a_file_says_what_it_is(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, FILES)
        await published(user)
        async with user.get(f"{JOB}/files/faces.csv") as response:
            assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
            assert response.headers["ETag"] == f'"{sha256(FACES)}"'
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Content-Disposition"].startswith('attachment; filename="faces.csv"')
            assert response.headers["Content-Length"] == str(len(FACES))
            assert response.headers["Accept-Ranges"] == "bytes"
        async with user.get(f"{JOB}/files/run.txt") as response:
            assert response.headers["Content-Type"] == "application/octet-stream"
        async with user.get(f"{JOB}/files/deep/gr%C3%B6%C3%9Fe%201.csv") as response:
            assert response.headers["Content-Disposition"] == (
                "attachment; filename=\"gr__e 1.csv\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%201.csv"
            )
        async with user.head(f"{JOB}/files/faces.csv") as response:
            assert (response.status, response.headers["Content-Length"]) == (200, str(len(FACES)))
            assert await response.read() == b""


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"Range": "bytes=0-4"}, 206, FACES[:5]),
        ({"Range": "bytes=10-"}, 206, FACES[10:]),
        ({"Range": "bytes=-6"}, 206, FACES[-6:]),
        ({"Range": f"bytes=5-{10**9}"}, 206, FACES[5:]),
        ({"Range": f"bytes=-{10**9}"}, 206, FACES),
        ({"Range": "bytes=0-1,3-4"}, 200, FACES),
        ({"Range": "bytes=-"}, 200, FACES),
        ({"Range": "bytes=7-3"}, 200, FACES),
        ({"Range": "lines=1-2"}, 200, FACES),
        ({"Range": "bytes=0-4", "If-Range": f'"{sha256(FACES)}"'}, 206, FACES[:5]),
        ({"Range": "bytes=0-4", "If-Range": f'"{sha256(LOG)}"'}, 200, FACES),
        ({"If-None-Match": f'"{sha256(LOG)}"'}, 200, FACES),
        ({"If-None-Match": f'"{sha256(LOG)}", W/"{sha256(FACES)}"'}, 304, b""),
        ({"If-None-Match": "*"}, 304, b""),
    ],
)
async def test_parts_and_conditions(world: World, headers: dict[str, str], status: int, body: bytes) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, FILES)
        await published(user)
        async with user.get(f"{JOB}/files/faces.csv", headers=headers) as response:
            assert (response.status, await response.read()) == (status, body)
            if status == 206:
                start = FACES.index(body) if len(body) < len(FACES) else 0
                expected = f"bytes {start}-{start + len(body) - 1}/{len(FACES)}"
                assert response.headers["Content-Range"] == expected


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
async def test_a_range_outside_the_file(world: World, asked: str) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, FILES)
        await published(user)
        async with user.get(f"{JOB}/files/faces.csv", headers={"Range": asked}) as response:
            assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{len(FACES)}")


async def test_the_archive_holds_every_file(world: World) -> None:
    files = {**FILES, "x" * 150 + "/" + "y" * 150 + ".csv": bytes(3 * 512), "none.csv": b""}
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, files)
        await published(user)
        async with user.get(f"{JOB}/archive.tar") as response:
            content = await response.read()
            assert response.headers["Content-Length"] == str(len(content))
            assert response.headers["Content-Type"] == "application/x-tar"
        async with user.head(f"{JOB}/archive.tar") as response:
            assert response.headers["Content-Length"] == str(len(content))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {entry.name: (archive.extractfile(entry) or io.BytesIO()).read() for entry in archive}
    assert found == files


async def test_the_zip_holds_every_file(world: World) -> None:
    files = {**FILES, "noise.bin": os.urandom(2**20), "none.csv": b""}
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, files, logs={"app/0.log": b"no result"})
        await published(user)
        async with user.get(f"{JOB}/archive.zip") as response:
            content = await response.read()
            assert response.headers["Content-Type"] == "application/zip"
            assert 'filename="faces.zip"' in response.headers["Content-Disposition"]
        async with user.head(f"{JOB}/archive.zip") as response:
            assert (response.status, await response.read()) == (200, b"")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files


async def test_a_zip_of_more_and_larger_files_than_the_old_format_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """66,000 files, and one that is larger than what is taken for the old format's limit here."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 2**20)
    many = tuple(ResultFile(name=f"{number}.csv", bytes_=2, sha256="0" * 64) for number in range(66_000))
    large = ResultFile(name="large.csv", bytes_=2**21, sha256="0" * 64)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    files = [Packed(file.name, at, JOB_UID, file) for file in (*many, large)]

    async def contents(packed: Packed) -> AsyncGenerator[bytes, None]:
        yield b"a" * packed.file.bytes_

    async def at_once(call: Callable[[bytes], int], content: bytes) -> int:
        return call(content)

    made = io.BytesIO()
    async for piece in zip_pieces(files, contents, at_once):
        made.write(piece)
    with zipfile.ZipFile(made) as archive:
        assert len(archive.infolist()) == 66_001
        assert archive.read("large.csv") == b"a" * 2**21
        assert archive.read("65999.csv") == b"aa"


async def test_content_that_is_lost_or_short_is_said_and_never_altered(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, {"big.bin": bytes(2**20)})
        await published(user)
        (blob,) = world.on_volume("jobs/*/blobs/*")
        with blob.open("r+b") as file:
            file.truncate(1000)
        for gone in (False, True):
            if gone:
                blob.unlink()
            for path in ("files/big.bin", "archive.tar", "archive.zip"):
                status, problem = await refusal(user, f"{JOB}/{path}")
                assert (status, problem.reason) == (404, "ContentLost")
                assert "big.bin" in problem.detail


async def test_an_answer_that_can_not_be_finished_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Results, "lost_of", lambda *_: None)  # it is cut while it is sent
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, {"big.bin": bytes(2**20)})
        await published(user)
        (blob,) = world.on_volume("jobs/*/blobs/*")
        with blob.open("r+b") as file:
            file.truncate(1000)
        for path in ("files/big.bin", "archive.tar", "archive.zip"):
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
                async with user.get(f"{JOB}/{path}") as response:
                    await response.read()


@pytest.mark.parametrize(
    ("token", "path", "status", "reason"),
    [
        (None, f"{JOB}/files", 401, "NoToken"),
        ("stolen", f"{JOB}/files", 401, "TokenRefused"),
        ("pod-1", f"{JOB}/files", 403, "NotAllowed"),
        ("agent-1", f"{JOB}/files/faces.csv", 403, "NotAllowed"),
        ("ada", "/v1/namespaces/demo/jobs/other/files", 403, "NotAllowed"),
        ("ada", "/v1/namespaces/demo/jobs/FACES/files", 404, "NoSuchJob"),
        ("ada", "/v1/namespaces/..%2F..%2Fdemo/jobs/faces/files", 404, "NoSuchJob"),
        ("ada", f"{JOB}/files?uid={OTHER_JOB_UID}", 404, "NoSuchJob"),
        ("ada", f"{JOB}/files?uid=../../etc", 404, "NoSuchJob"),
        ("ada", f"{JOB}/files/none.csv", 404, "NoSuchFile"),
        ("ada", f"{JOB}/files/..%2F..%2Fjob.json", 404, "NoSuchFile"),
        ("ada", "/v2/nothing", 404, "NotFound"),
    ],
)
async def test_refusals_say_what_to_do(world: World, token: str | None, path: str, status: int, reason: str) -> None:
    async with world.gateway() as agent, world.client(token) as user, world.client("ada") as ada:
        await send(agent, FILES)
        await published(ada)
        answer, problem = await refusal(user, path)
        assert (answer, problem.reason) == (status, reason)
        assert problem.detail.endswith((".", "it."))


@pytest.mark.parametrize("path", ["/v1/namespaces/demo/jobs/a%0Ab/files", "/v2/a%0Ab", f"{JOB}/files?uid=a%0Ab"])
async def test_no_request_makes_a_line_of_its_own_in_the_log(
    world: World, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with world.gateway(), world.client("ada") as user:
        assert (await refusal(user, path))[0] == 404
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert any("404" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("token", ["ada", "bob"])
async def test_tokens_of_either_audience_may_read(world: World, token: str) -> None:
    async with world.gateway() as agent, world.client(token) as user:
        await send(agent, FILES)
        assert len((await published(user)).files) == len(FILES)


async def test_the_api_server_is_not_asked_for_every_file(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, FILES)
        await published(user)
        before = list(world.api.asked)
        for _ in range(10):
            async with user.get(f"{JOB}/files/faces.csv") as response:
                assert response.status == 200
        assert world.api.asked[len(before) :].count("tokenreviews") == 0
        assert world.api.asked[len(before) :].count("subjectaccessreviews") == 0


async def test_before_there_are_results(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        assert await listing_of(user) == Listing(namespace="demo", job="faces", uid=JOB_UID, state="Pending")
        status, problem = await refusal(user, f"{JOB}/files/faces.csv")
        assert (status, problem.reason) == (404, "NoResultsYet")
        assert "kubectl wait" in problem.detail
        assert (await put(agent, plan_of(FILES)))[0] == 200
        assert (await listing_of(user)).state == "Uploading"
        assert (await refusal(user, f"{JOB}/archive.tar"))[0] == 404


async def test_a_reader_who_has_seen_the_jobs_status_is_not_told_to_wait(world: World) -> None:
    """The status is written before the gateway asks again: after some refusals that would take seconds."""
    world.operator.verdicts = [Verdict.PENDING]
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, FILES)

        async def asked_often() -> bool:
            return len(world.operator.manifests) >= 3

        await eventually(asked_often, "the next question is two seconds away")
        assert (await refusal(user, f"{JOB}/files/faces.csv"))[0] == 404
        world.operator.verdicts = [Verdict.PUBLISHED]
        async with user.get(f"{JOB}/files/faces.csv") as response:
            assert (response.status, await response.read()) == (200, FACES)


async def test_refused_files_are_named(world: World) -> None:
    refused = RefusedFile(name="link", reason="Symlink", message="a symbolic link is not followed")
    plan = replace(plan_of({"empty.csv": b""}), refused=(refused,), refused_count=3, skipped=2)
    async with world.gateway() as agent, world.client("ada") as user:
        assert (await put(agent, plan))[0] == 200
        assert (await complete(agent))[0] == 200
        listing = await published(user)
        assert (listing.state, listing.refused, listing.refused_count, listing.skipped) == ("Partial", (refused,), 3, 2)


@pytest.mark.parametrize(("verdict", "kept"), [(Verdict.SUPERSEDED, True), (Verdict.GONE, False)])
async def test_only_the_published_attempt_is_served(world: World, verdict: Verdict, kept: bool) -> None:
    world.operator.verdicts = [Verdict.PUBLISHED, verdict]
    world.api.add_attempt()
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, {"faces.csv": FACES})
        await published(user)
        await send_second(world, {"faces.csv": LOG, "same.csv": FACES})

        async def settled() -> bool:
            verdicts = {attempt.verdict for attempt in (await attempts_of(user)).attempts}
            return len(world.operator.manifests) == 2 and Verdict.PENDING not in verdicts

        await eventually(settled, "both verdicts are in")
        listing = await listing_of(user)
        assert [(file.name, file.sha256) for file in listing.files] == [("faces.csv", sha256(FACES))]
        async with user.get(f"{JOB}/files/faces.csv") as response:
            assert await response.read() == FACES
        blobs = {path.name for path in world.on_volume(f"jobs/{JOB_UID}/blobs/*")}
        assert blobs == ({sha256(FACES), sha256(LOG)} if kept else {sha256(FACES)})
        attempts_kept = {path.stem for path in world.on_volume(f"jobs/{JOB_UID}/attempts/*")}
        assert attempts_kept == ({POD_UID, OTHER_POD_UID} if kept else {POD_UID})


async def test_a_recreated_job_never_shows_its_namesakes_files(world: World) -> None:
    async with world.gateway() as agent, world.client("ada") as user:
        await send(agent, {"faces.csv": FACES})
        await published(user)
    world.api.jobs.clear()
    async with world.gateway() as agent, world.client("ada") as user:
        assert (await listing_of(user)).uid == JOB_UID
    world.api.add_job(OTHER_JOB_UID, [], created="2026-02-01T00:00:00Z")
    async with world.gateway() as agent, world.client("ada") as user:
        assert await listing_of(user) == Listing(namespace="demo", job="faces", uid=OTHER_JOB_UID, state="Pending")
        assert (await refusal(user, f"{JOB}/files/faces.csv"))[0] == 404
        assert (await listing_of(user, f"?uid={JOB_UID}")).state == "Complete"
        async with user.get(f"{JOB}/files/faces.csv?uid={JOB_UID}") as response:
            assert await response.read() == FACES


async def test_a_deleted_jobs_unpublished_results_go(world: World) -> None:
    world.operator.verdicts = [Verdict.GONE]
    async with world.gateway() as agent:
        await send(agent, {"faces.csv": FACES})

        async def gone() -> bool:
            return not world.on_volume("jobs/*")

        await eventually(gone, "the attempt is removed")
        assert not world.on_volume("names/*/*")
