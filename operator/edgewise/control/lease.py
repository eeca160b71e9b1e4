"""The Lease that the library's leader election holds its vote on, read and written by our own client.

The library's own lock (kubernetes 37.0.2) can't create a Lease (it passes a flag of the wrong type), and takes a lost
connection for the end of the election. This one answers "not now" to every fault, so the election goes on.
"""

import logging
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock
from msgspec import json

from edgewise.kube.client import KubeClient, Refused, Unreachable

CALL_LIMIT: Final = timedelta(seconds=2)
"""Short, so that a leader that can't renew knows it before its Lease ends: the library looks only between calls."""

logger = logging.getLogger(__name__)


class Lease(BaseLock):  # type: ignore[misc] # the library is untyped
    """A coordination.k8s.io Lease, updated only from the version that was read last."""

    def __init__(self, client: KubeClient, name: str, namespace: str, identity: str) -> None:
        super().__init__(name, namespace, identity)
        self._client = client
        self._version = ""
        self._held_until = 0.0

    @property
    def held(self) -> bool:
        """Whether nobody else can hold it now: our last write of it is younger than the time that it is good for.

        An operator that was stopped, or cut off, for longer knows from this alone that it may not act any more.
        """
        return _now() < self._held_until

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        """True and the record; or False and an error, whose body says whether the Lease is simply not there."""
        try:
            lease = json.decode(await self._client.ask("GET", self._path(namespace, name), limit=CALL_LIMIT))
        except Refused as error:
            answer = ApiException(status=error.status, reason=str(error))
            answer.body = json.encode({"code": error.status}).decode()
            return False, answer
        except Unreachable as error:
            return False, ApiException(status=HTTPStatus.SERVICE_UNAVAILABLE, reason=str(error))
        self._version = lease["metadata"]["resourceVersion"]
        spec = lease.get("spec", {})
        duration = spec.get("leaseDurationSeconds")
        return True, LeaderElectionRecord(
            spec.get("holderIdentity") or None,
            str(duration) if duration else None,
            spec.get("acquireTime"),
            spec.get("renewTime"),
        )

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Whether the Lease could be made."""
        body = self._body(name, election_record)
        return await self._write("POST", self._path(namespace, ""), body)

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Whether the Lease could be updated, from the version that was read last."""
        body = self._body(name, updated_record)
        body["metadata"]["resourceVersion"] = self._version
        return await self._write("PUT", self._path(namespace, name), body)

    async def release(self) -> None:
        """Give the Lease up, so that another operator need not wait for its end. A failure is no matter."""
        held, record = await self.get(self.name, self.namespace)
        if held and record.holder_identity == self.identity:
            record.holder_identity = ""
            await self.update(self.name, self.namespace, record)
        self._held_until = 0.0

    async def _write(self, method: str, path: str, body: dict[str, Any]) -> bool:
        asked_at = _now()
        try:
            lease = json.decode(await self._client.ask(method, path, body, limit=CALL_LIMIT))
        except (Refused, Unreachable) as error:
            logger.warning("the Lease could not be written: %s", error)
            return False
        self._version = lease["metadata"]["resourceVersion"]
        self._held_until = asked_at + lease["spec"]["leaseDurationSeconds"]
        return True

    def _body(self, name: str, record: LeaderElectionRecord) -> dict[str, Any]:
        spec = {
            "holderIdentity": record.holder_identity,
            "leaseDurationSeconds": int(float(record.lease_duration)),
            "acquireTime": _micro_time(record.acquire_time),
            "renewTime": _micro_time(record.renew_time),
        }
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name},
            "spec": spec,
        }

    def _path(self, namespace: str, name: str) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}".rstrip("/")


def _now() -> float:
    """Seconds on a clock that goes on while the machine sleeps, as the Lease's time does for the others."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _micro_time(text: str) -> str:
    """The library's local time, or a time as it was read from a Lease, as RFC 3339 with microseconds in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
