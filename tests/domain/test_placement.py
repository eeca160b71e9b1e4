"""Which device takes which job: the best one, in the queue's order, with reservations that the next job sees."""

from collections import Counter
from typing import Any

import pytest
from edgewise.domain.actions import CreatePod
from edgewise.domain.demand import Usage, usage_of
from edgewise.domain.policies import device_score
from edgewise.domain.views import Installation, JobView, PodPhase

from tests.domain.builders import GIB, NOW, app, beat, device, job, planned, pod, seconds

FAST, SLOW = beat(events=12_000), beat(events=3_000)


def placed(**values: Any) -> list[tuple[str, str]]:
    """The created pods, as (job, device), in the plan's order."""
    actions = planned(**values).actions
    created = [action for action in actions if isinstance(action, CreatePod)]
    return [(one.job.name, one.manifest["metadata"]["labels"]["edgewise.dev/node"]) for one in created]


def many(count: int) -> tuple[JobView, ...]:
    return tuple(job(f"run-{number}", uid=f"{number:08d}-0000-4000-8000-000000000000") for number in range(count))


def test_the_best_device_wins() -> None:
    nodes = (device("edge-1", beat=SLOW), device("edge-2", beat=FAST), device("edge-3", beat=beat(celsius=84)))
    assert placed(nodes=nodes, jobs=(job(),)) == [("run", "edge-2")]


def test_a_burst_spreads_by_score() -> None:
    """Stale figures say that all devices are idle; reservations alone keep the burst off one device."""
    nodes = (device("edge-1", beat=beat(events=12_000, free=0)), device("edge-2", beat=beat(events=6_000, free=0)))
    counts = Counter(
        node for _, node in placed(nodes=nodes, jobs=many(30), installation=Installation(default_slots=100))
    )
    assert counts == {"edge-1": 20, "edge-2": 10}


def test_slots_bound_a_burst() -> None:
    nodes = (device("edge-1"), device("edge-2", spec={"slots": 2}))
    counts = Counter(node for _, node in placed(nodes=nodes, jobs=many(30)))
    assert counts == {"edge-1": 4, "edge-2": 2}


def test_requests_bound_a_burst() -> None:
    hungry = app(resources={"requests": {"memory": "3Gi"}})
    assert len(placed(nodes=(device(),), apps=(hungry,), jobs=many(5))) == 2


def test_priority_then_age_orders_the_queue() -> None:
    jobs = (
        job("young", uid="1" * 8 + "-0000-4000-8000-000000000000", created_at=NOW - seconds(1)),
        job("old", uid="2" * 8 + "-0000-4000-8000-000000000000", created_at=NOW - seconds(9)),
        job("urgent", uid="3" * 8 + "-0000-4000-8000-000000000000", spec={"priority": 5}),
    )
    two_slots = (device(spec={"slots": 2}),)
    assert {name for name, _ in placed(nodes=two_slots, jobs=jobs)} == {"urgent", "old"}


def test_an_avoided_device_is_used_only_when_no_other_can() -> None:
    spec = {"placement": {"avoid": ["edge-2"]}}
    better, worse = device("edge-2", beat=FAST), device("edge-1", beat=SLOW)
    assert placed(nodes=(better, worse), jobs=(job(spec=spec),)) == [("run", "edge-1")]
    assert placed(nodes=(better,), jobs=(job(spec=spec),)) == [("run", "edge-2")]


def test_a_job_counts_until_a_beat_has_measured_it() -> None:
    running = pod(running_since=NOW - seconds(15))
    node = device(beat=beat(age=1))  # its window began 11 s ago, after the pod had started
    assert usage_of({"edge-1": node}, [running])["edge-1"].unreflected == 0
    late = pod(running_since=NOW - seconds(5))
    assert usage_of({"edge-1": node}, [late])["edge-1"].unreflected == 1
    assert usage_of({"edge-1": node}, [pod(PodPhase.SUCCEEDED)])["edge-1"].jobs == 0


def test_reserved_memory_is_taken_from_the_free_memory() -> None:
    node = device(beat=beat(events=None, free=2 * GIB))
    reserved = Usage()
    reserved.take({"memory": GIB}, reflected=False)
    assert device_score(node, Usage()).factors.performance == pytest.approx(0.2)
    assert device_score(node, reserved).factors.performance == pytest.approx(0.1)
    assert "not benchmarked yet" in device_score(node, reserved).notes
