"""The only module that writes to the API: carries out actions, many at a time, and tells the world what came of them.

A write that lost a race is no error: the newer state arrives by watch, and the next plan starts from it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from msgspec import json
from prometheus_client import Counter

from edgewise.api import API_VERSION, merge_patch
from edgewise.control.objects import decode_pod
from edgewise.control.world import World
from edgewise.domain.actions import Action, CreateNode, CreatePod, DeletePod, Event, PatchStatus
from edgewise.domain.views import Key
from edgewise.kube.client import MERGE_PATCH, KubeClient, Refused, Unreachable

CONCURRENT_WRITES: Final = 32
GROUP_PATH: Final = f"/apis/{API_VERSION}"

LONGEST_NOTE: Final = 1024
"""bytes"""

NAMESPACE_ENDS: Final = "because it is being terminated"
"""How the API server refuses a new object in a namespace that is being deleted; its jobs go too."""

WRITES = Counter("edgewise_api_writes_total", "Writes to the Kubernetes API", ["action", "outcome"])

logger = logging.getLogger(__name__)


class Writer:
    """Carries out plans."""

    def __init__(
        self, client: KubeClient, world: World, reporter: str, leads: Callable[[], bool] = lambda: True
    ) -> None:
        """`reporter` is the name of this instance in the Events that it writes; it writes only while it `leads`."""
        self._client = client
        self._world = world
        self._reporter = reporter
        self._leads = leads
        self._turns = asyncio.Semaphore(CONCURRENT_WRITES)

    async def apply(self, actions: Iterable[Action]) -> int:
        """Carry out all actions, in any order. Returns how many failed and should be tried again."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(action)) for action in actions]
        return sum(not task.result() for task in tasks)

    async def _one(self, action: Action) -> bool:
        name = type(action).__name__
        async with self._turns:
            if not self._leads():
                WRITES.labels(name, "not leading").inc()
                logger.warning("%s: another operator may lead by now, so nothing is written", name)
                return False
            try:
                await self._carry_out(action)
            except Unreachable as error:
                WRITES.labels(name, "unreachable").inc()
                logger.warning("%s: %s; it is tried again", name, error)
                return False
            except Refused as error:
                WRITES.labels(name, error.reason or str(error.status)).inc()
                return self._refused(action, error)
        WRITES.labels(name, "done").inc()
        return True

    def _refused(self, action: Action, error: Refused) -> bool:
        """Whether the refusal settles the action: the object has moved on, or is gone."""
        if NAMESPACE_ENDS in error.message or error.status == HTTPStatus.NOT_FOUND:
            logger.info("%s", error)
            return True
        busy = error.status == HTTPStatus.TOO_MANY_REQUESTS or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if isinstance(action, CreatePod) and not busy:
            logger.warning("%s", error)
            self._world.pod_refused(action.job_uid, error.message)
            return True
        if error.status == HTTPStatus.CONFLICT:
            logger.info("%s", error)
            return True
        logger.error("%s; it is tried again", error)
        return False

    async def _carry_out(self, action: Action) -> None:
        match action:
            case CreatePod():
                await self._create_pod(action)
            case DeletePod():
                await self._delete_pod(action)
            case PatchStatus():
                await self._patch_status(action)
            case CreateNode():
                await self._create_node(action)

    async def _create_pod(self, action: CreatePod) -> None:
        """Create a pod. One of that name is ours only if its controller is this very job."""
        path = f"/api/v1/namespaces/{action.job.namespace}/pods"
        try:
            answer = await self._client.ask("POST", path, action.manifest)
        except Refused as error:
            if error.reason != "AlreadyExists":
                raise
            answer = await self._client.ask("GET", f"{path}/{action.manifest['metadata']['name']}")
            owners = json.decode(answer)["metadata"].get("ownerReferences", [])
            if not any(owner["uid"] == action.job_uid and owner.get("controller") for owner in owners):
                raise
        self._world.pod_taken(action.job_uid)
        self._world.saw_pod(decode_pod(answer))

    async def _delete_pod(self, action: DeletePod) -> None:
        preconditions = {"uid": action.uid}
        if action.resource_version is not None:
            preconditions["resourceVersion"] = action.resource_version
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
        path = f"/api/v1/namespaces/{action.pod.namespace}/pods/{action.pod.name}"
        answer = await self._client.ask("DELETE", path, body)
        if json.decode(answer).get("kind") == "Pod":
            self._world.saw_pod(decode_pod(answer))

    async def _patch_status(self, action: PatchStatus) -> None:
        patch = {
            "metadata": {"resourceVersion": action.resource_version},
            "status": merge_patch(action.old, action.new),
        }
        answer = await self._client.ask("PATCH", _path(action.plural, action.key), patch, content_type=MERGE_PATCH)
        self._world.saw(action.plural, json.decode(answer))
        for event in action.events:
            try:
                await self._event(event)
            except (Refused, Unreachable) as error:
                logger.info("an event was not told: %s", error)

    async def _create_node(self, action: CreateNode) -> None:
        owner = {"apiVersion": "v1", "kind": "Node", "name": action.name, "uid": action.node_uid}
        metadata = {"name": action.name, "ownerReferences": [owner]}
        body = {"apiVersion": API_VERSION, "kind": "EdgeNode", "metadata": metadata, "spec": {}}
        try:
            answer = await self._client.ask("POST", f"{GROUP_PATH}/edgenodes", body)
        except Refused as error:
            if error.reason != "AlreadyExists":
                raise
            answer = await self._client.ask("GET", f"{GROUP_PATH}/edgenodes/{action.name}")
        self._world.saw("edgenodes", json.decode(answer))

    async def _event(self, action: Event) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        namespace = action.key.namespace or "default"
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{action.key.name}.{uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": now,
            "reportingController": "edgewise.dev/operator",
            "reportingInstance": self._reporter,
            "action": action.reason,
            "reason": action.reason,
            "type": "Warning" if action.warning else "Normal",
            "note": _cut(action.message),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": action.regarding_kind,
                "name": action.key.name,
                "namespace": action.key.namespace,
                "uid": action.uid,
            },
        }
        await self._client.ask("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)


def _cut(note: str) -> str:
    """The note in as many bytes as an Event takes."""
    encoded = note.encode()
    return note if len(encoded) <= LONGEST_NOTE else encoded[: LONGEST_NOTE - 3].decode(errors="ignore") + "…"


def _path(plural: str, key: Key) -> str:
    where = f"/namespaces/{key.namespace}" if key.namespace else ""
    return f"{GROUP_PATH}{where}/{plural}/{key.name}/status"
