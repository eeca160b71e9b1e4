"""Tells people: posts Kubernetes Events, a few at a time, after the writes that they tell of.

Events are for reading, so they never hold up a decision: they wait here in a bounded queue, and the oldest are dropped
when an API server that is away fills it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from prometheus_client import Counter

from edgewise.api import API_VERSION
from edgewise.domain.actions import Event
from edgewise.kube.client import KubeClient, Refused, Unreachable

MOST_WAITING: Final = 10_000
AT_ONCE: Final = 2

LONGEST_NOTE: Final = 1024
"""bytes"""

UNTOLD = Counter("edgewise_events_dropped_total", "Events that were never posted")

logger = logging.getLogger(__name__)


class Teller:
    """Posts what `tell` is given, for as long as `run` runs."""

    def __init__(self, client: KubeClient, reporter: str) -> None:
        """`reporter` is the name of this instance in the Events."""
        self._client = client
        self._reporter = reporter
        self._waiting: deque[tuple[Event, datetime]] = deque()
        self._any = asyncio.Event()

    def tell(self, events: Iterable[Event]) -> None:
        """Have these told soon."""
        for event in events:
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                UNTOLD.inc()
            self._waiting.append((event, datetime.now(UTC)))
            self._any.set()

    async def run(self) -> None:
        """Tell without end."""
        while True:
            await self._any.wait()
            await self.tell_all()

    async def tell_all(self) -> None:
        """Tell what waits now."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            event, at = self._waiting.popleft()
            if not self._waiting:
                self._any.clear()
            try:
                await self._post(event, at)
            except (Refused, Unreachable) as error:
                UNTOLD.inc()
                logger.info("an event was not told: %s", error)

    async def _post(self, event: Event, at: datetime) -> None:
        namespace = event.key.namespace or "default"
        body: dict[str, Any] = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{event.key.name}.{uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": "edgewise.dev/operator",
            "reportingInstance": self._reporter,
            "action": event.reason,
            "reason": event.reason,
            "type": "Warning" if event.warning else "Normal",
            "note": _cut(event.message),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": event.regarding_kind,
                "name": event.key.name,
                "namespace": event.key.namespace,
                "uid": event.uid,
            },
        }
        await self._client.ask("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)


def _cut(note: str) -> str:
    """The note in as many bytes as an Event takes."""
    encoded = note.encode()
    return note if len(encoded) <= LONGEST_NOTE else encoded[: LONGEST_NOTE - 3].decode(errors="ignore") + "…"
