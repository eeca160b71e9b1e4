"""How devices are ranked: the registered placement policies, by the name that `placement.policy` gives them.

A policy is a pure function of one candidacy. It sees reservations: jobs that were placed on the device since its
newest beat was measured, this very batch included.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from typing import Final

from edgewise.domain.demand import Usage
from edgewise.domain.eligibility import Candidacy
from edgewise.domain.forecast import Outlook
from edgewise.domain.images import full_name
from edgewise.domain.score import Factors, load_factor, performance_factor, thermal_factor
from edgewise.domain.views import NodeView


@dataclass(frozen=True, slots=True)
class Ranking:
    """A device's rank for one job: the lowest `order` wins. `notes` say what people should know.

    Whatever the policy, a device has its seed score, for explanation.
    """

    score: float
    factors: Factors
    order: tuple[float, ...]
    takes: bool
    """whether the policy gives the device any work at all"""
    notes: tuple[str, ...] = ()
    expected_seconds: float | None = None
    """in how many seconds the job would be done there, where the policy asks that"""
    lacks: tuple[str, ...] = ()
    """what the device would have to fetch before the job can start there"""

    @property
    def figure(self) -> float:
        """What the policy compares, before what the device lacks is weighed in; the lowest is best."""
        return -self.score if self.expected_seconds is None else self.expected_seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """A registered way to choose. `rank` is asked for each device, with whether jobs there must be done first."""

    rank: Callable[[Candidacy, Outlook, bool], Ranking]
    waits: bool
    """whether a job may wait for a device that is busy although another is free"""


def device_score(node: NodeView, usage: Usage) -> Ranking:
    """The seed score, each unreflected job counted as one more equal sharer of the free CPU and memory.

    The score is proportional to its load factor, so a burst ends up spread in proportion to the devices' scores.
    """
    beat = node.beat
    if beat is None:
        return Ranking(0.0, Factors(0.0, 0.0, 0.0), (0.0,), takes=False, notes=("its agent has not reported yet",))
    sharers = 1 + usage.unreflected
    metrics, thermal = beat.metrics, node.spec.thermal
    factors = Factors(
        load=load_factor(metrics.cpu_free_percent / sharers, metrics.memory_available_percent / sharers),
        performance=performance_factor(
            beat.benchmark.events_per_second if beat.benchmark else 0.0,
            metrics.memory_free_bytes - usage.unreflected_memory_bytes,
        ),
        thermal=thermal_factor(metrics.celsius, thermal.throttle_celsius, thermal.critical_celsius),
    )
    notes = []
    if metrics.celsius is None:
        notes.append("temperature unknown")
    if beat.benchmark is None:
        notes.append("not benchmarked yet")
    if usage.unreflected:
        notes.append(f"{usage.unreflected} placed since its last beat")
    return Ranking(factors.score, factors, (-factors.score,), takes=factors.score > 0, notes=tuple(notes))


ALIKE: Final = 1.05
"""Expected times within this ratio count as equal: the estimates are no better. It is also what each thing that a
device would have to fetch first takes from its figure: one that has it is preferred where figures are close."""


def lacking(one: Candidacy) -> tuple[str, ...]:
    """What the app needs and the device would have to fetch first: its image, its bundle, both or neither."""
    node, demand = one.node, one.demand
    has_image = node.kube is not None and full_name(demand.app.image) in node.kube.images
    has_bundle = demand.bundle is None or (node.beat is not None and demand.bundle in node.beat.bundles)
    return (*(() if has_image else ("image",)), *(() if has_bundle else ("bundle",)))


def seed_score(one: Candidacy, outlook: Outlook, busy: bool) -> Ranking:
    """The device's own score, whatever the job; close scores are decided by what the device has of the app."""
    scored, lacks = device_score(one.node, one.usage), lacking(one)
    order = -scored.score / ALIKE ** len(lacks), -scored.score
    return Ranking(scored.score, scored.factors, order, scored.takes, scored.notes, lacks=lacks)


def expected_finish(one: Candidacy, outlook: Outlook, busy: bool) -> Ranking:
    """The device where the job would be done first; close times by what it has of the app, then by the score.

    A device whose CPU is fully used has a score of 0. That is often the jobs' own doing, so it does not exclude it.
    """
    scored, lacks = device_score(one.node, one.usage), lacking(one)
    seconds = outlook.prospects.finish(one.demand.app_key, one.node.name, busy=busy)
    order = round(log(seconds, ALIKE)) + len(lacks), len(lacks), -scored.score
    takes = one.node.beat is not None
    return Ranking(scored.score, scored.factors, order, takes, scored.notes, expected_seconds=seconds, lacks=lacks)


POLICIES: Mapping[str, Policy] = {
    "Score": Policy(seed_score, waits=False),
    "ExpectedFinish": Policy(expected_finish, waits=True),
}
