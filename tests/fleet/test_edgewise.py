"""Edgewise's own parts on the fleet: who may report, what the devices say, who leads, and what a power cut leaves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import urllib3
from edgewise_agent import wire
from msgspec import convert
from msgspec import json as wire_json

from testbed import Fleet, wait_until
from testbed.forward import forwarded
from testbed.install import NAMESPACE, edge_nodes
from tests.fleet.work import make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")


def beat(node: str, benchmark: wire.Benchmark | None = None, **metrics: float) -> bytes:
    """A beat as an agent would send it."""
    figures: dict[str, Any] = {
        "cpu_free_percent": 1,
        "memory_available_percent": 1,
        "memory_free_bytes": 1,
        "disk_free_bytes": 1,
    }
    whole = wire.Beat(
        node=node,
        boot=uuid4().hex,
        sequence=1,
        sampled_at=datetime.now(UTC),
        interval_seconds=10,
        metrics=wire.Metrics(**(figures | metrics)),
        spool=wire.Spool(bytes_=0, limit_bytes=1),
        benchmark=benchmark,
    )
    return wire_json.encode(whole)


@contextmanager
def intake(fleet: Fleet) -> Iterator[urllib3.HTTPSConnectionPool]:
    """A connection to the leader's door for beats."""
    with forwarded(fleet, f"pod/{leader(fleet)}", 8443) as pool:
        yield pool


def leader(fleet: Fleet) -> str:
    """The leading operator's pod."""
    selector = "--selector=edgewise.dev/leader=true"
    names = fleet.kubectl("get", "pods", "--namespace", NAMESPACE, selector, "--output=name").split()
    assert len(names) == 1, names
    return names[0].removeprefix("pod/")


def agent_token(fleet: Fleet, node: str, *, audience: str = "edgewise") -> str:
    """A token as the agent of that node has it."""
    selector = "--selector=app.kubernetes.io/component=agent"
    where = f"--field-selector=spec.nodeName={node}"
    pod = fleet.kubectl("get", "pods", "--namespace", NAMESPACE, selector, where, "--output=name").strip()
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod.removeprefix('pod/')}")
    return _token(fleet, "edgewise-agent", f"--audience={audience}", *bound)


def _token(fleet: Fleet, account: str, *arguments: str) -> str:
    return fleet.kubectl("create", "token", account, "--namespace", NAMESPACE, *arguments).strip()


def test_a_beat_is_taken_only_from_the_agent_of_that_very_node(fleet: Fleet) -> None:
    with intake(fleet) as door:

        def post(token: str, body: bytes, path: str = "/v1/beats") -> tuple[int, dict[str, Any]]:
            answer = door.request("POST", path, body=body, headers={"Authorization": f"Bearer {token}"})
            return answer.status, json.loads(answer.data)

        agent = agent_token(fleet, "edge-3")
        known = next(node for node in edge_nodes(fleet) if node["metadata"]["name"] == "edge-3")["status"]["benchmark"]
        status, answer = post(agent, beat("edge-3", convert(known, wire.Benchmark)))  # it counts, so it must be true
        assert status == 200
        assert "livePods" in answer
        status, answer = post(agent, beat("edge-2"))
        assert (status, answer["reason"]) == (403, "WrongNode")
        assert "edge-3" in answer["detail"]
        unbound = _token(fleet, "edgewise-agent", "--audience=edgewise")
        assert post(unbound, beat("edge-3"))[0] == 403
        gateway = _token(fleet, "edgewise-gateway", "--audience=edgewise")
        assert post(gateway, beat("edge-3"))[1]["reason"] == "NotAllowed"
        assert post(agent, b"{}", "/v1/manifests")[1]["reason"] == "NotAllowed"
        assert post(agent_token(fleet, "edge-3", audience="other"), beat("edge-3"))[0] == 401
        assert post("nonsense", beat("edge-3"))[0] == 401
        assert post(agent, beat("edge-3", cpu_free_percent=101))[0] == 422


