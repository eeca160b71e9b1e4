"""Who comes next where devices are short: shares, priorities, starved jobs, limits, devices kept for large ones."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zlib import crc32

import pytest
from edgewise.api import Condition, ConditionStatus, EdgeJobStatus
from edgewise.domain.actions import CreatePod, PatchStatus, Plan
from edgewise.domain.turns import RECENT, Waiting, in_turn, used
from edgewise.domain.views import Installation, JobView, Key, PodPhase, PodView, Tenancy
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.builders import GIB, NOW, app, device, job, planned, pod, seconds

HOUR = timedelta(hours=1)


def queued(name: str, namespace: str = "demo", *, age: float = 5, **spec: Any) -> JobView:
    """A job that waits since its creation, `age` seconds ago."""
    number = crc32(f"{namespace}/{name}".encode()) % 10**8
    view = job(name, uid=f"{number:08d}-0000-4000-8000-000000000000", created_at=NOW - seconds(age), spec=spec)
    return replace(view, key=Key(namespace, name))


def order(*jobs: JobView, running: dict[str, int] | None = None, **installation: Any) -> list[str]:
    """The names of the jobs as their turns come."""
    waiting = [Waiting(one, one.created_at) for one in jobs]
    return [one.key.name for one in in_turn(waiting, Counter(running or {}), Installation(**installation), NOW)]


def test_higher_priorities_come_first_and_then_the_older() -> None:
    assert order(queued("b", age=9), queued("a", age=5), queued("c", priority=10, age=1)) == ["c", "b", "a"]


def test_a_job_that_has_waited_for_too_long_is_passed_by_no_priority() -> None:
    late, later = queued("late", age=3600), queued("later", age=3700)
    urgent = queued("urgent", age=1, priority=1000)
    assert order(urgent, late, later) == ["later", "late", "urgent"]
    assert order(urgent, queued("almost", age=3599)) == ["urgent", "almost"]


def test_namespaces_take_turns_however_many_jobs_they_have() -> None:
    flood = [queued(f"a{n}", "a", age=100 - n) for n in range(4)]
    assert order(*flood, queued("b0", "b", age=2), queued("b1", "b", age=1)) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_what_runs_already_counts() -> None:
    jobs = [queued("a", "a", age=9), queued("b0", "b", age=2), queued("b1", "b", age=1)]
    assert order(*jobs, running={"a": 2}) == ["b0", "b1", "a"]


def test_shares_are_the_ratio_of_the_turns() -> None:
    jobs = [queued(f"{namespace}{n}", namespace, age=100 - n) for namespace in "ab" for n in range(40)]
    first = order(*jobs, tenancies={"a": Tenancy(share=3)})[:40]
    assert Counter(name[0] for name in first) == {"a": 30, "b": 10}


@given(
    jobs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 7200)), min_size=1, max_size=40),
    running=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9)),
)
def test_everybody_has_one_turn_and_no_namespace_is_ahead_of_one_that_waits(
    jobs: list[tuple[str, int, int]], running: dict[str, int]
) -> None:
    views = [
        queued(f"{namespace}{number}", namespace, age=age, priority=priority)
        for number, (namespace, priority, age) in enumerate(jobs)
    ]
    turns = order(*views, running=running)
    assert sorted(turns) == sorted(view.key.name for view in views)
    taken = Counter(running)
    for at, name in enumerate(turns):
        waiting = {later[0] for later in turns[at:]}
        assert taken[name[0]] == min(taken[namespace] for namespace in waiting)
        taken[name[0]] += 1


def starts(plan: Plan) -> list[str]:
    return [one.job.name for one in plan.actions if isinstance(one, CreatePod)]


def waiting_of(plan: Plan, name: str) -> str:
    """What the status of a job says that it waits for."""
    patch = next(one for one in plan.actions if isinstance(one, PatchStatus) and one.key.name == name)
    assert isinstance(patch.after, EdgeJobStatus)
    return next(one.message for one in patch.after.conditions if one.type == "Reconciling")


def runs(view: JobView, node: str = "edge-1", **values: Any) -> PodView:
    """A running pod of that job."""
    uid, key = f"pod-{view.key.name}", Key(view.key.namespace, f"{view.key.name}-1")
    return replace(pod(node=node, **values), job_uid=view.uid, job=view.key.name, uid=uid, key=key)


APPS = tuple(replace(app(), key=Key(namespace, "faces")) for namespace in ("demo", "a", "b"))


def test_one_slot_is_shared_although_nobody_has_anything_when_it_gets_free() -> None:
    over = Condition(type="Finished", status=ConditionStatus.TRUE, last_transition_time=NOW, reason="Succeeded")
    done = EdgeJobStatus(observed_generation=1, start_time=NOW - seconds(9), conditions=(over,))
    before = [replace(queued(f"a{n}", "a"), status=done) for n in range(3)]
    mine, theirs = queued("mine", "a", age=40, priority=1000), queued("theirs", "b", age=1)
    one_slot: dict[str, Any] = {"nodes": (device(spec={"slots": 1}),), "apps": APPS}
    assert starts(planned(jobs=(*before, mine, theirs), **one_slot)) == ["theirs"]
    assert starts(planned(jobs=(mine, theirs), **one_slot)) == ["mine"], "a priority decides between equals"


def test_what_started_long_ago_does_not_count() -> None:
    old = replace(queued("old", "a"), status=EdgeJobStatus(start_time=NOW - HOUR))
    new = replace(queued("new", "b"), status=EdgeJobStatus(start_time=NOW - HOUR + seconds(1)))
    assert used(Counter("aa"), [old, new], Installation(), NOW) == Counter(a=2, b=1)
    many = [replace(new, key=Key("c", f"{n}")) for n in range(100)]
    assert used(Counter(), many, Installation(), NOW) == Counter(c=RECENT)


def test_one_free_slot_goes_to_the_namespace_with_less() -> None:
    busy = queued("busy", "a", age=50)
    jobs = (busy, queued("more", "a", age=40, priority=1000), queued("other", "b", age=1))
    plan = planned(jobs=jobs, apps=APPS, pods=(runs(busy),), nodes=(device(spec={"slots": 2}),))
    assert starts(plan) == ["other"]


@pytest.mark.parametrize(("most", "started"), [(None, 3), (3, 2), (1, 0)])
def test_a_namespace_has_no_more_running_jobs_than_its_limit(most: int | None, started: int) -> None:
    busy = queued("busy", "a", age=50)
    jobs = (busy, *(queued(f"next{n}", "a", age=9 - n) for n in range(3)), queued("other", "b", age=1))
    limited = Installation(default_policy="Score", tenancies={"a": Tenancy(max_running=most)})
    plan = planned(jobs=jobs, apps=APPS, pods=(runs(busy),), nodes=(device(spec={"slots": 9}),), installation=limited)
    assert Counter(name[:4] for name in starts(plan)) == Counter({"next": started, "othe": 1})


def test_a_job_over_the_limit_says_so_and_starts_when_another_ends() -> None:
    limited = Installation(default_policy="Score", default_tenancy=Tenancy(max_running=1))
    busy, more = queued("busy", age=50), queued("more")
    plan = planned(jobs=(busy, more), pods=(runs(busy),), installation=limited)
    assert waiting_of(plan, "more") == "namespace demo has 1 of at most 1 running jobs (chart value namespaces)"
    ended = runs(busy, phase=PodPhase.FAILED)
    assert starts(planned(jobs=(busy, more), pods=(ended,), installation=limited)) == ["more"]


LARGE = app("large", resources={"requests": {"memory": "6Gi"}})
SMALL = app("small", resources={"requests": {"memory": "3Gi"}})


@pytest.mark.parametrize("policy", ["Score", "ExpectedFinish"])
@pytest.mark.parametrize(("age", "started"), [(60, ["gap"]), (3600, [])])
def test_a_device_is_kept_for_a_large_job_that_has_waited_for_too_long(
    policy: str, age: float, started: list[str]
) -> None:
    there = queued("there", age=7200, appRef={"name": "small"})
    large = queued("large", age=age, appRef={"name": "large"})
    gap = queued("gap", age=5, priority=10, appRef={"name": "small"})
    plan = planned(
        jobs=(there, large, gap),
        apps=(LARGE, SMALL),
        pods=(replace(runs(there), requests={"memory": 3.0 * GIB}),),
        nodes=(device(),),
        installation=Installation(default_policy=policy),
    )
    assert starts(plan) == started
    if not started:
        assert "edge-1 Kept (kept free for EdgeJob demo/large)" in waiting_of(plan, "gap")


def test_of_several_devices_only_the_emptiest_is_kept() -> None:
    there = [queued(f"there{n}", age=7200, appRef={"name": "small"}) for n in range(3)]
    pods = [replace(runs(one, node), requests={"memory": 3.0 * GIB}) for one, node in zip(there, NODES, strict=True)]
    large = [queued(f"large{n}", age=4000 + n, appRef={"name": "large"}) for n in range(2)]
    gaps = [queued(f"gap{n}", age=5, appRef={"name": "small"}) for n in range(3)]
    plan = planned(
        jobs=(*there, *large, *gaps),
        apps=(LARGE, SMALL),
        pods=tuple(pods),
        nodes=(device("edge-1"), device("edge-2")),
        installation=Installation(default_policy="Score"),
    )
    placed = [one for one in plan.actions if isinstance(one, CreatePod)]
    assert placed == []  # edge-1 has two jobs and no room; edge-2 has one, and is kept
    assert "edge-2 Kept" in waiting_of(plan, "gap0")
    assert "edge-1 DoesNotFit" in waiting_of(plan, "gap0")


NODES = ("edge-1", "edge-1", "edge-2")


def test_waiting_begins_anew_after_an_attempt() -> None:
    """A job that ran for hours before its device was lost is not one that has waited for hours."""
    moved = queued("moved", age=9000, retry={"backoffSeconds": 1})
    first = planned(jobs=(moved,), pods=(runs(moved, phase=PodPhase.FAILED),), nodes=(device(),))
    patch = next(one for one in first.actions if isinstance(one, PatchStatus) and one.plural == "edgejobs")
    assert isinstance(patch.after, EdgeJobStatus)
    again = replace(moved, status=patch.after)
    urgent = queued("urgent", age=1, priority=10)
    later = NOW + seconds(30)
    plan = planned(later, jobs=(again, urgent), nodes=(device(spec={"slots": 1}),))
    assert starts(plan) == ["urgent"]


def test_waiting_begins_with_the_job_however_late_its_status_is_first_written() -> None:
    old, new = queued("old", age=20, priority=-1), queued("new", age=15)
    nodes: dict[str, Any] = {"nodes": (device(spec={"slots": 0}),)}
    late = next(
        one.after
        for one in planned(jobs=(old,), **nodes).actions
        if isinstance(one, PatchStatus) and one.plural == "edgejobs"
    )
    assert isinstance(late, EdgeJobStatus)
    strict = Installation(default_policy="Score", starvation=seconds(18))
    one_slot: dict[str, Any] = {"nodes": (device(spec={"slots": 1}),), "installation": strict}
    assert starts(planned(jobs=(replace(old, status=late), new), **one_slot)) == ["old"]
