"""When a job would be done on a device: what is learned, what is guessed, and how work that is there counts."""

from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import pytest
from edgewise.api import EdgeJobStatus, Outcome
from edgewise.domain.forecast import UNKNOWN_SECONDS, Outlook, Prospects, Service
from edgewise.domain.views import JobView, Key, NodeView, PodPhase, Stay

from tests.domain.builders import NOW, beat, device, job, pod, seconds, snapshot
from tests.domain.reading import attempt

FACES = Key("demo", "faces")


def stay(begin: float, end: float) -> Stay:
    return Stay(FACES, "edge-1", begin, end, succeeded=True)


@pytest.mark.parametrize(
    ("cpus", "others", "expected"),
    [
        (1, [], 10),
        (1, [stay(0, 10)], 5),
        (2, [stay(0, 10)], 10),
        (2, [stay(0, 10), stay(0, 10), stay(0, 10)], 5),
        (1, [stay(5, 20)], 7.5),
        (1, [stay(-5, 20), stay(2, 4)], 0.5 * 8 + 2 / 3),
        (1, [stay(10, 20)], 10),
    ],
)
def test_the_service_clock_gives_the_time_alone(cpus: int, others: list[Stay], expected: float) -> None:
    assert Service([stay(0, 10), *others], cpus).between(0, 10) == pytest.approx(expected)


def done(name: str, node: str, begin: float, end: float, outcome: Outcome = Outcome.SUCCEEDED) -> JobView:
    """A job that ran on `node` from `begin` to `end` seconds before now."""
    when = {"started_at": NOW - seconds(begin), "finished_at": NOW - seconds(end)}
    return job(
        name,
        uid=str(uuid5(NAMESPACE_DNS, name)),
        status=EdgeJobStatus(attempts=(attempt(1, outcome, node=node, **when),)),
    )


NODES = (device("edge-1", beat=beat(events=12_000)), device("edge-2", beat=beat(events=3_000)))


def expected(now: datetime = NOW, *, nodes: tuple[NodeView, ...] = NODES, **values: Any) -> Prospects:
    return Outlook(snapshot(nodes=nodes, **values), now).prospects


def test_an_app_that_never_ran_is_told_apart_by_the_benchmarks() -> None:
    unknown = expected()
    assert unknown.alone(FACES, "edge-1") == pytest.approx(UNKNOWN_SECONDS / 0.95, rel=0.06)
    assert unknown.alone(FACES, "edge-2") / unknown.alone(FACES, "edge-1") == pytest.approx(4)


def test_what_others_take_of_a_device_makes_it_slower() -> None:
    nodes = (device("edge-1", beat=beat(cpu=100)), device("edge-2", beat=beat(cpu=25)))
    loaded = expected(nodes=nodes)
    assert loaded.alone(FACES, "edge-2") / loaded.alone(FACES, "edge-1") == pytest.approx(4)
    ours = expected(nodes=nodes, jobs=(job(),), pods=(pod(node="edge-2"),))
    assert ours.alone(FACES, "edge-2") == ours.alone(FACES, "edge-1"), "the job that runs there takes it"


def test_what_was_learned_on_the_device_counts_most() -> None:
    jobs = [done(f"run-{n}", "edge-2", begin=100 * n + 30, end=100 * n) for n in range(1, 4)]
    learned = expected(jobs=(*jobs, done("slow", "edge-2", 99, 9, Outcome.FAILED)))
    assert learned.alone(FACES, "edge-2") == pytest.approx(30, rel=0.2)


def test_what_was_learned_elsewhere_is_scaled_by_the_benchmarks() -> None:
    learned = expected(jobs=(done("a", "edge-2", 140, 100),))
    assert learned.alone(FACES, "edge-2") == 40
    assert learned.alone(FACES, "edge-1") == pytest.approx(10, rel=0.1)
    assert learned.alone(Key("demo", "other"), "edge-1") == pytest.approx(UNKNOWN_SECONDS, rel=0.1)


def test_a_hot_device_is_slower_than_it_was() -> None:
    hot = (device("edge-1", beat=beat(celsius=80)), NODES[1])
    learned = expected(nodes=hot, jobs=(done("a", "edge-1", 120, 100),))
    assert learned.alone(FACES, "edge-1") == pytest.approx(60)


def test_work_that_is_there_delays_a_job() -> None:
    jobs = (done("a", "edge-1", 120, 100), job())
    free = expected(jobs=jobs)
    assert free.finish(FACES, "edge-1", busy=False) == 20
    running = expected(
        jobs=jobs, pods=(pod(created_at=NOW - seconds(6), started_at=NOW - seconds(5), running_since=NOW - seconds(5)),)
    )
    assert running.remaining["edge-1"] == [15]
    assert running.finish(FACES, "edge-1", busy=False) == 35
    running.take(FACES, "edge-1")
    assert running.finish(FACES, "edge-1", busy=True) == 55


def test_a_short_job_does_not_wait_for_a_long_one_beside_it() -> None:
    one = expected(jobs=(done("a", "edge-1", 120, 100),))
    one.remaining["edge-1"].append(1000)
    assert one.finish(FACES, "edge-1", busy=False) == 40, "both get half of the CPU until the short one is done"
    assert one.finish(FACES, "edge-1", busy=True) == 1020


def test_a_busy_device_is_free_when_the_first_of_its_jobs_is_done() -> None:
    four = device("edge-1", beat=beat(cpus=4), spec={"slots": 2})
    one = expected(nodes=(four,), jobs=(done("a", "edge-1", 120, 100),))
    one.remaining["edge-1"] += [30, 50]
    assert one.finish(FACES, "edge-1", busy=True) == 50
    one.take(FACES, "edge-1")
    assert one.finish(FACES, "edge-1", busy=True) == 70, "two slots, however many CPUs"


def test_a_job_that_never_starts_is_not_waited_for_without_end() -> None:
    jobs = (done("a", "edge-1", 120, 100), job())
    stuck = pod(PodPhase.PENDING, created_at=NOW - timedelta(days=1))
    assert expected(jobs=jobs, pods=(stuck,)).remaining["edge-1"] == [86_380]
    ending = pod(created_at=NOW - seconds(600), deleting=True)
    assert expected(jobs=jobs[:1], pods=(ending,)).remaining["edge-1"] == [540], "its job is deleted, it holds a slot"


def test_an_odd_benchmark_is_no_reason_to_stop() -> None:
    odd = expected(nodes=(device("edge-1", beat=beat(events=1e-300)), NODES[1]))
    assert odd.alone(FACES, "edge-1") == pytest.approx(UNKNOWN_SECONDS * 1000, rel=0.1)


def test_a_job_that_is_late_is_expected_to_be_late_for_as_long_again() -> None:
    jobs = (done("a", "edge-1", 4020, 4000), job())
    late = expected(jobs=jobs, pods=(pod(created_at=NOW - seconds(200), started_at=NOW - seconds(120)),))
    assert late.remaining["edge-1"] == [100]


def test_more_cpus_take_more_jobs() -> None:
    four = device("edge-1", beat=beat(cpus=4))
    wide = expected(nodes=(four,), jobs=(done("a", "edge-1", 120, 100),))
    for _ in range(3):
        wide.take(FACES, "edge-1")
    assert wide.finish(FACES, "edge-1", busy=False) == 20
    wide.take(FACES, "edge-1")
    assert wide.finish(FACES, "edge-1", busy=False) == 25