def test_a_session_is_worth_what_its_token_is(fleet: Fleet) -> None:
    with intake(fleet) as door:

        def post(body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
            answer = door.request("POST", "/v1/beats", body=body, headers=headers)
            assert "Server" not in answer.headers
            return answer.status, json.loads(answer.data)

        known = next(node for node in edge_nodes(fleet) if node["metadata"]["name"] == "edge-3")["status"]["benchmark"]
        plain = beat("edge-3", convert(known, wire.Benchmark))
        mine = wire.pack_beat(wire.read_beat(plain))
        token = f"Bearer {agent_token(fleet, 'edge-3')}"
        assert "session" not in post(plain, Authorization=token)[1], "older agents know of no sessions"
        _, first = post(mine, Authorization=token)
        cookie = f"{wire.SESSION_COOKIE}={first['session']}"
        status, answer = post(mine, Cookie=cookie)
        assert (status, "session" in answer) == (200, False), "no other session is given for a session"
        assert post(beat("edge-2"), Cookie=cookie)[1]["reason"] == "WrongNode"
        assert post(mine, Cookie=f"{wire.SESSION_COOKIE}=nonsense")[1]["reason"] == "NoToken"


def test_every_device_tells_its_figures(fleet: Fleet) -> None:
    nodes = {node["metadata"]["name"]: node for node in edge_nodes(fleet)}
    assert {"edge-1", "edge-2", "edge-3"} <= set(nodes)
    assert "hub" not in nodes
    speeds = {name: node["status"]["benchmark"]["eventsPerSecond"] for name, node in nodes.items()}
    assert speeds["edge-1"] > speeds["edge-2"] > speeds["edge-3"] > 0
    for node in nodes.values():
        metrics = node["status"]["metrics"]
        assert metrics["memoryFreeBytes"] < 4 * 2**30, "the device's own memory, not the host's"
        assert metrics["celsius"] > 0


def test_a_standby_takes_over_when_the_leader_dies(fleet: Fleet, namespace: str) -> None:
    before = leader(fleet)
    fleet.kubectl("delete", "pod", before, "--namespace", NAMESPACE, "--grace-period=0", "--force")

    def another() -> bool:
        selector = "--selector=edgewise.dev/leader=true"
        names = fleet.kubectl("get", "pods", "--namespace", NAMESPACE, selector, "--output=name").split()
        return bool(names) and f"pod/{before}" not in names

    wait_until(another, "another operator leads", seconds=30)
    make_app(fleet, namespace, "quick", "print('hello')", outputs=None)
    assert start(fleet, namespace, "quick", "quick").until("Finished")["phase"] == "Succeeded"


def test_a_power_cut_loses_no_job_and_all_pods_come_back(fleet: Fleet, namespace: str) -> None:
    """The device dies under a job that waits for it; back again, the job is tried anew and its results come home."""
    script = "import os, pathlib, time\ntime.sleep(8 if os.environ['EDGEWISE_ATTEMPT'] == '1' else 0)\n"
    script += "pathlib.Path(os.environ['EDGEWISE_OUTPUTS'], 'a.csv').write_text('a\\n1\\n')"
    make_app(fleet, namespace, "steady", script)
    pinned = {"nodeSelector": {"kubernetes.io/hostname": "edge-1"}}
    job = start(fleet, namespace, "steady", "steady", placement=pinned, disconnect={"replaceAfterSeconds": None})
    job.until_phase("Running")
    try:
        fleet.power_off("edge-1")
    finally:
        fleet.power_on("edge-1")
    status = job.until("Finished", 180)
    assert status["phase"] == "Succeeded"
    assert status["results"]["files"][0]["name"] == "a.csv"

    def all_back() -> bool:
        pods = json.loads(fleet.kubectl("get", "pods", "--namespace", NAMESPACE, "--output=json"))["items"]
        ready = [one["status"] for pod in pods for one in pod["status"].get("conditions", ()) if one["type"] == "Ready"]
        return len(ready) == len(pods) and set(ready) == {"True"}

    wait_until(all_back, "all of Edgewise's pods are ready", seconds=120)


def _seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_a_dead_device_loses_its_job_to_another_within_25_seconds(fleet: Fleet, namespace: str) -> None:
    """At 10 s beats and `replaceAfterSeconds: 10`; Kubernetes by itself takes 350 s."""
    script = "import os, pathlib, time\ntime.sleep(30 if os.environ['EDGEWISE_ATTEMPT'] == '1' else 0)\n"
    script += "pathlib.Path(os.environ['EDGEWISE_OUTPUTS'], 'a.csv').write_text(os.environ['EDGEWISE_NODE'] + '\\n')"
    make_app(fleet, namespace, "mover", script)
    job = start(fleet, namespace, "mover", "mover", disconnect={"replaceAfterSeconds": 10})
    first = job.until_phase("Running")["node"]
    try:
        cut = datetime.now(UTC).isoformat()
        fleet.power_off(first)
        status = job.until("Finished", 90)
        second = job.pods()[1]
        bound = next(one for one in second["status"]["conditions"] if one["type"] == "PodScheduled")
        took = _seconds_between(cut, bound["lastTransitionTime"])
        print(f"power cut to replacement bound: {took:.0f} s")
        assert took <= 25
        assert status["phase"] == "Succeeded"
        assert status["node"] != first
        assert [attempt["outcome"] for attempt in status["attempts"]] == ["Lost", "Succeeded"]
        assert status["attempts"][0]["reason"] == "NodeLost"
    finally:
        fleet.power_on(first)
    wait_until(lambda: len(job.pods()) == 1, "the lost attempt's pod is gone", seconds=90)
    assert job.status()["results"]["attempt"] == 2


def test_a_dead_agent_on_a_living_device_loses_no_job(fleet: Fleet, namespace: str) -> None:
    script = "import os, pathlib, time\ntime.sleep(45)\n"
    script += "pathlib.Path(os.environ['EDGEWISE_OUTPUTS'], 'a.csv').write_text('a\\n')"
    make_app(fleet, namespace, "calm", script)
    job = start(fleet, namespace, "calm", "calm", disconnect={"replaceAfterSeconds": 10})
    node = job.until_phase("Running")["node"]
    agents = ("daemonset/edgewise-agent", "--namespace", NAMESPACE)
    nowhere = '{"spec":{"template":{"spec":{"nodeSelector":{"edgewise.dev/test":"nowhere"}}}}}'
    everywhere = '{"spec":{"template":{"spec":{"nodeSelector":{"edgewise.dev/test":null}}}}}'
    try:
        fleet.kubectl("patch", *agents, "--type=merge", f"--patch={nowhere}")

        def stale() -> bool:
            conditions = next(one for one in edge_nodes(fleet) if one["metadata"]["name"] == node)["status"][
                "conditions"
            ]
            return any(one["type"] == "Ready" and one["reason"] == "Stale" for one in conditions)

        wait_until(stale, f"{node} is stale without its agent", seconds=60)
        wait_until(lambda: job.pods()[0]["status"]["phase"] == "Succeeded", "the app has ended", seconds=90)
        assert [attempt["number"] for attempt in job.status()["attempts"]] == [1]
    finally:
        fleet.kubectl("patch", *agents, "--type=merge", f"--patch={everywhere}")
    assert job.until("Finished")["phase"] == "Succeeded"
    assert [attempt["outcome"] for attempt in job.status()["attempts"]] == ["Succeeded"]


def test_beats_cost_no_writes(fleet: Fleet) -> None:
    """Two beats of each device later, each EdgeNode has been written once at most (its score may have moved)."""
    seen: dict[str, set[str]] = {}

    def beats() -> float:
        pod = f"/api/v1/namespaces/{NAMESPACE}/pods/{leader(fleet)}:8080/proxy/metrics"
        lines = fleet.kubectl("get", "--raw", pod).splitlines()
        taken = 'edgewise_intake_requests_total{path="/v1/beats",status="200"}'
        for node in edge_nodes(fleet):
            seen.setdefault(node["metadata"]["name"], set()).add(node["metadata"]["resourceVersion"])
        return sum(float(line.split()[-1]) for line in lines if line.startswith(taken))

    before = beats()
    wait_until(lambda: beats() >= before + 2 * len(seen), "two beats of every device", seconds=60)
    assert max(len(versions) for versions in seen.values()) <= 2
