"""What a finished job leaves behind: live pods go at once, ended ones after `retention.pods`. Results are the
gateway's."""

from collections.abc import Sequence
from datetime import datetime

from edgewise.domain.actions import DeletePod
from edgewise.domain.views import JobView, PodView
from edgewise.notation import parse_duration


def retain(job: JobView, pods: Sequence[PodView], now: datetime) -> tuple[list[DeletePod], datetime | None]:
    """The pods to delete now, and when the next ones are due."""
    if not pods:
        return [], None
    keep = parse_duration(job.spec.retention.pods) if job.spec.retention.pods is not None else None
    finished_at = job.status.completion_time or job.created_at
    deletions: list[DeletePod] = []
    wake_at = None
    for pod in pods:
        if pod.deleting:
            continue
        if not pod.ended or (keep is not None and now >= finished_at + keep):
            deletions.append(DeletePod(pod.key, pod.uid))
        elif keep is not None:
            wake_at = finished_at + keep
    return deletions, wake_at
