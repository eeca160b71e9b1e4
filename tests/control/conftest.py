"""The operator's own client on an API server, and a namespace for each test."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from edgewise.kube.client import KubeClient

from testbed import paths
from testbed.commands import kubectl


@pytest_asyncio.fixture
async def client(kubeconfig: Path) -> AsyncIterator[KubeClient]:
    """A client with an admin's rights."""
    client = await KubeClient.connect(kubeconfig)
    yield client
    await client.close()


@pytest.fixture(scope="session")
def kinds(kubeconfig: Path) -> None:
    """Edgewise's kinds, served."""
    definitions = str(paths.CHECKOUT / "crds")
    kubectl(kubeconfig, "apply", "--server-side", "--force-conflicts", "--filename", definitions)
    kubectl(kubeconfig, "wait", "--for=condition=Established", "--timeout=30s", "--filename", definitions)


@pytest_asyncio.fixture
async def namespace(client: KubeClient) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"control-{uuid4().hex[:8]}"
    await client.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    await client.ask("DELETE", f"/api/v1/namespaces/{name}", json.loads("{}"))
