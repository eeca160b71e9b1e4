"""What the agent's tests share: a device's folders, settings, a CA, and a cluster to talk to."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from edgewise_agent.bundles import Bundles
from edgewise_agent.settings import Settings
from edgewise_agent.volumes.table import VolumeTable

from tests.agent.authority import Authority
from tests.agent.bundling import bundles_of
from tests.agent.cluster import NODE, Cluster

HOSTS = Path(__file__).parent / "hosts"


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The CA that the agents trust."""
    return Authority("edgewise-test")


@pytest.fixture
def device() -> Iterator[Path]:
    """A device's folder, with a short path: unix sockets allow no long one."""
    with tempfile.TemporaryDirectory(prefix="ew-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def settings(device: Path, authority: Authority) -> Settings:
    """Settings of an agent on that device, quick where tests wait; no server is there yet."""
    (device / "ca.crt").write_bytes(authority.certificate)
    (device / "token").write_text("token-1\n")
    (device / "k/pods").mkdir(parents=True)
    return Settings(
        node_name=NODE,
        operator_url="https://127.0.0.1:1",
        gateway_url="https://127.0.0.1:1",
        ca_file=device / "ca.crt",
        token_file=device / "token",
        beat_seconds=1,
        host_root=HOSTS / "raspberry",
        kubelet_root=device / "k",
        pod_logs=device / "logs",
        free_space_floor_bytes=0,
        reconcile_seconds=1,
        measure_seconds=0.5,
        http_port=0,
    )


@pytest.fixture
async def cluster(device: Path, authority: Authority) -> AsyncIterator[Cluster]:
    """Operator and gateway, served."""
    async with Cluster().serve(authority.server_context(device / "tls")) as served:
        yield served


@pytest.fixture
def reachable(settings: Settings, cluster: Cluster) -> Settings:
    """The settings with the cluster's address."""
    return replace(settings, operator_url=cluster.url, gateway_url=cluster.url)


@pytest.fixture
def table(settings: Settings) -> VolumeTable:
    """The device's volume table, loaded; nobody is told of changes."""
    loaded = VolumeTable(settings, lambda: None)
    loaded.load()
    return loaded


@pytest.fixture
def bundles(settings: Settings) -> Bundles:
    """The device's bundles, loaded, with no gateway in reach."""
    return bundles_of(settings)
