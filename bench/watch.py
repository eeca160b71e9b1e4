"""When pods were bound and when they ended, by one clock and one watch for all contestants.

The clock is this process's monotonic one, read as soon as a line of the watch has been read. A job's pod is known by
its owner's name, so a Job and an EdgeJob are seen in the same way.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from edgewise.kube.client import KubeClient, Refused, Unreachable
from msgspec import Struct, json

from bench.cluster import Cluster
from bench.errors import BenchError


class _Owner(Struct, frozen=True):
    name: str


class _Meta(Struct, frozen=True, rename="camel"):
    name: str = ""
    owner_references: list[_Owner] = []
    resource_version: str = ""


class _Spec(Struct, frozen=True, rename="camel"):
    node_name: str = ""


class _Status(Struct, frozen=True):
    phase: str = ""


class _Pod(Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _Event(Struct, frozen=True):
    type: str
    object: _Pod


@dataclass(slots=True)
class PodWatch:
    """What was seen of the jobs of one namespace since the watch began. Times are `time.monotonic()`."""

    bound: dict[str, float] = field(default_factory=dict)
    """when the pod of a job was first seen with a node, by the job's name"""
    ended: dict[str, float] = field(default_factory=dict)
    """when it was first seen to have succeeded"""
    nodes: dict[str, str] = field(default_factory=dict)
    """the node that the job's last pod is bound to"""
    failed: set[str] = field(default_factory=set)
    """the names of pods that have failed"""
    version: str = ""
    """the newest version that was seen"""
    fault: Exception | None = None
    """why the watch has ended"""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, done: Callable[[], bool], what: str, *, seconds: float) -> None:
        """Wait until `done` answers true. Raises `BenchError` after `seconds`, and what has ended the watch."""
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    if self.fault is not None:
                        raise self.fault
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            seen = f"{len(self.bound)} bound, {len(self.ended)} ended, {len(self.failed)} pods failed"
            raise BenchError(f"{what}: not within {seconds:g} s ({seen})") from None

    async def follow(self, client: KubeClient, path: str, version: str) -> None:
        """Take in all changes of the pods at `path` since `version`, until cancelled or the watch fails.

        A server that ends the watch, as it does when a reader falls behind, is asked to go on where it was.
        """
        self.version = version
        try:
            while True:
                query = {"watch": "true", "resourceVersion": self.version}
                async for line in client.lines(path, query, silence=timedelta(minutes=10)):
                    self.take(line, time.monotonic())
        except (BenchError, Refused, Unreachable) as fault:
            self.fault = fault
            self.news.set()

    def take(self, line: bytes, now: float) -> None:
        """Take in one line of the watch, read at `now`. Raises `BenchError` for one that tells of a fault."""
        event = json.decode(line, type=_Event)
        if event.type == "ERROR":
            raise BenchError(f"the watch of pods failed: {line[:300].decode()}")
        pod = event.object
        self.version = pod.metadata.resource_version
        if event.type == "DELETED" or not pod.metadata.owner_references:
            return
        job = pod.metadata.owner_references[0].name
        if pod.spec.node_name:
            self.bound.setdefault(job, now)
            self.nodes[job] = pod.spec.node_name
        if pod.status.phase == "Succeeded":
            self.ended.setdefault(job, now)
        if pod.status.phase == "Failed":
            self.failed.add(pod.metadata.name)
        self.news.set()


@asynccontextmanager
async def watching(cluster: Cluster, namespace: str) -> AsyncIterator[PodWatch]:
    """A watch of the pods of `namespace`, for the length of a block. What was there before is not in it."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    listed = await cluster.get(path, limit="1")
    watch = PodWatch()
    task = asyncio.create_task(watch.follow(cluster.client, path, listed["metadata"]["resourceVersion"]))
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
