"""What runs the fleet is killed or stalls: etcd, the API server, operator, agents and gateway. Work goes on."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from testbed import Fleet, FleetError, wait_until
from testbed.install import NAMESPACE
from testbed.results import results
from tests.figures import Figures
from tests.fleet.faults import (
    OUTPUTS,
    WRITER,
    arguments,
    check_published,
    edge_devices,
    edgewise_pods,
    now,
    wait_fresh,
)
from tests.fleet.test_edgewise import leader
from tests.fleet.work import Job, make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")

STALL_SECONDS: Final = 40.0
PLACED_WITHIN_SECONDS: Final = 10.0
BIG_MEBIBYTES: Final = 64


@pytest.fixture
def control_plane(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet, whose control plane runs and does not stall after the test."""
    yield fleet
    fleet.start()
    fleet.unstall("etcd")
    wait_fresh(fleet, *edge_devices(fleet))


def _restarts(pod: dict[str, Any]) -> int:
    return sum(one["restartCount"] for one in pod["status"].get("containerStatuses", ()))


def _writers(fleet: Fleet, namespace: str, seconds: float, *names: str) -> list[Job]:
    """Jobs that run for so long in their first attempt, once all of them run."""
    make_app(fleet, namespace, "writer", WRITER, outputs=OUTPUTS)
    jobs = [start(fleet, namespace, name, "writer", args=arguments(seconds)) for name in names]
    for job in jobs:
        job.until_phase("Running")
    return jobs


def _placed(job: Job) -> bool:
    return bool(job.pods())


def _undisturbed(fleet: Fleet, namespace: str, jobs: list[Job]) -> None:
    """Assert that each job succeeds in its one attempt, whose results are what it wrote."""
    with results(fleet, namespace) as reader:
        for job in jobs:
            status = job.until("Complete")
            assert [one["outcome"] for one in status["attempts"]] == ["Succeeded"]
            assert check_published(reader, job) == 1


def test_etcd_stalls_for_40_seconds(control_plane: Fleet, namespace: str, figures: Figures) -> None:
    """Then the API server is killed too. What runs goes on, and runs once."""
    fleet = control_plane
    jobs = _writers(fleet, namespace, 75, "calm-1", "calm-2", "calm-3")
    stalled_at = now()
    assert fleet.stall("etcd") == "etcd stalls"
    assert fleet.stall("etcd") == "etcd stalls already"
    wait_until(lambda: (now() - stalled_at).total_seconds() >= STALL_SECONDS, "the stall is long", seconds=60)
    with pytest.raises(FleetError):
        fleet.kubectl("get", "edgejobs", "--namespace", namespace, "--request-timeout=2s")
    assert fleet.unstall("etcd") == "etcd goes on"
    going_on_at = now()
    assert fleet.unstall("etcd") == "etcd does not stall"
    new = _start_when_possible(fleet, namespace, "new")
    wait_until(lambda: _placed(new), "a new job is placed", seconds=60, every_seconds=0.1)
    after_stall = (now() - going_on_at).total_seconds()

    assert fleet.kill("kube-apiserver") == "kube-apiserver is killed"
    assert fleet.kill("kube-apiserver") == "kube-apiserver does not run"
    assert fleet.start() == "the control plane runs"
    started_at = now()
    assert fleet.start() == "the control plane runs already"
    newer = _start_when_possible(fleet, namespace, "newer")
    wait_until(lambda: _placed(newer), "a new job is placed", seconds=60, every_seconds=0.1)
    after_kill = (now() - started_at).total_seconds()

    _undisturbed(fleet, namespace, [*jobs, new, newer])
    figures("end of an etcd stall of 40 s to a new job placed", after_stall, PLACED_WITHIN_SECONDS, "s")
    figures("API server killed and back to a new job placed", after_kill, PLACED_WITHIN_SECONDS, "s")
    assert after_stall <= PLACED_WITHIN_SECONDS
    assert after_kill <= PLACED_WITHIN_SECONDS


def _start_when_possible(fleet: Fleet, namespace: str, name: str) -> Job:
    """A job, created as soon as the API server takes it."""

    def created() -> Job:
        try:
            return start(fleet, namespace, name, "writer", args=arguments(0))
        except FleetError as error:
            if "AlreadyExists" not in str(error):
                raise
            return Job(fleet, namespace, name)

    return wait_until(created, f"{name} is created", seconds=60, every_seconds=0.1)


