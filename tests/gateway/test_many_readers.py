"""Many readers of one large file at once: the gateway's memory stays bounded, however slow they are."""

import asyncio
import hashlib
import os
from urllib.parse import urlsplit

import aiohttp

from tests.figures import Figures
from tests.gateway.reading import JOB, published
from tests.gateway.sending import send
from tests.gateway.surroundings import World, free_port
from tests.gateway.test_gateway_process import peak_memory_mib, process

MIB = 2**20
READERS = 200
FILE_BYTES = 256 * MIB
PART_BYTES = 2 * MIB
MEMORY_LIMIT_MIB = 160


async def begin_and_wait(world: World, port: int, all_began: asyncio.Barrier) -> None:
    """Asks for the whole file, reads a little, and goes on reading nothing until everybody has begun."""
    context = world.authority.client_context()
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context, limit=2**16)
    request = f"GET {JOB}/files/big.bin HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ada\r\n\r\n"
    writer.write(request.encode())
    assert (await reader.readline()).split()[1] == b"200"
    await all_began.wait()
    writer.transport.abort()


async def test_200_readers_at_once(world: World, figures: Figures) -> None:
    port = free_port()
    url = f"https://localhost:{port}"
    content = os.urandom(MIB) * (FILE_BYTES // MIB)
    parts = [start * PART_BYTES % (FILE_BYTES - PART_BYTES) for start in range(READERS)]

    async def read(session: aiohttp.ClientSession, start: int) -> None:
        headers = {"Range": f"bytes={start}-{start + PART_BYTES - 1}"}
        digest = hashlib.sha256()
        async with session.get(f"{JOB}/files/big.bin", headers=headers) as response:
            assert response.status == 206
            async for chunk in response.content.iter_chunked(MIB // 4):
                digest.update(chunk)
        assert digest.digest() == hashlib.sha256(content[start : start + PART_BYTES]).digest()

    connector = aiohttp.TCPConnector(ssl=world.authority.client_context(), limit=READERS)
    async with process(world, port) as gateway, aiohttp.ClientSession(url, connector=connector) as session:
        session.headers["Authorization"] = "Bearer agent-1"
        await send(session, {"big.bin": content})
        session.headers["Authorization"] = "Bearer ada"
        await published(session)
        before = peak_memory_mib(gateway)
        async with asyncio.TaskGroup() as group:
            for start in parts:
                group.create_task(read(session, start))
        all_began = asyncio.Barrier(READERS)
        async with asyncio.TaskGroup() as group:
            for _ in range(READERS):
                group.create_task(begin_and_wait(world, urlsplit(url).port or 0, all_began))
        peak = peak_memory_mib(gateway)
    figures("gateway: peak memory before its readers", before, unit="MiB")
    figures(
        f"gateway: peak memory, {READERS} readers of a file of {FILE_BYTES // MIB} MiB", peak, MEMORY_LIMIT_MIB, "MiB"
    )
    assert peak < MEMORY_LIMIT_MIB
