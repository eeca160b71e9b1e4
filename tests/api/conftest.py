"""An API server for the tests of the kinds."""

import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest
from edgewise.api import KINDS, Kind
from edgewise.api.crd import custom_resource_definition
from kubernetes import config

from tests.api.cluster import APPLY_PATCH, Cluster, Refused
from tests.api.examples import EXAMPLES, named

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    """The cluster with the kinds as this checkout declares them, and a namespace for the tests alone."""
    with config.new_client_from_config(config_file=str(kubeconfig)) as api:
        cluster = Cluster(api, f"edgewise-kinds-{uuid4().hex[:8]}")
        for kind in KINDS:
            definition = custom_resource_definition(kind)
            path = f"{DEFINITIONS}/{definition['metadata']['name']}"
            cluster.request("PATCH", path, definition, content_type=APPLY_PATCH, force=True)
        _until_served(cluster)
        namespaces = "/api/v1/namespaces"
        cluster.request("POST", namespaces, {"metadata": {"name": cluster.namespace}})
        yield cluster
        cluster.request("DELETE", f"{namespaces}/{cluster.namespace}")


def _until_served(cluster: Cluster, limit: float = 30) -> None:
    """Wait until the API server answers for every kind."""
    deadline = time.monotonic() + limit
    for kind in KINDS:
        while not _served(cluster, kind):
            assert time.monotonic() < deadline, f"{kind.plural} are not served {limit} s after their definition"
            Event().wait(0.1)


def _served(cluster: Cluster, kind: Kind) -> bool:
    try:
        cluster.request("GET", cluster.path(kind))
    except Refused as no:
        if no.status == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True


@pytest.fixture(scope="session")
def stored(cluster: Cluster) -> Iterator[dict[str, str]]:
    """The name of a real object of each kind, by kind, for tests of what exists already."""
    name = f"edgewise-kinds-{uuid4().hex[:8]}"
    for kind in KINDS:
        cluster.create(kind, named(EXAMPLES[kind.name][0], name), dry_run=False)
    yield {kind.name: name for kind in KINDS}
    for kind in KINDS:
        cluster.delete(kind, name)
