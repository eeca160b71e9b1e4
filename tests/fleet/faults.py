"""What the fault tests share: apps whose every byte is known beforehand, and the switches put back afterwards."""

import hashlib
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from testbed import Fleet, wait_until
from testbed.install import NAMESPACE, edge_nodes
from testbed.results import Results
from tests.fleet.work import Job

DATA: Final = "data.bin"
MARK: Final = "attempt.csv"
MEBIBYTES: Final = 4

WRITER: Final = f"""
import os, pathlib, random, sys, time
first, later, mebibytes = map(float, sys.argv[1:])
folder, attempt = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"]), os.environ["EDGEWISE_ATTEMPT"]
seed = os.environ["EDGEWISE_JOB"] + " " + attempt + " " + os.environ["EDGEWISE_NODE"]
(folder / "{MARK}").write_text("attempt\\n" + seed + "\\n")
whole, generator = int(mebibytes * 2**20), random.Random(seed)
with (folder / "{DATA}").open("wb") as file:
    for _ in range(16):
        file.write(generator.randbytes(whole // 16))
        file.flush()
        os.fsync(file.fileno())
time.sleep(first if attempt == "1" else later)
print("done")
"""
"""Writes what `expected` tells, then runs on: so long in its first attempt, so long in later ones."""


def arguments(first: float, later: float = 1, mebibytes: int = MEBIBYTES) -> list[str]:
    """WRITER's arguments: how many seconds it runs in its first attempt and in later ones, and how much it writes."""
    return [str(first), str(later), str(mebibytes)]


OUTPUTS: Final = {"include": ["*.csv", "*.bin"]}


def expected(job: str, attempt: int, node: str, mebibytes: int = MEBIBYTES) -> dict[str, bytes]:
    """The files that an attempt of WRITER writes, by name."""
    seed = f"{job} {attempt} {node}"
    generator = random.Random(seed)  # noqa: S311
    data = b"".join(generator.randbytes(mebibytes * 2**20 // 16) for _ in range(16))
    return {MARK: f"attempt\n{seed}\n".encode(), DATA: data}


def check_published(reader: Results, job: Job, mebibytes: int = MEBIBYTES) -> int:
    """Assert that exactly what one attempt wrote is published, byte by byte; that attempt's number."""
    status = job.status()
    number: int = status["results"]["attempt"]
    [attempt] = [one for one in status["attempts"] if one["number"] == number]
    wanted = expected(job.name, number, attempt["node"], mebibytes)
    listed = {file["name"]: file["sha256"] for file in reader.listing(job.namespace, job.name)["files"]}
    assert listed == {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}
    for name, content in wanted.items():
        assert reader.file(job.namespace, job.name, name) == content, f"{job.name}: {name}"
    return number


def edge_devices(fleet: Fleet) -> list[str]:
    """The names of all devices but the hub."""
    return [name for name, device in fleet.devices().items() if device.settings.edge]


def only_on(device: str, fleet: Fleet) -> dict[str, Any]:
    """A placement that prefers a device to all others, and goes elsewhere when it is lost."""
    return {"avoid": sorted(set(edge_devices(fleet)) - {device})}


def pinned(device: str) -> dict[str, Any]:
    """A placement on that device and no other."""
    return {"nodeSelector": {"kubernetes.io/hostname": device}}


def edgewise_pods(fleet: Fleet, component: str) -> list[dict[str, Any]]:
    """The pods of Edgewise's operator, gateway or agent."""
    selector = f"--selector=app.kubernetes.io/component={component}"
    text = fleet.kubectl("get", "pods", "--namespace", NAMESPACE, selector, "--output=json")
    items: list[dict[str, Any]] = json.loads(text)["items"]
    return items


@contextmanager
def gateway_stopped(fleet: Fleet) -> Iterator[None]:
    """No gateway runs for the length of a block; one answers after it."""
    gateway = ("deployment/edgewise-gateway", "--namespace", NAMESPACE)
    fleet.kubectl("scale", *gateway, "--replicas=0")
    try:
        wait_until(lambda: not edgewise_pods(fleet, "gateway"), "the gateway is gone", seconds=90)
        yield
    finally:
        fleet.kubectl("scale", *gateway, "--replicas=1")
        fleet.kubectl("rollout", "status", *gateway, "--timeout=90s")


def received_bytes(fleet: Fleet) -> float:
    """How many bytes of results the gateway has taken in since its start."""
    [pod] = edgewise_pods(fleet, "gateway")
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
    lines = fleet.kubectl("get", "--raw", path).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("edgewise_gateway_received_bytes_total "))


def bound_at(pod: dict[str, Any]) -> datetime | None:
    """When the scheduler bound a pod."""
    conditions = pod["status"].get("conditions", ())
    bound = next((one for one in conditions if one["type"] == "PodScheduled" and one["status"] == "True"), None)
    return datetime.fromisoformat(bound["lastTransitionTime"]) if bound else None


def now() -> datetime:
    """The time, as the API server's side has it."""
    return datetime.now(UTC)


def ready_reasons(fleet: Fleet) -> dict[str, str]:
    """The reason of each device's readiness."""
    conditions = {node["metadata"]["name"]: node["status"].get("conditions", ()) for node in edge_nodes(fleet)}
    return {
        name: next((one["reason"] for one in all_ if one["type"] == "Ready"), "") for name, all_ in conditions.items()
    }


def wait_fresh(fleet: Fleet, *names: str, seconds: float = 90) -> None:
    """Wait until those devices report and may take work."""
    wait_until(
        lambda: all(ready_reasons(fleet).get(name) == "Fresh" for name in names),
        f"{', '.join(names)} may take work ({ready_reasons(fleet)})",
        seconds=seconds,
    )


@contextmanager
def added(fleet: Fleet, *names: str, **settings: int) -> Iterator[None]:
    """More devices for the length of a block, with Edgewise's agent on them and a Lease of their kubelets' each."""
    try:
        for name in names:
            fleet.add(name, **settings)
        wait_fresh(fleet, *names)
        wait_until(lambda: _leases(fleet).issuperset(names), f"Leases of {', '.join(names)}", seconds=30)
        yield
    finally:
        for name in names:
            fleet.remove(name)


def _leases(fleet: Fleet) -> set[str]:
    listed = fleet.kubectl("get", "leases", "-n", "kube-node-lease", "-o", "jsonpath={.items[*].metadata.name}")
    return set(listed.split())


@contextmanager
def put_right(fleet: Fleet, *names: str) -> Iterator[None]:
    """Those devices have power, cable and pulse again after the block."""
    try:
        yield
    finally:
        for name in names:
            if fleet.device(name).on:
                fleet.resume(name)
            else:
                fleet.power_on(name, wait=False)
            fleet.plug(name)


def at_once(*switches: Any) -> None:
    """Throw switches side by side, as far as the fleet lets them. Raises what the first failing one raises."""
    with ThreadPoolExecutor(len(switches)) as pool:
        for done in [pool.submit(switch) for switch in switches]:
            done.result()
