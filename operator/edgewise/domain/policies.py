"""How devices are ranked: the registered placement policies, by the name that `placement.policy` gives them.

A policy is a pure function of one candidacy. It sees reservations: jobs that were placed on the device since its
newest beat was measured, this very batch included.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgewise.domain.demand import Usage
from edgewise.domain.eligibility import Candidacy
from edgewise.domain.score import Factors, load_factor, performance_factor, thermal_factor
from edgewise.domain.views import NodeView


@dataclass(frozen=True, slots=True)
class Ranking:
    """A device's rank for one job: the highest `score` wins, 0 takes no work. `notes` say what people should know."""

    score: float
    factors: Factors
    notes: tuple[str, ...] = ()


PlacementPolicy = Callable[[Candidacy], Ranking]


def device_score(node: NodeView, usage: Usage) -> Ranking:
    """The seed score, each unreflected job counted as one more equal sharer of the free CPU and memory.

    The score is proportional to its load factor, so a burst ends up spread in proportion to the devices' scores.
    """
    beat = node.beat
    if beat is None:
        return Ranking(0.0, Factors(0.0, 0.0, 0.0), ("its agent has not reported yet",))
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
    return Ranking(factors.score, factors, tuple(notes))


def seed_score(one: Candidacy) -> Ranking:
    """The device's own score, whatever the job."""
    return device_score(one.node, one.usage)


POLICIES: Mapping[str, PlacementPolicy] = {"Score": seed_score}
