"""The API as the bench uses it: many objects made at once, whole collections cleared, one collection watched.

One client, as the administrator, for all contestants: what it costs, it costs each of them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final

from edgewise.kube.client import MERGE_PATCH, KubeClient, Refused
from msgspec import json

from bench.waiting import until
from testbed import paths

AT_ONCE: Final = 16
"""How many objects the bench has under way at a time when it makes many."""

CLEAR_SECONDS: Final = 180


class Cluster:
    """The fleet's API server."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """The object or list at `path`."""
        answer: dict[str, Any] = json.decode(await self.client.ask("GET", path, query=query))
        return answer

    async def text(self, path: str) -> str:
        """What the API server serves at `path`, as text."""
        answer = await self.client.ask("GET", path, accept="*/*", limit=timedelta(seconds=60))
        return answer.decode()

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make one object; its answer."""
        answer: dict[str, Any] = json.decode(await self.client.ask("POST", path, body))
        return answer

    async def create_all(self, path: str, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Make many objects as fast as the API server takes them, in about this order."""
        waiting = iter(bodies)

        async def work() -> None:
            for body in waiting:
                await self.client.ask("POST", path, body)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def ensure(self, path: str, body: Mapping[str, Any]) -> None:
        """Make an object unless there is one of that name."""
        try:
            await self.client.ask("POST", path, body)
        except Refused as error:
            if error.reason != "AlreadyExists":
                raise

    async def patch(self, path: str, body: Mapping[str, Any]) -> None:
        """Change an object by a merge patch."""
        await self.client.ask("PATCH", path, body, content_type=MERGE_PATCH)

    async def clear(self, *collections: str, selector: str = "") -> None:
        """Delete all objects of these collections, or those that `selector` picks, and wait until none is left.

        Raises `BenchError` when some are left after three minutes.
        """
        for path in collections:
            await self.discard(path, selector)
        for path in collections:
            empty = partial(self._is_empty, path, selector)
            await until(empty, f"{path} is empty", seconds=CLEAR_SECONDS)

    async def discard(self, collection: str, selector: str = "") -> None:
        """Delete all objects of a collection that are there now, or those that `selector` picks."""
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "propagationPolicy": "Background",
        }
        picked, patience = {"labelSelector": selector}, timedelta(seconds=CLEAR_SECONDS)
        await self.client.ask("DELETE", collection, options, query=picked, limit=patience)

    async def _is_empty(self, path: str, selector: str) -> bool:
        return not (await self.get(path, limit="1", labelSelector=selector))["items"]


@asynccontextmanager
async def connected() -> AsyncIterator[Cluster]:
    """The fleet's API server, for the length of a block."""
    client = await KubeClient.connect(paths.KUBECONFIG)
    try:
        yield Cluster(client)
    finally:
        await client.close()
