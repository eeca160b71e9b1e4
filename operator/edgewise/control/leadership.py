"""One operator acts, the others wait: a Lease decides, and a label on the leader's pod leads the beats to it.

Owns the Lease's timing and the label. The election itself is the Kubernetes client library's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from msgspec import json
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception, wait_random_exponential

from edgewise.api import GROUP
from edgewise.control.lease import Lease
from edgewise.control.settings import Settings
from edgewise.kube.client import MERGE_PATCH, KubeClient, Refused, Unreachable

LEASE_SECONDS: Final = 10
RENEW_WITHIN_SECONDS: Final = 7
RETRY_SECONDS: Final = 2

LEADER_LABEL: Final = f"{GROUP}/leader"

logger = logging.getLogger(__name__)


class LeadershipLost(Exception):
    """Another operator may act now, so this process may not go on."""


def lease_of(client: KubeClient, settings: Settings) -> Lease:
    """The Lease that the operators vote with."""
    return Lease(client, settings.lease_name, settings.namespace, settings.pod_name)


async def lead_when_elected(
    client: KubeClient, settings: Settings, lead: Callable[[], Awaitable[None]], lease: Lease | None = None
) -> None:
    """Wait to be elected, label this pod, then run `lead` for as long as the Lease is held.

    `lease` is the one of `lease_of`, where `lead` looks at it too. Returns when `lead` does. Raises `LeadershipLost`
    when the Lease could not be renewed, and whatever `lead` raises.
    """
    await label(client, settings, settings.pod_name, leads=False)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def started() -> None:
        try:
            await _take_label(client, settings)
            await lead()
        except Exception as error:  # handed to the waiting caller, who raises it
            done.set_exception(error)
        else:
            done.set_result(None)

    async def stopped() -> None:
        if not done.done():
            done.set_exception(LeadershipLost("the Lease could not be renewed in time"))

    lock = lease or lease_of(client, settings)
    election = LeaderElection(Config(lock, LEASE_SECONDS, RENEW_WITHIN_SECONDS, RETRY_SECONDS, started, stopped))
    running = asyncio.create_task(election.run(), name="leader election")
    try:
        await asyncio.wait({running, done}, return_when=asyncio.FIRST_COMPLETED)
        if running.done() and not done.done():
            running.result()
            raise LeadershipLost("the election ended")
        await done
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await lock.release()


async def label(client: KubeClient, settings: Settings, pod: str, *, leads: bool) -> None:
    """Set or remove the leader's label on one of the operator's pods. Waits a fault of the API server out.

    Raises `Refused` when the pod is not there or may not be written.
    """
    patch = {"metadata": {"labels": {LEADER_LABEL: "true" if leads else None}}}
    path = f"/api/v1/namespaces/{settings.namespace}/pods/{pod}"
    await _waiting_out()(client.ask, "PATCH", path, patch, content_type=MERGE_PATCH)


async def _take_label(client: KubeClient, settings: Settings) -> None:
    """Label this pod, and take the label from a former leader that may hang somewhere."""
    await label(client, settings, settings.pod_name, leads=True)
    path, query = f"/api/v1/namespaces/{settings.namespace}/pods", {"labelSelector": f"{LEADER_LABEL}=true"}
    listed = json.decode(await _waiting_out()(client.ask, "GET", path, query=query))
    for pod in listed["items"]:
        name = pod["metadata"]["name"]
        if name != settings.pod_name:
            try:
                await label(client, settings, name, leads=False)
            except Refused as error:
                logger.info("the former leader is gone: %s", error)
    logger.info("this operator leads")


def _waiting_out() -> AsyncRetrying:
    """Asks again for as long as the API server is away, busy or broken: to end instead would only delay the return."""
    return AsyncRetrying(
        retry=retry_if_exception(_passes),
        wait=wait_random_exponential(multiplier=0.2, max=2),
        before_sleep=before_sleep_log(logger, logging.WARNING),
    )


def _passes(error: BaseException) -> bool:
    """Whether a fault is one that passes."""
    return isinstance(error, Unreachable) or (isinstance(error, Refused) and error.passes)
