"""Bodies that travel as gzip: positions count the content, memory and disk are bounded by what the plan says."""

import gzip
import io
import os
import zlib
from typing import Any

import aiohttp
import pytest
from edgewise_agent.wire import OFFSET_HEADER, BlobStatus, Problem
from msgspec import json

from tests.gateway.sending import FACES, UPLOAD, complete, missing_offset, patch, put
from tests.gateway.surroundings import World, plan_of, sha256

MIB = 2**20


async def patch_encoded(
    session: aiohttp.ClientSession, content: bytes, body: bytes, offset: int, encoding: str = "gzip"
) -> tuple[int, Any]:
    headers = {OFFSET_HEADER: str(offset), "Content-Encoding": encoding}
    async with session.patch(f"{UPLOAD}/blobs/{sha256(content)}", data=io.BytesIO(body), headers=headers) as response:
        answer = await response.read()
        return response.status, json.decode(answer, type=BlobStatus if response.status in (200, 409) else Problem)


async def test_content_comes_home_compressed(world: World) -> None:
    content = b"photo,face\n" + b"".join(b"crew-%d.png,1\n" % number for number in range(200_000))
    half = len(content) // 2
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": content})))[0] == 200
        first, second = gzip.compress(content[:half], mtime=0), gzip.compress(content[half:], mtime=0)
        assert len(first) + len(second) < len(content) / 4
        assert await patch_encoded(session, content, first, 0) == (200, BlobStatus(sha256=sha256(content), offset=half))
        assert (await patch_encoded(session, content, first, 0))[1].offset == half
        assert (await patch_encoded(session, content, second, half, "GZip"))[0] == 200
        status, manifest = await complete(session)
        assert (status, manifest.files[0].rows) == (200, 200_000)


async def test_a_body_that_grows_when_compressed_is_fine(world: World) -> None:
    content = os.urandom(1000)
    async with world.gateway() as session:
        assert (await put(session, plan_of({"noise.bin": content})))[0] == 200
        body = gzip.compress(content, mtime=0)
        assert len(body) > len(content)
        assert (await patch_encoded(session, content, body, 0))[0] == 200
        assert (await complete(session))[0] == 200


async def test_a_bomb_gets_no_further_than_the_plan(world: World) -> None:
    content = bytes(MIB)
    bomb = gzip.compress(bytes(400 * MIB), 1)
    async with world.gateway() as session:
        assert (await put(session, plan_of({"zeros.bin": content})))[0] == 200
        assert (await patch(session, content, content[:1000], 0))[0] == 200
        status, problem = await patch_encoded(session, content, bomb, 1000)
        assert (status, problem.reason) == (422, "TooManyBytes")
        (part,) = world.on_volume("staging/*/*/*.part")
        assert part.stat().st_size == 1000
        assert (await patch_encoded(session, content, gzip.compress(content[1000:], mtime=0), 1000))[0] == 200
        assert (await complete(session))[0] == 200


async def test_what_came_before_a_cut_is_kept(world: World) -> None:
    content = os.urandom(MIB)
    plan = plan_of({"noise.bin": content})
    async with world.gateway() as session:
        assert (await put(session, plan))[0] == 200
        body = gzip.compress(content, mtime=0)
        status, answer = await patch_encoded(session, content, body[: len(body) // 2], 0)
        assert status == 409
        assert 0 < answer.offset < len(content)
        assert await missing_offset(session, plan) == answer.offset
        assert (await patch_encoded(session, content, gzip.compress(content[answer.offset :]), answer.offset))[0] == 200
        assert (await complete(session))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"no gzip at all",
        zlib.compress(FACES),
        gzip.compress(FACES[:10], mtime=0) + gzip.compress(FACES[10:], mtime=0),
        gzip.compress(FACES, mtime=0) + b"more",
        gzip.compress(FACES, mtime=0)[:-8] + bytes(8),
    ],
)
async def test_what_is_no_gzip_member_is_refused(world: World, body: bytes) -> None:
    plan = plan_of({"faces.csv": FACES})
    async with world.gateway() as session:
        assert (await put(session, plan))[0] == 200
        status, problem = await patch_encoded(session, FACES, body, 0)
        assert (status, problem.reason) == (422, "BadEncoding")
        assert await missing_offset(session, plan) == 0


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x-gzip", "deflate"])
async def test_other_encodings_are_refused(world: World, encoding: str) -> None:
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        status, problem = await patch_encoded(session, FACES, FACES, 0, encoding)
        assert (status, problem.reason) == (415, "UnknownEncoding")


async def test_identity_is_no_encoding(world: World) -> None:
    async with world.gateway() as session:
        assert (await put(session, plan_of({"faces.csv": FACES})))[0] == 200
        assert (await patch_encoded(session, FACES, FACES, 0, "identity"))[0] == 200
