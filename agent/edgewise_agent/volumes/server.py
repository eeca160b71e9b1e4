"""The two unix sockets that kubelet calls: the plugin's, and the one that makes kubelet look.

This module owns the sockets' files and the order of starting and stopping. The registration socket exists only while
the plugin's is served.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from grpclib.server import Server

from edgewise_agent.settings import Settings
from edgewise_agent.volumes.csi import IdentityService, NodeService
from edgewise_agent.volumes.registration import RegistrationService

CLOSE_SECONDS: Final = 2.0


@asynccontextmanager
async def serve(settings: Settings, node: NodeService, registration: RegistrationService) -> AsyncIterator[None]:
    """Serve kubelet while the context lasts. Raises `OSError` when a socket can't be made."""
    async with (
        _listening([IdentityService(), node], settings.plugin_socket),
        _listening([registration], settings.registration_socket),
    ):
        yield


@asynccontextmanager
async def _listening(
    services: list[IdentityService | NodeService | RegistrationService], path: Path
) -> AsyncIterator[None]:
    await asyncio.to_thread(path.parent.mkdir, mode=0o750, parents=True, exist_ok=True)
    server = Server(services)
    # A socket of an agent that was killed is replaced; kubelet sees the new one appear and registers again.
    await server.start(path=str(path))
    try:
        yield
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        server.close()
        # Later Pythons wait here for clients to hang up; kubelet may keep its connection.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await server.wait_closed()
