"""The clairvoyant optimum: the best that anyone could do who knew how fast every device is.

Equal jobs on uniform machines: device i needs `seconds[i]` for each of its jobs, so n of them keep it busy for
n x seconds[i]. Giving each next job to the device that would finish it first is optimal for equal jobs (an exchange
argument: any other assignment that is better would need a device to finish its n-th job earlier than it can).
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Assignment:
    """How many jobs each device gets, and when the last of them ends, in seconds."""

    jobs: Mapping[str, int]
    makespan_seconds: float


def optimum(jobs: int, seconds: Mapping[str, float]) -> Assignment:
    """The assignment of `jobs` equal jobs with the least makespan; `seconds` is each device's time for one job.

    Raises ValueError without devices, or for a time that is not positive.
    """
    if not seconds or min(seconds.values()) <= 0:
        raise ValueError("the optimum needs devices, and a positive time for each")
    given = dict.fromkeys(seconds, 0)
    free = [(time, name) for name, time in seconds.items()]
    heapq.heapify(free)
    last = 0.0
    for _ in range(jobs):
        ends, name = heapq.heappop(free)
        given[name] += 1
        last = max(last, ends)
        heapq.heappush(free, ((given[name] + 1) * seconds[name], name))
    return Assignment(given, last)
