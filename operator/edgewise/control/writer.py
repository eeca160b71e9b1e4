"""The only module that changes what the API holds: carries out actions, many at a time, and tells the world of it.

A write that lost a race is no error: the newer state arrives by watch, and the next plan starts from it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final

from msgspec import json
from prometheus_client import Counter

from edgewise.api import API_VERSION, merge_patch
from edgewise.control.objects import decode_pod
from edgewise.control.teller import Teller
from edgewise.control.world import World
from edgewise.domain.actions import (
    Action,
    CreateNode,
    CreatePod,
    CreateRun,
    DeletePod,
    DeleteRun,
    PatchSpec,
    PatchStatus,
)
from edgewise.domain.views import Key
from edgewise.kube.client import MERGE_PATCH, KubeClient, Refused, Unreachable

CONCURRENT_WRITES: Final = 32
GROUP_PATH: Final = f"/apis/{API_VERSION}"

NAMESPACE_ENDS: Final = "because it is being terminated"
"""How the API server refuses a new object in a namespace that is being deleted; its jobs go too."""

WRITES = Counter("edgewise_api_writes_total", "Writes to the Kubernetes API", ["action", "outcome"])

logger = logging.getLogger(__name__)


class Writer:
    """Carries out plans."""

    def __init__(
        self, client: KubeClient, world: World, teller: Teller, leads: Callable[[], bool] = lambda: True
    ) -> None:
        """`teller` gets the events of what was written; nothing is written but while this operator `leads`."""
        self._client = client
        self._world = world
        self._teller = teller
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
        if isinstance(action, CreatePod) and not error.passes:
            logger.warning("%s", error)
            self._world.refused(action.job_uid, error.message)
            return True
        if isinstance(action, CreateRun) and not error.passes:
            logger.warning("%s", error)
            self._world.refused(action.owner_uid, error.message)
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
            case CreateRun():
                await self._create_run(action)
            case DeleteRun():
                await self._delete_run(action)
            case PatchSpec():
                await self._patch_spec(action)
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
            if not _controlled(json.decode(answer), action.job_uid):
                raise
        self._world.taken(action.job_uid)
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

    async def _create_run(self, action: CreateRun) -> None:
        """Create a run. One of that name is ours only if its controller is this very cron job or stream."""
        path = f"{GROUP_PATH}/namespaces/{action.owner.namespace}/edgejobs"
        try:
            answer = await self._client.ask("POST", path, action.manifest)
        except Refused as error:
            if error.reason != "AlreadyExists":
                raise
            answer = await self._client.ask("GET", f"{path}/{action.manifest['metadata']['name']}")
            if not _controlled(json.decode(answer), action.owner_uid):
                raise
        self._world.taken(action.owner_uid)
        self._world.saw("edgejobs", json.decode(answer))

    async def _delete_run(self, action: DeleteRun) -> None:
        """Delete a run. One that is not there, or whose name another has by now, is known as gone at once."""
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": action.uid},
            "propagationPolicy": "Background",
        }
        path = f"{GROUP_PATH}/namespaces/{action.job.namespace}/edgejobs/{action.job.name}"
        try:
            answer = json.decode(await self._client.ask("DELETE", path, body))
        except Refused as error:
            if error.reason in (
                "NotFound",
                "Conflict",
            ):  # not so where a starting API server does not know the kind yet
                self._world.job_gone(action.job, action.uid)
            raise
        if answer.get("kind") == "EdgeJob":  # somebody's finalizer keeps it for a while
            self._world.saw("edgejobs", answer)
        else:
            self._world.job_gone(action.job, action.uid)

    async def _patch_spec(self, action: PatchSpec) -> None:
        patch = {"metadata": {"resourceVersion": action.resource_version}, "spec": dict(action.spec)}
        path = f"{GROUP_PATH}/namespaces/{action.job.namespace}/edgejobs/{action.job.name}"
        answer = await self._client.ask("PATCH", path, patch, content_type=MERGE_PATCH)
        self._world.saw("edgejobs", json.decode(answer))

    async def _patch_status(self, action: PatchStatus) -> None:
        patch = {
            "metadata": {"resourceVersion": action.resource_version},
            "status": merge_patch(action.old, action.new),
        }
        answer = await self._client.ask("PATCH", _path(action.plural, action.key), patch, content_type=MERGE_PATCH)
        self._world.saw(action.plural, json.decode(answer))
        self._teller.tell(action.events)

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


def _controlled(raw: dict[str, Any], uid: str) -> bool:
    """Whether the object's controller is the one of that UID."""
    owners = raw["metadata"].get("ownerReferences", [])
    return any(owner["uid"] == uid and owner.get("controller") for owner in owners)


def _path(plural: str, key: Key) -> str:
    where = f"/namespaces/{key.namespace}" if key.namespace else ""
    return f"{GROUP_PATH}{where}/{plural}/{key.name}/status"
