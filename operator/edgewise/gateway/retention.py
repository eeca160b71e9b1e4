"""Removing content whose time is over: results as their EdgeJob says, other attempts' files after a while.

`overdue` decides, from what the store knows alone; the rest carries it out. Nothing is removed while the API server
can't be asked, so that a longer time that was just given counts.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from edgewise.gateway.cluster import Cluster, ClusterUnreachable
from edgewise.gateway.records import Expirable, StoreDamaged
from edgewise.gateway.volume import Volume

logger = logging.getLogger(__name__)

ROUND_SECONDS = 3600.0


def overdue(
    attempts: Iterable[Expirable], results_seconds: float | None, aside: timedelta | None, now: datetime
) -> list[tuple[str, str]]:
    """The pod UIDs of the attempts whose content must go now, each with why. None keeps for ever."""
    due = []
    for attempt in attempts:
        if results_seconds is not None and now >= attempt.completed_at + timedelta(seconds=results_seconds):
            due.append((attempt.pod_uid, "The job's spec.retention.results is over."))
        elif attempt.aside_at is not None and aside is not None and now >= attempt.aside_at + aside:
            due.append((attempt.pod_uid, f"Files of attempts that are not the job's results are kept for {aside}."))
    return due


async def remove_overdue(volume: Volume, cluster: Cluster, aside: timedelta | None, now: datetime) -> int:
    """One round over all jobs; how much it removed: attempts' content, and files that came home before their attempt.

    Raises `ClusterUnreachable`.
    """
    retention = await cluster.results_retention()
    removed = 0
    for job_uid in await volume.job_uids():
        try:
            if job_uid in retention:
                await volume.keep_for(job_uid, retention[job_uid])
            seconds = await volume.kept_for(job_uid)
            if seconds is not None:
                removed += await volume.expire_early(job_uid, now - timedelta(seconds=seconds))
            due = overdue(await volume.expirable(job_uid), seconds, aside, now)
            for pod_uid, why in due:
                logger.info("job %s, pod %s: removing its content: %s", job_uid, pod_uid, why)
                await volume.expire(job_uid, pod_uid, now, why)
                removed += 1
            await volume.tidy(job_uid)
            if job_uid not in retention:
                await volume.forget(job_uid)
        except (StoreDamaged, OSError) as error:  # VolumeFull is an OSError
            logger.error("job %s: its content stays for another round: %s", job_uid, error)  # noqa: TRY400 - it says all
    return removed


async def keep_to_retention(volume: Volume, cluster: Cluster, aside: timedelta | None) -> None:
    """A round now and every hour, until cancelled."""
    while True:
        try:
            await remove_overdue(volume, cluster, aside, datetime.now(UTC))
        except (ClusterUnreachable, OSError) as error:
            logger.warning("nothing is removed in this round: %s", error)
        await asyncio.sleep(ROUND_SECONDS)
