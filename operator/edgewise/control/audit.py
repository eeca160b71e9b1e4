"""A second look at what the watches say: a metadata-only list of each of our kinds, once a minute.

Owns the comparison of the caches with such a list. It finds objects that were deleted while a watch was away (kopf
keeps those), and tells when a watch has silently stopped: then objects stay behind the list.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from msgspec import Struct, json

from edgewise.api import API_VERSION, KINDS
from edgewise.control.world import World
from edgewise.kube.client import KubeClient, Refused, Unreachable

EVERY_SECONDS: Final = 60.0
AT_START_SECONDS: Final = 0.25
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

logger = logging.getLogger(__name__)


class _Meta(Struct, rename="camel"):
    uid: str
    resource_version: str


class _Item(Struct):
    metadata: _Meta


class _ListMeta(Struct, rename="camel"):
    resource_version: str


class _List(Struct):
    metadata: _ListMeta
    items: list[_Item] | None = None


@dataclass(slots=True)
class Audit:
    """Holds the caches of our own kinds against the API server."""

    client: KubeClient
    world: World
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    """set once every cache has held everything that a list held"""
    looked_at: float = field(default_factory=time.monotonic)
    """when the last comparison was made, on the monotonic clock"""
    behind_since: float | None = None
    """since when objects have stayed behind the list; None: they don't"""
    _behind: dict[str, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Compare without end: often until the caches are complete, then once a minute."""
        while True:
            try:
                await self.once()
            except (Unreachable, Refused) as error:
                logger.warning("%s; the caches are compared again later", error)
            await asyncio.sleep(EVERY_SECONDS if self.complete.is_set() else AT_START_SECONDS)

    async def once(self) -> None:
        """One comparison of all kinds."""
        behind: dict[str, str] = {}
        for kind in KINDS:
            path = f"/apis/{API_VERSION}/{kind.plural}"
            listed = json.decode(await self.client.ask("GET", path, accept=METADATA_ONLY), type=_List)
            versions = {item.metadata.uid: item.metadata.resource_version for item in listed.items or ()}
            known = self.world.compare(kind.plural, set(versions), int(listed.metadata.resource_version))
            behind |= {uid: version for uid, version in versions.items() if int(known.get(uid, "0")) < int(version)}
        still = any(self._behind.get(uid) == version for uid, version in behind.items())
        if not behind:
            self.complete.set()
        if not still:
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = time.monotonic()
        self._behind = behind
        self.looked_at = time.monotonic()

    def fault(self, patience: timedelta) -> str | None:
        """What is wrong, if it has been for longer than `patience`."""
        now = time.monotonic()
        if self.behind_since is not None and now - self.behind_since > patience.total_seconds():
            return f"a watch has stopped: {len(self._behind)} objects are behind the API server"
        if self.complete.is_set() and now - self.looked_at > EVERY_SECONDS + patience.total_seconds():
            return f"the caches have not been compared for {now - self.looked_at:.0f} s"
        return None
