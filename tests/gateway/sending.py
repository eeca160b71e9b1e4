"""An agent's side of the upload protocol, for tests: each request as a call, and the whole way of one attempt."""

import io
from typing import Any

import aiohttp
from edgewise_agent.wire import OFFSET_HEADER, BlobStatus, Manifest, Problem, UploadPlan, UploadStatus
from msgspec import json

from tests.gateway.surroundings import JOB_UID, OTHER_POD_UID, POD_UID, World, plan_of, sha256

UPLOAD = f"/v1/uploads/{JOB_UID}/{POD_UID}"
SECOND_UPLOAD = f"/v1/uploads/{JOB_UID}/{OTHER_POD_UID}"
FACES = b'photo,face\r\ncrew.png,1\r\n"two\nlines.png",2\r\n'
LOG = b"found 2 faces\n"


async def put(session: aiohttp.ClientSession, plan: UploadPlan, path: str = UPLOAD) -> tuple[int, Any]:
    async with session.put(path, data=json.encode(plan)) as response:
        body = await response.read()
        return response.status, json.decode(body, type=UploadStatus if response.status == 200 else Problem)


async def patch(
    session: aiohttp.ClientSession, content: bytes, part: bytes, offset: int, path: str = UPLOAD
) -> tuple[int, Any]:
    headers = {OFFSET_HEADER: str(offset)}
    async with session.patch(f"{path}/blobs/{sha256(content)}", data=io.BytesIO(part), headers=headers) as response:
        body = await response.read()
        return response.status, json.decode(body, type=BlobStatus if response.status in (200, 409) else Problem)


async def complete(session: aiohttp.ClientSession, path: str = UPLOAD) -> tuple[int, Any]:
    async with session.post(f"{path}/complete") as response:
        body = await response.read()
        return response.status, json.decode(body, type=Manifest if response.status == 200 else Problem)


async def send(
    session: aiohttp.ClientSession, files: dict[str, bytes], *, logs: dict[str, bytes] | None = None
) -> Manifest:
    """The whole way of one attempt's files and logs, as an agent goes it."""
    return await bring_home(session, plan_of(files, logs=logs), [*files.values(), *(logs or {}).values()])


async def send_second(world: World, files: dict[str, bytes], *, logs: dict[str, bytes] | None = None) -> Manifest:
    """The same for another pod of the job, its second attempt, from edge-2."""
    plan = plan_of(files, logs=logs, attempt=2, pod_name="faces-11111-2")
    async with world.client("agent-2") as agent:
        return await bring_home(agent, plan, [*files.values(), *(logs or {}).values()], SECOND_UPLOAD)


async def bring_home(
    session: aiohttp.ClientSession, plan: UploadPlan, contents: list[bytes], path: str = UPLOAD
) -> Manifest:
    """Sends what the gateway asks for, and completes."""
    status, missing = await put(session, plan, path)
    assert status == 200, missing
    by_name = {sha256(content): content for content in contents}
    for blob in missing.missing:
        content = by_name[blob.sha256]
        assert await patch(session, content, content[blob.offset :], blob.offset, path) == (
            200,
            BlobStatus(sha256=blob.sha256, offset=len(content)),
        )
    status, manifest = await complete(session, path)
    assert status == 200, manifest
    assert isinstance(manifest, Manifest)
    return manifest


async def missing_offset(session: aiohttp.ClientSession, plan: UploadPlan) -> int:
    status, upload = await put(session, plan)
    assert status == 200
    (blob,) = upload.missing
    return int(blob.offset)
