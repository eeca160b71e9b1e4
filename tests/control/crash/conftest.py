"""The arena of a test, and nobody else's operator in the cluster meanwhile."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from edgewise.kube.client import KubeClient

from testbed import Fleet, wait_until
from testbed.install import NAMESPACE
from tests.control.crash.arena import Arena
from tests.control.crash.arena import arena as new_arena

_OPERATOR = "--selector=app.kubernetes.io/component=operator"


@pytest.fixture(scope="session")
def alone(fleet: Fleet, kinds: None) -> Iterator[None]:
    """Stops an operator that is installed in the fleet, and lets it run again afterwards."""
    listed = json.loads(fleet.kubectl("get", "deployments", "--namespace", NAMESPACE, _OPERATOR, "--output=json"))
    before = {one["metadata"]["name"]: one["spec"]["replicas"] for one in listed["items"]}
    for name in before:
        fleet.kubectl("scale", f"deployment/{name}", "--namespace", NAMESPACE, "--replicas=0")

    def stopped() -> bool:
        return not fleet.kubectl("get", "pods", "--namespace", NAMESPACE, _OPERATOR, "--output=name")

    wait_until(stopped, "the installed operator has stopped", seconds=60)
    yield
    for name, replicas in before.items():
        fleet.kubectl("scale", f"deployment/{name}", "--namespace", NAMESPACE, f"--replicas={replicas}")


@pytest_asyncio.fixture
async def arena(client: KubeClient, namespace: str, alone: None, tmp_path: Path) -> AsyncIterator[Arena]:
    """An arena without operators yet."""
    async with new_arena(client, namespace, tmp_path) as place:
        yield place