def _start_operators_anew(fleet: Fleet) -> None:
    """New pods: kubelet waits before it starts a container again that has ended lately, as after the API's outages."""
    operators = ("deployment/edgewise-operator", "--namespace", NAMESPACE)
    fleet.kubectl("rollout", "restart", *operators)
    fleet.kubectl("rollout", "status", *operators, "--timeout=90s")
    wait_until(lambda: _leads(fleet), "an operator leads", seconds=30)


def _leads(fleet: Fleet) -> bool:
    selector = "--selector=edgewise.dev/leader=true"
    pods = json.loads(fleet.kubectl("get", "pods", "--namespace", NAMESPACE, selector, "--output=json"))["items"]
    return len(pods) == 1 and "deletionTimestamp" not in pods[0]["metadata"]


def test_the_operator_is_killed(fleet: Fleet, namespace: str, figures: Figures) -> None:
    _start_operators_anew(fleet)
    [running] = _writers(fleet, namespace, 10, "running")
    before = leader(fleet)
    assert "0 processes" not in fleet.kill_pod(NAMESPACE, before)
    killed_at = now()
    new = start(fleet, namespace, "new", "writer", args=arguments(0))
    wait_until(lambda: _placed(new), "a new job is placed", seconds=60, every_seconds=0.1)
    took = (now() - killed_at).total_seconds()
    _undisturbed(fleet, namespace, [running, new])
    figures("operator killed on the fleet to a new job placed", took, PLACED_WITHIN_SECONDS, "s")
    assert took <= PLACED_WITHIN_SECONDS


def test_every_agent_is_killed_while_work_runs(fleet: Fleet, namespace: str, figures: Figures) -> None:
    jobs = _writers(fleet, namespace, 8, "one", "two", "three")
    before = {pod["metadata"]["name"]: _restarts(pod) for pod in edgewise_pods(fleet, "agent")}
    for agent in before:
        assert "0 processes" not in fleet.kill_pod(NAMESPACE, agent)
    _undisturbed(fleet, namespace, jobs)
    for pod in edgewise_pods(fleet, "agent"):
        assert _restarts(pod) > before[pod["metadata"]["name"]]
    figures("agents killed while three jobs ran, none of which was interrupted", len(before))


def test_gateway_and_agent_are_killed_amid_an_upload(fleet: Fleet, namespace: str, figures: Figures) -> None:
    """First the gateway, then, when it goes on, the agent that sends."""
    make_app(fleet, namespace, "writer", WRITER, outputs=OUTPUTS)
    job = start(fleet, namespace, "big", "writer", args=arguments(0, mebibytes=BIG_MEBIBYTES))
    volumes = fleet.device("hub").disk() / "var/lib/edgewise-volumes"
    whole, uid = BIG_MEBIBYTES * 2**20, job.read()["metadata"]["uid"]

    def arrived() -> int:
        return max((file.stat().st_size for file in volumes.glob(f"*/staging/{uid}/*/*.part")), default=0)

    held = wait_until(arrived, "some of the file has arrived", seconds=90, every_seconds=0.02)
    [gateway] = edgewise_pods(fleet, "gateway")
    fleet.kill_pod(NAMESPACE, gateway["metadata"]["name"])
    assert held < whole, "the gateway was killed amid the upload"
    wait_until(lambda: arrived() > held or job.phase() == "Succeeded", "more arrives", seconds=60, every_seconds=0.02)
    [agent] = [pod for pod in edgewise_pods(fleet, "agent") if pod["spec"]["nodeName"] == job.status()["node"]]
    fleet.kill_pod(NAMESPACE, agent["metadata"]["name"])
    killed_at = now()
    status = job.until("Complete")
    took = (now() - killed_at).total_seconds()
    assert [one["outcome"] for one in status["attempts"]] == ["Succeeded"]
    with results(fleet, namespace) as reader:
        check_published(reader, job, BIG_MEBIBYTES)
    figures("gateway killed amid an upload: MiB of 64 that had arrived", held / 2**20)
    figures("agent killed amid the same upload, to all results home", took, 60, "s")
    assert took <= 60
