"""Dropping uploads that nobody will finish: their job is gone, and so may be the agent that would learn of it.

Touches only the staging area, and only what the API server says nobody waits for.
"""

import asyncio
import logging
from datetime import timedelta

from edgewise.gateway.cluster import Cluster, ClusterUnreachable
from edgewise.gateway.records import StoreDamaged
from edgewise.gateway.volume import Volume

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 3600.0
IDLE_SECONDS = 3600.0


async def sweep_once(
    volume: Volume, cluster: Cluster, idle_seconds: float, *, given_up: timedelta | None = None
) -> int:
    """Drops the idle uploads whose job is deleted, and what is left of those that are complete; says how many.

    After `given_up` without a byte those of living jobs go too: their device is gone, or has all of it still and begins
    anew. Raises `ClusterUnreachable`: who can't be asked about is kept.
    """
    dropped = 0
    silent = set() if given_up is None else {one[1] for one in await volume.idle_uploads(given_up.total_seconds())}
    for job, pod_uid in await volume.idle_uploads(idle_seconds):
        try:
            if pod_uid in silent:
                logger.info(
                    "dropping what pod %s sent for %s/%s: nothing came for long", pod_uid, job.namespace, job.name
                )
            elif await volume.manifest(job.uid, pod_uid) is None:
                view = await cluster.edge_job(job.namespace, job.name)
                if view is not None and view.metadata.uid == job.uid:
                    continue
                logger.info("dropping what pod %s sent for %s/%s: the job is deleted", pod_uid, job.namespace, job.name)
            await volume.discard(job.uid, pod_uid)
        except (StoreDamaged, OSError) as error:
            logger.error("%s", error)  # noqa: TRY400 - the text says all
            continue
        dropped += 1
    return dropped


async def sweep(volume: Volume, cluster: Cluster, given_up: timedelta | None) -> None:
    """Sweeps now and every hour, until cancelled."""
    while True:
        try:
            await sweep_once(volume, cluster, IDLE_SECONDS, given_up=given_up)
        except ClusterUnreachable as error:
            logger.warning("idle uploads stay for another round: %s", error)
        await asyncio.sleep(SWEEP_SECONDS)
