"""Whose turn it is: the order in which queued jobs are looked at in one pass.

Owns fair shares between namespaces, priorities with a bounded wait within one, and the limit of running jobs. It knows
nothing of devices.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush

from edgewise.domain.views import Installation, JobView

Rank = tuple[bool, float, int, datetime, str]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits for a device, and since when: its creation, its resumption, or the end of its last attempt."""

    job: JobView
    since: datetime


def is_starved(waiting: Waiting, installation: Installation, now: datetime) -> bool:
    """Whether a job has waited for so long that no priority passes it any more."""
    return now - waiting.since >= installation.starvation


def in_turn(
    queue: Iterable[Waiting], running: Counter[str], installation: Installation, now: datetime
) -> Iterator[JobView]:
    """The queued jobs in the order of their turns; `running` counts the jobs of each namespace that have a device.

    The next turn is that of the namespace with the fewest jobs for its share, those counted that had a turn in this
    pass. Among equals it is the one whose first job would come first. Within a namespace those come first that have
    waited for too long, longest first; then the higher priority, the older job, and by UID so that the order is total.
    """
    lines: dict[str, list[tuple[Rank, JobView]]] = {}
    for one in queue:
        lines.setdefault(one.job.key.namespace, []).append((_rank(one, installation, now), one.job))
    ordered = {namespace: deque(sorted(line, key=lambda entry: entry[0])) for namespace, line in lines.items()}
    taken = Counter({namespace: running[namespace] for namespace in lines})

    def turn(namespace: str) -> tuple[float, Rank, str]:
        return taken[namespace] / installation.tenancy(namespace).share, ordered[namespace][0][0], namespace

    turns = [turn(namespace) for namespace in ordered]
    heapify(turns)
    while turns:
        _, _, namespace = heappop(turns)
        yield ordered[namespace].popleft()[1]
        taken[namespace] += 1
        if ordered[namespace]:
            heappush(turns, turn(namespace))


def _rank(one: Waiting, installation: Installation, now: datetime) -> Rank:
    """A job's place in its namespace's line; the lowest comes first."""
    starved = is_starved(one, installation, now)
    waited = (now - one.since) if starved else timedelta()
    return not starved, -waited.total_seconds(), -one.job.spec.priority, one.job.created_at, one.job.uid


def over_limit(namespace: str, running: Counter[str], installation: Installation) -> str:
    """Why no more job of the namespace may start now, or nothing."""
    most = installation.tenancy(namespace).max_running
    if most is None or running[namespace] < most:
        return ""
    return f"namespace {namespace} has {running[namespace]} of at most {most} running jobs (chart value namespaces)"
