"""Logs of pods without output volume: which of them a device is asked for, and how long their pods are kept for it.

A pod with an output volume needs none of this: its agent takes the logs with the volume. docs/decisions/logs.md says
why it is so.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from edgewise_agent import wire

from edgewise.domain.views import JobView, NodeView, PodView

MOST_NAMED: Final = 100
"""Pods that one answer names; the others follow when these are done."""

LOGS_GRACE: Final = timedelta(seconds=60)
"""How long after its job's end a pod is kept at most for its logs to be copied."""


def logs_wanted(pods: Iterable[PodView], reported: Collection[str]) -> tuple[wire.LoggedPod, ...]:
    """The pods of a device whose logs it has yet to copy, those that still run first; `reported` are done."""
    wanted = [pod for pod in pods if pod.bound and not pod.has_outputs and pod.uid not in reported]
    wanted.sort(key=lambda pod: (pod.ended, pod.created_at, pod.uid))
    return tuple(
        wire.LoggedPod(
            namespace=pod.key.namespace,
            pod_name=pod.key.name,
            pod_uid=pod.uid,
            job=pod.job,
            job_uid=pod.job_uid,
            attempt=pod.attempt,
            ended=pod.ended,
        )
        for pod in wanted[:MOST_NAMED]
    )


def kept_for_logs(pod: PodView, job: JobView, nodes: Mapping[str, NodeView], now: datetime) -> datetime | None:
    """Until when the ended pod of a finished job must stay for its logs; None where it need not.

    It is not kept for a device that is not heard of.
    """
    node = nodes.get(pod.node)
    if pod.has_outputs or node is None or node.beat is None or pod.uid in node.beat.volumes:
        return None
    until = (job.status.completion_time or job.created_at) + LOGS_GRACE
    return until if now < until else None
