"""What the contestants' controllers use: CPU, memory and writes to the API.

The operator is asked for its own metrics; the controller manager is looked at from outside; the writes of both are in
the API server's count of requests.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.cluster import Cluster
from bench.errors import BenchError
from bench.waiting import until
from testbed import processes
from testbed.install import NAMESPACE

MIB: Final = 2**20
LEADER_SECONDS: Final = 60
WRITES: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})

_REQUESTS = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Usage:
    """A process's CPU time so far, in seconds, and its resident memory, in bytes."""

    cpu_seconds: float
    rss_bytes: float


@dataclass(frozen=True, slots=True)
class Operator:
    """What the leading operator says of itself: its process, its usage, and its writes so far besides Events."""

    process: tuple[str, float]
    """its pod's address and the time of its start: another one means that the leader has changed"""
    usage: Usage
    writes: float


async def leading_operator(cluster: Cluster) -> Operator:
    """The operator that leads now. Raises `BenchError` when none does."""
    address = await until(partial(_leader, cluster), "one operator leads", seconds=LEADER_SECONDS)
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}:8080/metrics") as answer:
        text = await answer.text()
    totals: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] += sample.value
    usage = Usage(totals["process_cpu_seconds_total"], totals["process_resident_memory_bytes"])
    return Operator((address, totals["process_start_time_seconds"]), usage, totals["edgewise_api_writes_total"])


async def _leader(cluster: Cluster) -> str:
    """The address of the one pod that carries the leader's label, empty when there is not one."""
    selector = "edgewise.dev/leader=true"
    pods = (await cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=selector))["items"]
    return str(pods[0]["status"]["podIP"]) if len(pods) == 1 else ""


def controller_manager() -> Usage:
    """The usage of kube-controller-manager. Raises `BenchError` when it does not run."""
    process = processes.find("kube-controller-manager")
    if process is None or not process.alive:
        raise BenchError("kube-controller-manager does not run")
    folder = Path(f"/proc/{process.pid}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int((folder / "statm").read_text().split()[1])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


async def write_counts(cluster: Cluster) -> Counter[tuple[str, str]]:
    """How many writes the API server has answered so far, by resource (`edgejobs/status`) and verb."""
    counts: Counter[tuple[str, str]] = Counter()
    for found in _REQUESTS.finditer(await cluster.text("/metrics")):
        labels = dict(_LABEL.findall(found[1]))
        if labels["verb"] in WRITES:
            resource = "/".join(part for part in (labels["resource"], labels["subresource"]) if part)
            counts[resource, labels["verb"]] += int(float(found[2]))
    return counts


def job_writes(counts: Mapping[tuple[str, str], int]) -> int:
    """The job controller's writes of a count: pods made and released, statuses kept; not the making of the Jobs."""
    wanted = (("pods", "POST"), ("pods", "PATCH"), ("pods", "PUT"), ("jobs/status", "PUT"), ("jobs/status", "PATCH"))
    return sum(counts.get(one, 0) for one in wanted)


def edge_job_writes(counts: Mapping[tuple[str, str], int]) -> int:
    """The operator's writes for jobs in a count: pods made and deleted, statuses kept."""
    wanted = (("pods", "POST"), ("pods", "DELETE"), ("edgejobs/status", "PATCH"), ("edgejobs", "PATCH"))
    return sum(counts.get(one, 0) for one in wanted)


def device_writes(counts: Mapping[tuple[str, str], int]) -> int:
    """The operator's writes of a count that are about devices and apps, not jobs."""
    return sum(
        number for (resource, _), number in counts.items() if resource.split("/")[0] in ("edgenodes", "edgeapps")
    )
