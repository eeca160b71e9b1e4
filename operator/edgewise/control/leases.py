"""Reads the kubelets' Leases of devices that have fallen silent: the second witness of a device's death.

Owns how old a Lease is. A device's clock may be wrong, so a renewal's time counts by the offset that the device's beats
have told; without one, only the time for which the Lease was seen unchanged counts. A kubelet makes its Lease some ten
seconds after its node, so a device lost before then has none: that it is missing ages as an unchanged one does. Each
age is that of the last reading: while the API server is away nobody can renew a Lease, and that is no device's death.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from msgspec import Struct, json

from edgewise.domain.views import LeaseView
from edgewise.kube.client import KubeClient, Refused, Unreachable

LOOK_EVERY_SECONDS: Final = 1.0
CALL_LIMIT: Final = timedelta(seconds=5)
RENEWALS_A_LEASE: Final = 4
"""kubelet renews its Lease after a quarter of its duration."""
USUAL_DURATION: Final = timedelta(seconds=40)
"""kubelet's own default of nodeLeaseDurationSeconds."""

logger = logging.getLogger(__name__)


class _Spec(Struct, rename="camel"):
    renew_time: datetime | None = None
    lease_duration_seconds: int = int(USUAL_DURATION.total_seconds())


class _Lease(Struct):
    spec: _Spec


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease as it was last read: at `read_at`, when this renewal had been seen for `unchanged_for`."""

    renewed_at: datetime | None
    """on the device's clock; None: there is no Lease, or none that was ever renewed"""
    renewal: timedelta
    since: float
    """when this renewal was first seen, on the monotonic clock"""
    read_at: datetime
    unchanged_for: timedelta
    most: timedelta
    """how old it can be by the device's own fault: an outage of the API server is not"""


@dataclass(slots=True)
class LeaseTable:
    """The Leases that were read, by device."""

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    _seen: dict[str, Seen] = field(default_factory=dict)
    _away: bool = False
    _back_at: float | None = None
    """when Leases could be read again after they could not, on the monotonic clock"""

    def failed(self) -> None:
        """A Lease could not be read, so nobody may have been able to renew one either."""
        self._away = True

    def take(self, node: str, renewed_at: datetime | None, duration: timedelta) -> None:
        """Keep what was read; `renewed_at` is None of a device that has no Lease."""
        before = self._seen.get(node)
        unchanged = before is not None and before.renewed_at == renewed_at
        now = self.clock()
        since = before.since if before is not None and unchanged else now
        if self._away:
            self._away, self._back_at = False, now
        most = timedelta.max if self._back_at is None else timedelta(seconds=now - self._back_at)
        unchanged_for = timedelta(seconds=now - since)
        self._seen[node] = Seen(renewed_at, duration / RENEWALS_A_LEASE, since, self.wall(), unchanged_for, most)

    def forget_all_but(self, nodes: set[str]) -> None:
        """Drop what was read of devices that report again."""
        self._seen = {node: seen for node, seen in self._seen.items() if node in nodes}

    def view(self, node: str, clock_offset: timedelta | None) -> LeaseView | None:
        """The Lease with its age when it was last read, or None when it was not read."""
        seen = self._seen.get(node)
        if seen is None:
            return None
        age = seen.unchanged_for
        if seen.renewed_at is not None and clock_offset is not None:
            age = max(age, seen.read_at - (seen.renewed_at + clock_offset))
        return LeaseView(min(seen.most, age), seen.renewal)


@dataclass(slots=True)
class LeaseReader:
    """Keeps the table up to date for the devices that `silent` names."""

    client: KubeClient
    table: LeaseTable
    silent: Callable[[], set[str]]
    changed: Callable[[], None]

    async def run(self) -> None:
        """Look without end."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            nodes = self.silent()
            self.table.forget_all_but(nodes)
            if nodes:
                async with asyncio.TaskGroup() as group:
                    for node in nodes:
                        group.create_task(self._read(node))
                self.changed()

    async def _read(self, node: str) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}"
        try:
            spec = json.decode(await self.client.ask("GET", path, limit=CALL_LIMIT), type=_Lease).spec
        except Unreachable as error:
            self.table.failed()
            logger.warning("%s", error)
        except Refused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                self.table.take(node, None, USUAL_DURATION)
            else:
                self.table.failed()
                logger.warning("%s", error)
        else:
            self.table.take(node, spec.renew_time, timedelta(seconds=spec.lease_duration_seconds))
