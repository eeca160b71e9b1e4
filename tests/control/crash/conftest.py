"""The arena of a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from edgewise.kube.client import KubeClient

from tests.control.crash.arena import Arena
from tests.control.crash.arena import arena as new_arena


@pytest_asyncio.fixture
async def arena(
    client: KubeClient, kubeconfig: Path, kinds: None, namespace: str, tmp_path: Path
) -> AsyncIterator[Arena]:
    """An arena without operators yet."""
    async with new_arena(client, kubeconfig, namespace, tmp_path) as place:
        yield place
