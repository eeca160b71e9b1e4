"""`edgewise-operator drain`: end every job pod before the chart is uninstalled.

Without the agents' CSI plugin, pods with output volumes could not be torn down. The operator is scaled down first, so
that it does not start the jobs anew.
"""

import asyncio
import logging
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from msgspec import json

from edgewise.control.settings import Settings
from edgewise.domain.pods import JOB_LABEL
from edgewise.kube.client import MERGE_PATCH, KubeClient, Refused

PATIENCE: Final = timedelta(minutes=2)
LOOK_EVERY_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


async def drain(client: KubeClient, settings: Settings, deployment: str) -> None:
    """Stop the operator, delete every job pod and wait until they are gone.

    Raises TimeoutError when some are left after `PATIENCE` (their device is off: they go when it is back or removed);
    the operator then runs again as before.
    """
    scale = f"/apis/apps/v1/namespaces/{settings.namespace}/deployments/{deployment}/scale"
    replicas = await _scale(client, scale, 0)
    try:
        await _operators_gone(client, settings)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while left := await _pods(client):
                logger.info("%d job pods are left", len(left))
                for namespace, name in left:
                    await _delete(client, namespace, name)
                await asyncio.sleep(LOOK_EVERY_SECONDS)
    except TimeoutError:
        await _scale(client, scale, replicas)
        raise
    logger.info("no job pod is left")


async def _scale(client: KubeClient, path: str, replicas: int) -> int:
    """Ask for so many operators; how many there should have been before."""
    try:
        before: int = json.decode(await client.ask("GET", path))["spec"].get("replicas", 0)
        await client.ask("PATCH", path, {"spec": {"replicas": replicas}}, content_type=MERGE_PATCH)
    except Refused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return 0
    return before


async def _operators_gone(client: KubeClient, settings: Settings) -> None:
    query = {"labelSelector": "app.kubernetes.io/name=edgewise,app.kubernetes.io/component=operator"}
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while True:
            answer = await client.ask("GET", f"/api/v1/namespaces/{settings.namespace}/pods", query=query)
            if not json.decode(answer)["items"]:
                return
            await asyncio.sleep(LOOK_EVERY_SECONDS)


async def _pods(client: KubeClient) -> list[tuple[str, str]]:
    listed = json.decode(await client.ask("GET", "/api/v1/pods", query={"labelSelector": JOB_LABEL}))
    return [(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in listed["items"]]


async def _delete(client: KubeClient, namespace: str, name: str) -> None:
    try:
        await client.ask("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}")
    except Refused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
