"""Dropping uploads that nobody will finish: their job is gone, and so may be the agent that would learn of it.

Touches only the staging area, and only what the API server says nobody waits for.
"""

import asyncio
import logging

from edgewise.gateway.cluster import Cluster, ClusterUnreachable
from edgewise.gateway.records import StoreDamaged
from edgewise.gateway.volume import Volume

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 3600.0
IDLE_SECONDS = 3600.0


async def sweep_once(volume: Volume, cluster: Cluster, idle_seconds: float) -> int:
    """Drops the idle uploads whose job is deleted, and what is left of those that are complete; says how many.

    Raises `ClusterUnreachable`: who can't be asked about is kept.
    """
    dropped = 0
    for job, pod_uid in await volume.idle_uploads(idle_seconds):
        try:
            if await volume.manifest(job.uid, pod_uid) is None:
                view = await cluster.edge_job(job.namespace, job.name)
                if view is not None and view.metadata.uid == job.uid:
                    continue
                logger.info("dropping what pod %s sent for %s/%s: the job is deleted", pod_uid, job.namespace, job.name)
            await volume.discard(job.uid, pod_uid)
        except StoreDamaged as error:
            logger.error("%s", error)  # noqa: TRY400 - the text says all
            continue
        dropped += 1
    return dropped


async def sweep(volume: Volume, cluster: Cluster) -> None:
    """Sweeps now and every hour, until cancelled."""
    while True:
        try:
            await sweep_once(volume, cluster, IDLE_SECONDS)
        except ClusterUnreachable as error:
            logger.warning("idle uploads stay for another round: %s", error)
        await asyncio.sleep(SWEEP_SECONDS)
