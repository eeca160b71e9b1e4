"""What a finished job leaves behind: live pods go at once, ended ones after `retention.pods`. Results are the
gateway's."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from edgewise_agent.wire import VolumeState

from edgewise.domain.actions import DeletePod
from edgewise.domain.podlogs import kept_for_logs
from edgewise.domain.views import JobView, NodeView, PodView, Snapshot
from edgewise.notation import parse_duration

SETTLING: Final = timedelta(minutes=2)
"""Within this time a device that is heard of has told of its volumes, and the gateway has asked for its verdicts."""

ON_THE_WAY: Final = (VolumeState.LIVE, VolumeState.SPOOLED, VolumeState.SENDING)


def retain(
    job: JobView, pods: Sequence[PodView], nodes: Mapping[str, NodeView], now: datetime
) -> tuple[list[DeletePod], datetime | None]:
    """The pods to delete now, and when the next ones are due."""
    if not pods:
        return [], None
    keep = parse_duration(job.spec.retention.pods) if job.spec.retention.pods is not None else None
    finished_at = job.status.completion_time or job.created_at
    deletions: list[DeletePod] = []
    wake_ups: list[datetime] = []
    for pod in pods:
        if pod.deleting:
            continue
        if not pod.ended:
            deletions.append(DeletePod(pod.key, pod.uid))
        elif keep is not None and now < finished_at + keep:
            wake_ups.append(finished_at + keep)
        elif keep is not None and (until := kept_for_logs(pod, job, nodes, now)) is not None:
            wake_ups.append(until)
        elif keep is not None:
            deletions.append(DeletePod(pod.key, pod.uid))
    return deletions, min(wake_ups, default=None)


def unsettled_jobs(snapshot: Snapshot) -> Collection[str] | None:
    """The UIDs of jobs, and of the sets they are runs of, of which something may yet come home: results or logs.

    Of a job that is deleted all of these are discarded. None while an operator leads for too short a time to know.
    """
    if snapshot.leading_for < SETTLING:
        return None
    beats = (node.beat for node in snapshot.nodes.values() if node.beat is not None)
    volumes = (volume for beat in beats for volume in beat.volumes.values())
    unsettled = {
        *(manifest.job_uid for manifest in snapshot.manifests.values()),
        *(volume.job_uid for volume in volumes if volume.state in ON_THE_WAY),
        *(uid for uid, pods in snapshot.pods.items() if not all(pod.ended for pod in pods)),
    }
    return unsettled | {job.set_uid for job in snapshot.jobs.values() if job.set_uid and job.uid in unsettled}
