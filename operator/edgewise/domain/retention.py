"""What a finished job leaves behind: live pods go at once, ended ones after `retention.pods`. Results are the
gateway's."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from edgewise.domain.actions import DeletePod
from edgewise.domain.podlogs import kept_for_logs
from edgewise.domain.views import JobView, NodeView, PodView
from edgewise.notation import parse_duration


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
