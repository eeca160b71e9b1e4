"""When a job would be done on a device: from how long its app took there, or the benchmark, and the work that is there.

Owns the model: jobs on one device share its CPUs equally (processor sharing), and each needs there a time alone. What
an app needs alone is learned from finished attempts. While k jobs ran on c CPUs each got min(1, c/k) of one; the
integral of that over an attempt's life is its time alone (virtual time, as in fair queueing: Parekh and Gallager 1993).
Seconds are floats here, on the operator's clock.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapreplace
from itertools import groupby
from math import inf
from statistics import median
from typing import Final

from edgewise.domain.demand import slots_of
from edgewise.domain.score import thermal_factor
from edgewise.domain.views import Key, NodeView, PodView, Snapshot, Stay

UNKNOWN_SECONDS: Final = 60.0
"""What an app that never ran takes on the fleet's fastest device; only the ratio of devices counts then."""

LEARNED_FROM: Final = 20
"""How many of an app's newest successes on a device count."""

LEAST_SHARE: Final = 0.05
"""Even a device that others fill, or that is nearly too hot, gets on a little."""

LEAST_SPEED: Final = 0.001
"""What a benchmark is taken for at least: devices are not a thousand times slower than others, but say odd things."""

LEAST_REMAINING: Final = 0.1
"""Of its usual time, what a job is thought to need still when that time is nearly over."""


@dataclass(slots=True)
class Prospects:
    """What is expected of each device. `take` counts a job that was placed, or that waits for a device."""

    speeds: Mapping[str, float]
    """by benchmark, relative to the fastest device, 0 to 1"""
    shares: Mapping[str, float]
    """what programs other than jobs leave of a device's CPUs, 0 to 1"""
    heats: Mapping[str, float]
    """the score's thermal factors, 0 to 1: a hot device is slowed down"""
    cpus: Mapping[str, int]
    slots: Mapping[str, int]
    learned: Mapping[Key, Mapping[str, float]]
    """seconds alone, by app and device"""
    remaining: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """seconds alone that each job on a device still needs, those that wait for it included"""
    _on_the_fastest: dict[Key, float] = field(default_factory=dict)
    """seconds alone that an app would take on the fastest device, by what was learned on all"""

    def alone(self, app: Key, node: str) -> float:
        """How long the app takes on the device with a CPU of its own, in seconds.

        Learned there; else learned elsewhere and scaled by the benchmarks; else a guess that tells devices apart by
        their benchmarks alone. What was learned there holds the usual share of other programs already.
        """
        known, heat = self.learned.get(app, {}), max(LEAST_SHARE, self.heats[node])
        if node in known:
            return known[node] / heat
        if app not in self._on_the_fastest:
            elsewhere = [seconds * self.speeds[other] for other, seconds in known.items()]
            self._on_the_fastest[app] = median(elsewhere) if elsewhere else UNKNOWN_SECONDS
        return self._on_the_fastest[app] / (self.speeds[node] * max(LEAST_SHARE, self.shares[node]) * heat)

    def finish(self, app: Key, node: str, *, busy: bool) -> float:
        """In how many seconds the app would be done on the device.

        With a free slot it starts at once and shares the CPUs with what is there; on a `busy` device it waits its turn.
        """
        own, others, cpus = self.alone(app, node), self.remaining[node], self.cpus[node]
        if busy:
            return _first_free(others, max(1, min(cpus, self.slots[node]))) + own
        return max(own, (own + sum(min(own, other) for other in others)) / cpus)

    def take(self, app: Key, node: str) -> None:
        """Count one more job on the device, or waiting for it."""
        self.remaining[node].append(self.alone(app, node))


