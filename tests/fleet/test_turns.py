"""Whose turn it is on a real device that is short of room: namespaces' shares, starved jobs and limits."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from testbed import Fleet
from testbed.install import install
from tests.fleet.pods import apply
from tests.fleet.work import Job, edge_job, make_app, start_all

pytestmark = pytest.mark.usefixtures("edgewise")

STARVATION_SECONDS = 20
WORKS = "import time; time.sleep(2)"
ONE_DEVICE = {"placement": {"nodeSelector": {"kubernetes.io/hostname": "edge-1"}, "policy": "Score"}}


@pytest.fixture
def one_slot(fleet: Fleet) -> Iterator[None]:
    """edge-1 with room for one job at a time."""
    fleet.kubectl("patch", "edgenode", "edge-1", "--type=merge", "--patch", '{"spec": {"slots": 1}}')
    yield
    fleet.kubectl("patch", "edgenode", "edge-1", "--type=merge", "--patch", '{"spec": {"slots": null}}')


@pytest.fixture
def neighbour(fleet: Fleet, namespace: str) -> Iterator[str]:
    """Another namespace beside the test's own."""
    name = f"{namespace}-b"
    apply(fleet, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    fleet.kubectl("delete", "namespace", name)


@pytest.fixture
def strict(fleet: Fleet, namespace: str, neighbour: str) -> Iterator[None]:
    """An Edgewise that knows no long waits, and lets the neighbour have one job at a time."""
    install(
        fleet,
        f"placement.starvationSeconds={STARVATION_SECONDS}",
        f"namespaces.named.{neighbour}.maxRunning=1",
    )
    yield
    install(fleet)


def begun(job: Job) -> datetime:
    """When its pod was made."""
    return datetime.fromisoformat(job.pods()[0]["metadata"]["creationTimestamp"])


def ended(job: Job) -> datetime:
    return datetime.fromisoformat(job.status()["completionTime"])


@pytest.mark.usefixtures("strict", "one_slot")
def test_shares_priorities_waiting_and_limits(fleet: Fleet, namespace: str, neighbour: str) -> None:
    for where in (namespace, neighbour):
        make_app(fleet, where, "works", WORKS, outputs=None)
    first, humble = start_all(
        fleet,
        edge_job(namespace, "first", "works", priority=10, **ONE_DEVICE),
        edge_job(namespace, "humble", "works", priority=-10, **ONE_DEVICE),
    )
    time.sleep(1.1)  # the API keeps whole seconds: who has waited longest must be known
    single, *flood = start_all(
        fleet,
        edge_job(neighbour, "single", "works", **ONE_DEVICE),
        *(edge_job(namespace, f"urgent-{n}", "works", priority=10, **ONE_DEVICE) for n in range(12)),
    )
    for job in (first, humble, single, *flood):
        job.until("Complete")
    starts = sorted(begun(job) for job in flood)
    assert sum(one < begun(single) for one in starts) <= 1, "the other namespace is next, however long this queue is"
    assert starts[0] < begun(humble), "priority comes first"
    assert begun(humble) < starts[-1], "but no priority passes a job that has waited for too long"

    pair = start_all(fleet, *(edge_job(neighbour, f"pair-{n}", "works") for n in range(2)))
    for job in pair:
        job.until("Complete")
    first, second = sorted(pair, key=begun)
    assert begun(second) >= ended(first), "one job of the neighbour at a time, although two devices are free"
