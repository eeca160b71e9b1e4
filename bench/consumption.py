"""What the contestants' controllers use: CPU, memory and writes to the API.

The operator is asked for its own metrics; the controller manager is looked at from outside; the writes of both are in
the API server's count of requests.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.cluster import Cluster
from bench.errors import BenchError
from testbed import processes
from testbed.install import NAMESPACE

MIB: Final = 2**20
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
    """The leading operator."""

    address: str

    async def read(self) -> tuple[Usage, float]:
        """Its usage, and how many writes it has sent besides Events."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.address}:8080/metrics") as answer:
            text = await answer.text()
        cpu = rss = writes = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                match sample.name:
                    case "process_cpu_seconds_total":
                        cpu = sample.value
                    case "process_resident_memory_bytes":
                        rss = sample.value
                    case "edgewise_api_writes_total":
                        writes += sample.value
        return Usage(cpu, rss), writes


async def leading_operator(cluster: Cluster) -> Operator:
    """The operator that leads now. Raises `BenchError` when none does."""
    selector = "edgewise.dev/leader=true"
    pods = (await cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=selector))["items"]
    if len(pods) != 1:
        raise BenchError(f"{len(pods)} operators lead: is Edgewise installed (make up)?")
    return Operator(pods[0]["status"]["podIP"])


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