class Outlook:
    """The prospects of a snapshot, made when somebody asks: most policies never do."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self._snapshot, self._now = snapshot, now
        self._prospects: Prospects | None = None
        self._taken: list[tuple[Key, str]] = []

    @property
    def prospects(self) -> Prospects:
        """What is expected of the devices, with all that was taken."""
        if self._prospects is None:
            self._prospects = _prospects(self._snapshot, self._now)
            for app, node in self._taken:
                self._prospects.take(app, node)
        return self._prospects

    def take(self, app: Key, node: str) -> None:
        """Count one more job on the device, or waiting for it."""
        if self._prospects is None:
            self._taken.append((app, node))
        else:
            self._prospects.take(app, node)


def _prospects(snapshot: Snapshot, now: datetime) -> Prospects:
    """What the snapshot lets expect of its devices."""
    apps = {job.uid: job.app for job in snapshot.jobs.values()}
    stays: defaultdict[str, list[Stay]] = defaultdict(list)
    for job in snapshot.jobs.values():
        for stay in job.stays:
            stays[stay.node].append(stay)
    running = [pod for pods in snapshot.pods.values() for pod in pods if not pod.ended and pod.node in snapshot.nodes]
    for pod in running:
        if pod.job_uid in apps and (since := _began(pod, now)) is not None:
            stays[pod.node].append(
                Stay(apps[pod.job_uid], pod.node, since.timestamp(), now.timestamp(), succeeded=False)
            )
    cpus = {name: node.beat.metrics.cpus if node.beat else 1 for name, node in snapshot.nodes.items()}
    clocks = {name: Service(stays[name], cpus[name]) for name in snapshot.nodes}
    jobs = Counter(pod.node for pod in running)
    expected = Prospects(
        speeds=_speeds(snapshot.nodes.values()),
        shares={name: _share(node, jobs[name], cpus[name]) for name, node in snapshot.nodes.items()},
        heats={name: _heat(node) for name, node in snapshot.nodes.items()},
        cpus=cpus,
        slots={name: slots_of(node, snapshot.installation) for name, node in snapshot.nodes.items()},
        learned=_learned(stays, clocks),
    )
    for pod in running:
        # a deleted job's pod holds its slot until its kubelet has ended it
        alone = expected.alone(apps[pod.job_uid], pod.node) if pod.job_uid in apps else UNKNOWN_SECONDS
        expected.remaining[pod.node].append(_remaining(alone, _had(pod, clocks[pod.node], apps, now)))
    return expected


class Service:
    """The service clock of one device: how many seconds of a CPU each job that ran all the time has had."""

    def __init__(self, stays: Iterable[Stay], cpus: int) -> None:
        changes = sorted([*((one.begin, 1) for one in stays), *((one.end, -1) for one in stays)])
        self._at: dict[float, float] = {}
        served, jobs, before = 0.0, 0, -inf
        for moment, together in groupby(changes, key=lambda change: change[0]):
            if jobs:
                served += (moment - before) * min(1.0, cpus / jobs)
            self._at[moment] = served
            jobs += sum(step for _, step in together)
            before = moment

    def between(self, begin: float, end: float) -> float:
        """The service between two moments at which a stay begins or ends, in seconds."""
        return self._at[end] - self._at[begin]


def _learned(stays: Mapping[str, Iterable[Stay]], clocks: Mapping[str, Service]) -> dict[Key, dict[str, float]]:
    """The median of the newest successes, by app and device. API times are whole seconds, so at least half of one."""
    found: defaultdict[Key, dict[str, float]] = defaultdict(dict)
    for node, all_of_them in stays.items():
        if node not in clocks:
            continue
        by_app: defaultdict[Key, list[Stay]] = defaultdict(list)
        for stay in all_of_them:
            if stay.succeeded:
                by_app[stay.app].append(stay)
        for app, successes in by_app.items():
            newest = sorted(successes, key=lambda one: one.end)[-LEARNED_FROM:]
            found[app][node] = max(0.5, median(clocks[node].between(one.begin, one.end) for one in newest))
    return found


def _speeds(nodes: Iterable[NodeView]) -> dict[str, float]:
    """Each device's benchmark relative to the fastest; without one it is taken for the slowest."""
    benchmarks = {node.name: node.beat.benchmark if node.beat else None for node in nodes}
    known = [one.events_per_second for one in benchmarks.values() if one and one.events_per_second > 0]
    fastest, slowest = max(known, default=1.0), min(known, default=1.0)
    speeds = {name: (one.events_per_second if one else 0) or slowest for name, one in benchmarks.items()}
    return {name: max(LEAST_SPEED, speed / fastest) for name, speed in speeds.items()}


def _share(node: NodeView, jobs: int, cpus: int) -> float:
    """What others leave: the CPU that is in use, less what as many jobs can take."""
    used = 1 - node.beat.metrics.cpu_free_percent / 100 if node.beat else 0.0
    return 1 - max(0.0, used - min(1.0, jobs / cpus))


def _heat(node: NodeView) -> float:
    celsius = node.beat.metrics.celsius if node.beat else None
    return thermal_factor(celsius, node.spec.thermal.throttle_celsius, node.spec.thermal.critical_celsius)


def _first_free(others: Sequence[float], lanes: int) -> float:
    """When the first of `lanes` is free, if the others take the lanes one after the other as each gets free."""
    free_at = [0.0] * lanes
    for other in others:
        heapreplace(free_at, free_at[0] + other)
    return free_at[0]


def _began(pod: PodView, now: datetime) -> datetime | None:
    """Since when a pod runs, not later than now; None for one that does not."""
    began = pod.began(now) if pod.running_since is not None else None
    return min(began, now) if began else None


def _had(pod: PodView, clock: Service, apps: Mapping[str, Key], now: datetime) -> float:
    """The service that a pod has had so far, in seconds; its age where it should have begun or ended long ago."""
    began = _began(pod, now)
    if began is None or pod.job_uid not in apps:
        return max(0.0, (now - pod.created_at).total_seconds())
    return clock.between(began.timestamp(), now.timestamp())


def _remaining(alone: float, had: float) -> float:
    """What a job still needs: what is left of the usual; over that, as long again as it is late."""
    return max(alone - had, LEAST_REMAINING * alone, had - alone)
