"""A second look at what the watches of our own kinds say: a metadata-only list of each, once in a while.

Owns the comparison of the caches with such a list. It drops objects that were deleted while a watch was away (kopf
keeps those), reads what a watch has missed, and tells when a watch has silently stopped: then it says nothing any more
although objects have changed.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from msgspec import Struct, json

from edgewise.api import API_VERSION, GROUP, KINDS
from edgewise.control.world import World
from edgewise.kube.client import KubeClient, Refused, Unreachable

EVERY: Final = timedelta(seconds=60)
AT_START_SECONDS: Final = 0.25
DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

logger = logging.getLogger(__name__)


class _Meta(Struct, rename="camel"):
    name: str
    uid: str
    resource_version: str
    namespace: str = ""


class _Item(Struct):
    metadata: _Meta


class _ListMeta(Struct, rename="camel"):
    resource_version: str


class _List(Struct):
    metadata: _ListMeta
    items: list[_Item] | None = None


@dataclass(slots=True)
class Audit:
    """Holds the caches of our own kinds against the API server, every `every`."""

    client: KubeClient
    world: World
    every: timedelta = EVERY
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    """set once every cache has held everything that a list held"""
    looked_at: float = field(default_factory=time.monotonic)
    """when the last comparison was made, on the monotonic clock"""
    missing_since: dict[str, float] = field(default_factory=dict)
    """since when a kind's watch has been silent although it missed something, on the monotonic clock"""
    _absent: set[str] = field(default_factory=set)
    """the kinds that the cluster does not have, by plural"""
    _behind: dict[str, str] = field(default_factory=dict)
    """the versions that the last look found and the caches did not hold, by UID"""

    async def run(self) -> None:
        """Compare without end: often until the caches are complete, then every `every`."""
        while True:
            try:
                await self.once()
            except (Unreachable, Refused) as error:
                logger.warning("%s; the caches are compared again later", error)
            await asyncio.sleep(self.every.total_seconds() if self.complete.is_set() else AT_START_SECONDS)

    async def once(self) -> None:
        """One comparison of all kinds."""
        behind: dict[str, str] = {}
        anything_missed = False
        for kind in KINDS:
            late = await self._late(kind.plural)
            missed = [one for one in late if self._behind.get(one.uid) == one.resource_version]
            anything_missed = anything_missed or bool(missed)
            self._judge(kind.plural, missed)
            if self.complete.is_set():
                for one in missed:
                    await self._read(kind.plural, one)
            behind |= {one.uid: one.resource_version for one in late}
        if not behind or (self._behind and not anything_missed):  # what is late now is new, and on its way
            self.complete.set()
        self._behind = behind
        self.looked_at = time.monotonic()

    async def _late(self, plural: str) -> list[_Meta]:
        """The objects of which the cache holds no version as new as the list's: on their way, or missed.

        There are none of a kind that the cluster does not have, as when the operator was upgraded before the CRDs.
        """
        path = f"/apis/{API_VERSION}/{plural}"
        try:
            answer = await self.client.ask("GET", path, accept=METADATA_ONLY)
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND or await self._is_defined(plural):
                raise
            self._warn_of(plural)
            return []
        self._absent.discard(plural)
        listed = json.decode(answer, type=_List)
        items = [item.metadata for item in listed.items or ()]
        known = self.world.compare(plural, {one.uid for one in items}, int(listed.metadata.resource_version))
        return [one for one in items if int(known.get(one.uid, "0")) < int(one.resource_version)]

    async def _is_defined(self, plural: str) -> bool:
        """Whether the cluster has the kind: one that it has is not found either, while an API server starts."""
        try:
            await self.client.ask("GET", f"{DEFINITIONS}/{plural}.{GROUP}")
        except Refused as error:
            if error.reason != "NotFound":
                raise
            return False
        return True

    def _warn_of(self, plural: str) -> None:
        """Say once that a kind is absent. Its watch begins by itself when kopf sees the new definition."""
        if plural not in self._absent:
            logger.warning(
                "the cluster has no %s.%s, so nothing is decided about any until somebody runs "
                "`kubectl apply --server-side -f charts/edgewise/crds`",
                plural,
                GROUP,
            )
            self._absent.add(plural)

    def _judge(self, plural: str, missed: list[_Meta]) -> None:
        """A watch that has missed something, and has said nothing since, may have stopped."""
        since = self.missing_since.get(plural)
        if since is not None and self.world.watched_at.get(plural, 0.0) > since:
            del self.missing_since[plural]
        if missed:
            logger.warning("the watch of %s has missed %d changes", plural, len(missed))
            self.missing_since.setdefault(plural, time.monotonic())

    async def _read(self, plural: str, missed: _Meta) -> None:
        """Have the world see what the watch did not tell."""
        where = f"/namespaces/{missed.namespace}" if missed.namespace else ""
        try:
            answer = await self.client.ask("GET", f"/apis/{API_VERSION}{where}/{plural}/{missed.name}")
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return  # the next list tells
        self.world.saw(plural, json.decode(answer))

    def fault(self, patience: timedelta) -> str | None:
        """What is wrong, if it has been for longer than `patience`."""
        now = time.monotonic()
        stopped = [
            f"the watch of {plural} has stopped: it has been behind the API server for {now - since:.0f} s"
            for plural, since in self.missing_since.items()
            if now - since > patience.total_seconds()
        ]
        if stopped:
            return "; ".join(stopped)
        if self.complete.is_set() and now - self.looked_at > (self.every + patience).total_seconds():
            return f"the caches have not been compared for {now - self.looked_at:.0f} s"
        return None
