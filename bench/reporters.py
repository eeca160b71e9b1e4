"""Agents for simulated devices: the same beats over the same door, with tokens bound to the agents' own pods.

kwok makes the DaemonSet's pods on those devices look as if they ran, but runs nothing; so this process reports for
them, each device once an interval, spread over the interval as real agents are.
"""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import aiohttp
from edgewise.api import API_VERSION
from edgewise_agent import wire
from msgspec import json

from bench.cluster import Cluster
from bench.errors import BenchError
from bench.waiting import until
from testbed.install import NAMESPACE

SLOTS: Final = 20
"""How many jobs each simulated device takes at a time."""

START_SECONDS: Final = 90
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Reporter:
    """One device's agent: its token, and the figures that it always reports."""

    node: str
    token: str
    boot: str
    metrics: wire.Metrics
    benchmark: wire.Benchmark

    def beat(self, sequence: int, interval: timedelta) -> wire.Beat:
        """The beat of that number, sampled now."""
        return wire.Beat(
            node=self.node,
            boot=self.boot,
            sequence=sequence,
            sampled_at=datetime.now(UTC),
            interval_seconds=interval.total_seconds(),
            metrics=self.metrics,
            spool=wire.Spool(bytes_=0, limit_bytes=_GIB),
            benchmark=self.benchmark,
            agent_version="bench",
        )


@dataclass(frozen=True, slots=True)
class Door:
    """Where beats go: the address of the Service, its name in the certificate, and whom to trust."""

    address: str
    server_name: str
    trust: ssl.SSLContext


async def door(cluster: Cluster) -> Door:
    """The installation's door for beats."""
    service = await cluster.get(f"/api/v1/namespaces/{NAMESPACE}/services/edgewise-beats")
    authority = await cluster.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/edgewise-ca")
    trust = ssl.create_default_context(cadata=authority["data"]["ca.crt"])
    return Door(service["spec"]["clusterIP"], f"edgewise-beats.{NAMESPACE}.svc", trust)


@asynccontextmanager
async def reporting(cluster: Cluster, devices: Sequence[str], interval: timedelta) -> AsyncIterator[None]:
    """Has all `devices` report for the length of a block; when it begins, all of them can take work.

    Raises:
        BenchError: the agents' pods or the devices are not ready in time.
    """
    pods = await _agents(cluster, devices)
    figures = random.Random(1)  # noqa: S311 - no secret: the same fleet in every run
    reporters = [await _reporter(cluster, node, pods[node], figures) for node in devices]
    task = asyncio.create_task(_report(reporters, await door(cluster), interval))
    try:
        await _until_ready(cluster, devices, task)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _agents(cluster: Cluster, devices: Sequence[str]) -> Mapping[str, str]:
    """The agents' pods that run on `devices`, by device."""
    path, selector = f"/api/v1/namespaces/{NAMESPACE}/pods", "app.kubernetes.io/component=agent"

    async def running() -> Mapping[str, str]:
        items = (await cluster.get(path, labelSelector=selector))["items"]
        found = {
            pod["spec"].get("nodeName", ""): pod["metadata"]["name"]
            for pod in items
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        }
        return found if found.keys() >= set(devices) else {}

    return await until(running, "an agent's pod on every simulated device", seconds=START_SECONDS)


async def _reporter(cluster: Cluster, node: str, pod: str, figures: random.Random) -> Reporter:
    """A reporter with a token of that pod, and with figures of a device's own."""
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": [wire.AUDIENCE],
            "expirationSeconds": 7200,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod},
        },
    }
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/edgewise-agent/token"
    token = (await cluster.create(account, request))["status"]["token"]
    metrics = wire.Metrics(
        cpu_free_percent=figures.uniform(30, 100),
        memory_available_percent=figures.uniform(40, 95),
        memory_free_bytes=figures.randrange(_GIB, 16 * _GIB),
        disk_free_bytes=50 * _GIB,
        celsius=figures.uniform(35, 65),
    )
    benchmark = wire.Benchmark(events_per_second=figures.uniform(500, 12_000), measured_at=datetime.now(UTC))
    return Reporter(node, token, uuid4().hex, metrics, benchmark)


async def _report(reporters: Sequence[Reporter], to: Door, interval: timedelta) -> None:
    """Report without end: every device for itself, as agents do, so that a slow answer delays no other's beat."""
    pause = interval.total_seconds() / len(reporters)
    connector = aiohttp.TCPConnector(ssl=to.trust, limit=0, keepalive_timeout=3 * interval.total_seconds())
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for place, one in enumerate(reporters):
            group.create_task(_report_one(session, to, one, interval, place * pause))


async def _report_one(
    session: aiohttp.ClientSession, to: Door, one: Reporter, interval: timedelta, delay: float
) -> None:
    """Report for one device: at once, after `delay` seconds, and then once an interval."""
    await _send(session, to, one, one.beat(1, interval))
    due = time.monotonic() + delay
    for sequence in range(2, 1_000_000):
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await _send(session, to, one, one.beat(sequence, interval))
        due = max(due + interval.total_seconds(), time.monotonic())


async def _send(session: aiohttp.ClientSession, to: Door, one: Reporter, beat: wire.Beat) -> None:
    """Send a beat; one that does not get through is dropped, as an agent does."""
    headers = {"Authorization": f"Bearer {one.token}", "Content-Type": "application/json"}
    limit = aiohttp.ClientTimeout(total=5)
    url = f"https://{to.address}/v1/beats"
    try:
        async with session.post(
            url, data=json.encode(beat), headers=headers, server_hostname=to.server_name, timeout=limit
        ) as answer:
            if answer.status in (401, 403, 422):
                raise BenchError(f"the operator refuses a beat of {one.node}: {await answer.text()}")
    except (aiohttp.ClientError, TimeoutError):
        return


async def _until_ready(cluster: Cluster, devices: Sequence[str], task: asyncio.Task[None]) -> None:
    """Give every device its slots, and wait until all are Ready."""
    path = f"/apis/{API_VERSION}/edgenodes"

    async def ready() -> bool:
        if task.done():
            task.result()
        nodes = {one["metadata"]["name"]: one for one in (await cluster.get(path))["items"]}
        for name in devices:
            if name in nodes and nodes[name]["spec"].get("slots") != SLOTS:
                await cluster.patch(f"{path}/{name}", {"spec": {"slots": SLOTS}})
        return all(name in nodes and _is_ready(nodes[name]) for name in devices)

    await until(ready, "all simulated devices are ready", seconds=START_SECONDS)


def _is_ready(node: Mapping[str, object]) -> bool:
    status = node.get("status")
    conditions = status.get("conditions", ()) if isinstance(status, dict) else ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
