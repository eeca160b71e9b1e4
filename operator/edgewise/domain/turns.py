"""Whose turn it is: the order in which queued jobs are looked at in one pass.

Owns fair shares between namespaces, priorities with a bounded wait within one, and the limit of running jobs. It knows
nothing of devices.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush, nlargest
from typing import Final

from edgewise.domain.views import Installation, JobView

Rank = tuple[bool, float, int, datetime, str]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits for a device, and since when: its creation, its resumption, or the end of its last attempt."""

    job: JobView
    since: datetime


RECENT: Final = 20
"""How many jobs that have ended or lost their device count for their namespaces still: those that started last."""


def used(running: Counter[str], others: Iterable[JobView], installation: Installation, now: datetime) -> Counter[str]:
    """How much of the fleet each namespace has, and had just now, in jobs.

    `running` counts those that have a device. Of the `others` the last to start count too, unless that is long ago:
    where one slot is all there is, nobody has anything when it gets free.
    """
    since = now - installation.starvation
    begun = ((one.status.start_time, one.key.namespace) for one in others if one.status.start_time)
    recent = nlargest(RECENT, (one for one in begun if one[0] > since))
    return running + Counter(namespace for _, namespace in recent)


def is_starved(waiting: Waiting, installation: Installation, now: datetime) -> bool:
    """Whether a job has waited for so long that no priority passes it any more."""
    return now - waiting.since >= installation.starvation


def in_turn(
    queue: Iterable[Waiting], used: Counter[str], installation: Installation, now: datetime
) -> Iterator[JobView]:
    """The queued jobs in the order of their turns; `used` is what each namespace has of the fleet already, in jobs.

    The next turn is that of the namespace that has least for its share, the turns counted that it had in this pass;
    among equals, of the one whose first job would come first. Within a namespace those come first that have waited for
    too long, longest first; then the higher priority, the older job, and by UID so that the order is total.
    """
    lines: dict[str, list[tuple[Rank, JobView]]] = {}
    for one in queue:
        lines.setdefault(one.job.key.namespace, []).append((_rank(one, installation, now), one.job))
    ordered = {namespace: deque(sorted(line, key=lambda entry: entry[0])) for namespace, line in lines.items()}
    taken = Counter({namespace: used[namespace] for namespace in lines})

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
