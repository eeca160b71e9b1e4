"""A lean watch of one kind: list, then follow, and list again when the server has forgotten where we were.

It decodes into slim structs and hands them to a sink; it keeps no objects and decides nothing. Pods and Nodes come
this way, because kopf's cost per event is too high for pods.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from typing import Final, Generic, Protocol, TypeVar

from msgspec import DecodeError, Raw, Struct, json
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_random_exponential

from edgewise.kube.client import KubeClient, Refused, Unreachable

PAGE: Final = "500"
RESYNC: Final = timedelta(minutes=1)
OVERTIME: Final = timedelta(seconds=5)
"""How much later than asked the server may end a watch."""

SILENCE: Final = timedelta(seconds=90)
"""The server sends a bookmark about every minute: a stream that is silent for longer is dead."""

logger = logging.getLogger(__name__)

Object = TypeVar("Object")


class Sink(Protocol[Object]):
    """Where the objects go."""

    def replaced(self, objects: list[Object], version: int) -> None:
        """These are all there are, as of `version`."""

    def changed(self, item: Object) -> None:
        """This one is new or different."""

    def deleted(self, item: Object) -> None:
        """This one is gone."""


class _ListMeta(Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = ""


class _List(Struct):
    metadata: _ListMeta
    items: list[Raw] | None = None


class _Event(Struct):
    type: str
    object: Raw


class _Failure(Struct):
    code: int = 0
    message: str = ""


class Forgotten(Exception):
    """The server no longer knows the version that we have seen last."""


@dataclass(slots=True)
class Reflector(Generic[Object]):
    """Keeps a sink up to date with one collection, for as long as `run` runs."""

    client: KubeClient
    path: str
    decode: Callable[[bytes | Raw], Object]
    sink: Sink[Object]
    query: Mapping[str, str] = field(default_factory=dict)
    silence: timedelta = SILENCE
    resync: timedelta = RESYNC
    """how long one watch lasts before all is listed anew, so that what a watch has missed is not missed for longer"""
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    """set once the sink has had one whole list"""
    heard_at: float = field(default_factory=time.monotonic)
    """when the server was last heard, on the monotonic clock"""

    async def run(self) -> None:
        """List and follow, without end. Faults of the server are waited out."""
        while True:
            try:
                await AsyncRetrying(
                    retry=retry_if_exception_type((Unreachable, Refused, DecodeError, UnicodeDecodeError)),
                    wait=wait_random_exponential(multiplier=0.2, max=5),
                    before_sleep=before_sleep_log(logger, logging.WARNING),
                )(self._list_and_follow)
            except Forgotten:
                logger.info("watch %s: the server has forgotten our version; listing anew", self.path)

    async def _list(self) -> str:
        objects: list[Object] = []
        query = {**self.query, "limit": PAGE}
        while True:
            page = json.decode(await self.client.ask("GET", self.path, query=query), type=_List)
            objects += [self.decode(item) for item in page.items or ()]
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        self.sink.replaced(objects, int(page.metadata.resource_version))
        self.complete.set()
        self.heard_at = time.monotonic()
        return page.metadata.resource_version

    async def _list_and_follow(self) -> None:
        """One list and one watch from there; returns when the server ends the watch in good order."""
        version = await self._list()
        query = {
            **self.query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(ceil(self.resync.total_seconds())),
        }
        try:
            async with asyncio.timeout((self.resync + OVERTIME).total_seconds()):
                async for line in self.client.lines(self.path, query, silence=self.silence):
                    self.take(line)
        except TimeoutError as error:
            raise Unreachable(f"watch {self.path}: the server has not ended it in time, so it is dead") from error

    def take(self, line: bytes) -> None:
        """Handle one line of the watch. Raises `Forgotten`, or `Refused` for any other fault that the server tells."""
        event = json.decode(line, type=_Event)
        self.heard_at = time.monotonic()
        match event.type:
            case "ADDED" | "MODIFIED":
                self.sink.changed(self.decode(event.object))
            case "DELETED":
                self.sink.deleted(self.decode(event.object))
            case "ERROR":
                failure = json.decode(event.object, type=_Failure)
                if failure.code == HTTPStatus.GONE:
                    raise Forgotten(failure.message)
                raise Refused(f"watch {self.path}", failure.code, "", failure.message)
