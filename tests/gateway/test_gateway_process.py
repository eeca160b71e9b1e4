"""The gateway as its image starts it: a process that is killed in the middle of an upload, and one that is stopped."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.gateway.sending import UPLOAD, complete, missing_offset, patch, put
from tests.gateway.surroundings import NAMESPACE, World, eventually, free_port, plan_of, sha256

COMMAND = (sys.executable, "-m", "edgewise.gateway.main")
MIB = 2**20
MEMORY_LIMIT_MIB = 120


@asynccontextmanager
async def process(world: World, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway of its own process, answering; killed at the block's end if it has not ended before."""
    probes = free_port()
    settings = world.settings
    environment = {
        **os.environ,
        "EDGEWISE_NAMESPACE": NAMESPACE,
        "EDGEWISE_DATA_DIR": str(settings.data_dir),
        "EDGEWISE_TLS_DIR": str(settings.tls_dir),
        "EDGEWISE_CA_FILE": str(settings.ca_file),
        "EDGEWISE_TOKEN_FILE": str(settings.token_file),
        "EDGEWISE_OPERATOR_URL": settings.operator_url,
        "EDGEWISE_HTTPS_PORT": str(port),
        "EDGEWISE_HTTP_PORT": str(probes),
        "KUBECONFIG": str(settings.kubeconfig),
    }
    gateway = await asyncio.create_subprocess_exec(*COMMAND, env=environment)

    async def ready() -> bool:
        assert gateway.returncode is None, "the gateway ended by itself: its log is above"
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://localhost:{probes}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    try:
        await eventually(ready, "the gateway is ready")
        yield gateway
    finally:
        if gateway.returncode is None:
            gateway.kill()
        await gateway.wait()


def peak_memory_mib(gateway: asyncio.subprocess.Process) -> float:
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match.group(1)) / 1024


async def test_killed_in_the_middle_and_stopped_at_the_end(world: World) -> None:
    port = free_port()
    content = os.urandom(MIB) * 40
    plan = plan_of({"big.bin": content})
    connector = aiohttp.TCPConnector(ssl=world.authority.client_context())
    headers = {"Authorization": "Bearer agent-1"}
    async with aiohttp.ClientSession(f"https://localhost:{port}", headers=headers, connector=connector) as session:
        async with process(world, port) as gateway:
            assert await missing_offset(session, plan) == 0
            assert (await patch(session, content, content[: 8 * MIB], 0))[0] == 200
            gateway.send_signal(signal.SIGKILL)
            await gateway.wait()
        async with process(world, port) as gateway:
            assert await missing_offset(session, plan) == 8 * MIB
            await send_slowly(session, content, 8 * MIB)
            status, manifest = await complete(session)
            assert (status, manifest.files[0].bytes_) == (200, len(content))
            assert (await put(session, plan))[1].complete
            assert peak_memory_mib(gateway) < MEMORY_LIMIT_MIB
            gateway.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                assert await gateway.wait() == 0


async def send_slowly(session: aiohttp.ClientSession, content: bytes, offset: int) -> None:
    """The rest of the blob in one request, in pieces: so much is never in memory at once on either side."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(offset, len(content), MIB // 4):
            yield content[start : start + MIB // 4]

    headers = {"Upload-Offset": str(offset)}
    async with session.patch(f"{UPLOAD}/blobs/{sha256(content)}", data=pieces(), headers=headers) as response:
        assert response.status == 200


def test_a_missing_setting_ends_it_with_one_line() -> None:
    ended = subprocess.run(COMMAND, env={"PATH": os.environ["PATH"]}, capture_output=True, check=False)
    assert ended.returncode == 2
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("edgewise-gateway: EDGEWISE_NAMESPACE is not set")
