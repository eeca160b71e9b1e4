"""An agent's side of the upload protocol, for tests: each request as a call, and the whole way of one attempt."""

import io
from typing import Any

import aiohttp
from edgewise_agent.wire import OFFSET_HEADER, BlobStatus, Manifest, Problem, UploadPlan, UploadStatus
from msgspec import json

from tests.gateway.surroundings import JOB_UID, POD_UID, plan_of, sha256

UPLOAD = f"/v1/uploads/{JOB_UID}/{POD_UID}"
FACES = b'photo,face\r\ncrew.png,1\r\n"two\nlines.png",2\r\n'
LOG = b"found 2 faces\n"


async def put(session: aiohttp.ClientSession, plan: UploadPlan, path: str = UPLOAD) -> tuple[int, Any]:
    async with session.put(path, data=json.encode(plan)) as response:
        body = await response.read()
        return response.status, json.decode(body, type=UploadStatus if response.status == 200 else Problem)


async def patch(session: aiohttp.ClientSession, content: bytes, part: bytes, offset: int) -> tuple[int, Any]:
    headers = {OFFSET_HEADER: str(offset)}
    async with session.patch(f"{UPLOAD}/blobs/{sha256(content)}", data=io.BytesIO(part), headers=headers) as response:
        body = await response.read()
        return response.status, json.decode(body, type=BlobStatus if response.status in (200, 409) else Problem)


async def complete(session: aiohttp.ClientSession) -> tuple[int, Any]:
    async with session.post(f"{UPLOAD}/complete") as response:
        body = await response.read()
        return response.status, json.decode(body, type=Manifest if response.status == 200 else Problem)


async def send(session: aiohttp.ClientSession, files: dict[str, bytes]) -> Manifest:
    """The whole way of one attempt's files, as an agent goes it."""
    status, missing = await put(session, plan_of(files))
    assert status == 200
    contents = {sha256(content): content for content in files.values()}
    for blob in missing.missing:
        content = contents[blob.sha256]
        assert await patch(session, content, content[blob.offset :], blob.offset) == (
            200,
            BlobStatus(sha256=blob.sha256, offset=len(content)),
        )
    status, manifest = await complete(session)
    assert status == 200
    assert isinstance(manifest, Manifest)
    return manifest


async def missing_offset(session: aiohttp.ClientSession, plan: UploadPlan) -> int:
    status, upload = await put(session, plan)
    assert status == 200
    (blob,) = upload.missing
    return int(blob.offset)
