"""What becomes of an EdgeStream: which runs start and when, are ended or removed, how it stands, and what is told."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from edgewise.api import (
    Attempt,
    Condition,
    ConditionStatus,
    EdgeJobSpec,
    EdgeJobStatus,
    EdgeStreamStatus,
    Outcome,
    Phase,
    Results,
    ResultsState,
    StreamPhase,
)
from edgewise.domain.actions import Action, CreatePod, CreateRun, DeleteRun, Event, PatchSpec, PatchStatus, Plan
from edgewise.domain.stream_runs import STEADY, pause_after, run_of
from edgewise.domain.verdicts import verdict
from edgewise.domain.views import JobView, Key, PodPhase, PodView, Refusal, StreamView
from edgewise_agent.wire import Verdict, VolumeReport, VolumeState

from tests.domain.builders import JOB_UID, NOW, STREAM_UID, app, beat, device, job, manifest, planned, pod, seconds
from tests.domain.builders import stream as a_stream

POD = pod()


def settled(number: int = 1, **values: Any) -> EdgeStreamStatus:
    """A status that tells of the run of that number."""
    known: dict[str, Any] = {"run": f"scan-{number}", "run_number": number}
    return EdgeStreamStatus(**(known | values))


def condition(name: str, *, message: str = "", reason: str = "Because", at: datetime = NOW) -> Condition:
    return Condition(type=name, status=ConditionStatus.TRUE, reason=reason, message=message, last_transition_time=at)


def at_work(phase: Phase = Phase.RUNNING, outcome: Outcome = Outcome.RUNNING) -> EdgeJobStatus:
    """The status of a run whose pod is `POD`."""
    attempt = Attempt(number=1, node="edge-1", pod_name=POD.key.name, pod_uid=POD.uid, outcome=outcome)
    return EdgeJobStatus(phase=phase, node="edge-1", attempts=(attempt.model_copy(update={"started_at": NOW}),))


def ended(
    reason: str = "AppError",
    *,
    outcome: Outcome = Outcome.FAILED,
    lasted: float = 5,
    ago: float = 0,
    began: bool = True,
    phase: Phase = Phase.FAILED,
) -> EdgeJobStatus:
    """The status of a run that ended `ago` seconds ago, after `lasted` seconds."""
    at = NOW - seconds(ago)
    attempt = Attempt(
        number=1,
        node="edge-1",
        pod_name=POD.key.name,
        pod_uid=POD.uid,
        outcome=outcome,
        reason=reason,
        message=f"it ended: {reason}",
        started_at=at - seconds(lasted) if began else None,
        finished_at=at,
    )
    over = (condition("Failed", at=at), condition("Finished", at=at))
    return EdgeJobStatus(phase=phase, node="edge-1", attempts=(attempt,), conditions=over, completion_time=at)


def run(number: int, status: EdgeJobStatus | None = None, of: StreamView | None = None, **values: Any) -> JobView:
    """A run as its stream makes it."""
    of = of or a_stream()
    uid = JOB_UID if number == 1 else f"uid-{number}"
    view = job(f"{of.key.name}-{number}", uid=uid, status=status, stream_uid=of.uid, created_at=NOW)
    return replace(view, **({"spec": of.run_spec} | values))


def plan(of: StreamView, *runs: JobView, now: datetime = NOW, **known: Any) -> Plan:
    made = planned(now, streams=(of,), jobs=runs, **({"apps": ()} | known))
    assert not made.faults, made.faults
    return made


def ours(plan: Plan) -> list[Action]:
    """The plan's actions about EdgeStreams and their runs."""
    about = (CreateRun, DeleteRun, PatchSpec)
    patches = (one for one in plan.actions if isinstance(one, PatchStatus) and one.plural == "edgestreams")
    return [*(one for one in plan.actions if isinstance(one, about)), *patches]


def started(plan: Plan) -> list[str]:
    return [one.manifest["metadata"]["name"] for one in plan.actions if isinstance(one, CreateRun)]


def removed(plan: Plan) -> list[str]:
    return [one.job.name for one in plan.actions if isinstance(one, DeleteRun)]


def changed(plan: Plan) -> dict[str, dict[str, Any]]:
    """What is changed of the specs of runs, by name."""
    return {one.job.name: dict(one.spec) for one in plan.actions if isinstance(one, PatchSpec)}


def patch(plan: Plan) -> PatchStatus | None:
    return next((one for one in ours(plan) if isinstance(one, PatchStatus)), None)


def written(plan: Plan) -> EdgeStreamStatus:
    found = patch(plan)
    assert found is not None, plan.actions
    return EdgeStreamStatus.model_validate(found.new)


def told(plan: Plan) -> list[Event]:
    found = patch(plan)
    return list(found.events) if found else []


def said(status: EdgeStreamStatus) -> tuple[str, ...]:
    """The reasons of Ready, Stalled and Reconciling, each after a + where it is True."""
    return tuple(f"{'+' * (one.status is ConditionStatus.TRUE)}{one.reason}" for one in status.conditions)


# --- the first run, and what a run is


def test_the_first_run_is_made_at_once_and_written_when_it_is_there() -> None:
    new = a_stream()
    first = plan(new)
    assert started(first) == ["scan-1"]
    assert patch(first) is None, "the answer to the creation brings the next state at once"
    second = plan(new, run(1))
    status = written(second)
    assert started(second) == []
    assert (status.run, status.run_number, status.restarts) == ("scan-1", 1, 0)
    assert status.phase is StreamPhase.PENDING
    assert said(status) == ("Pending", "Fine", "+Pending")
    assert [(event.reason, event.message) for event in told(second)] == [("RunStarted", "scan-1")]
    third = plan(replace(new, status=status), run(1))
    assert ours(third) == []


def test_a_run_is_an_edge_job_that_is_tried_once() -> None:
    template = {
        "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
        "spec": {"appRef": {"name": "faces"}, "placement": {"avoid": ["edge-2"]}, "retention": {"results": "7d"}},
    }
    of = a_stream(spec={"jobTemplate": template})
    (create,) = (one for one in plan(of).actions if isinstance(one, CreateRun))
    assert (create.owner, create.owner_uid) == (of.key, STREAM_UID)
    meta = create.manifest["metadata"]
    assert meta["labels"] == {"team": "a", "edgewise.dev/stream": "scan"}
    assert meta["annotations"] == {"note": "b"}
    (owner,) = meta["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("EdgeStream", "scan", of.uid, True)
    spec = EdgeJobSpec.model_validate(create.manifest["spec"])
    assert (spec.retry.max_attempts, spec.retry.max_disruptions, spec.placement.evict_when_hot) == (1, 0, True)
    assert (spec.placement.avoid, spec.retention.results) == (("edge-2",), "7d")


@pytest.mark.parametrize(
    ("name", "number"),
    [("scan-1", 1), ("scan-120", 120), ("scan-0", None), ("scan-01", None), ("scan-x", None), ("other-1", None)],
)
def test_a_run_is_known_by_its_name_and_its_controller(name: str, number: int | None) -> None:
    found = run_of(a_stream(), job(name, stream_uid=STREAM_UID))
    assert (found.number if found else None) == number
    assert run_of(a_stream(), job(name)) is None
    assert run_of(a_stream(), job(name, stream_uid=STREAM_UID, key=Key("other", name))) is None


def test_a_runs_files_come_home_as_they_are_closed_whatever_its_app_says() -> None:
    made = planned(jobs=(run(1),), apps=(app(outputs={"collect": "AtEnd"}),))
    (create,) = (one for one in made.actions if isinstance(one, CreatePod))
    (volume,) = (one for one in create.manifest["spec"]["volumes"] if one["name"] == "edgewise-outputs")
    assert volume["csi"]["volumeAttributes"]["collect"] == "OnClose"


@pytest.mark.parametrize(
    ("status", "expected"),
    [(at_work(), Verdict.PENDING), (ended(), Verdict.PUBLISHED), (ended("NodeLost"), Verdict.PUBLISHED)],
)
def test_files_of_a_run_are_the_streams_however_it_ended(status: EdgeJobStatus, expected: Verdict) -> None:
    assert verdict(manifest(POD), run(1, status)) is expected


# --- how a stream stands


@pytest.mark.parametrize(
    ("status", "phase", "reasons"),
    [
        (EdgeJobStatus(), StreamPhase.PENDING, ("Pending", "Fine", "+Pending")),
        (at_work(Phase.BOUND, Outcome.STARTING), StreamPhase.BOUND, ("Bound", "Fine", "+Bound")),
        (at_work(), StreamPhase.RUNNING, ("+Running", "Fine", "Settled")),
        (
            EdgeJobStatus(phase=Phase.PENDING, conditions=(condition("Stalled", reason="AppNotFound", message="no"),)),
            StreamPhase.PENDING,
            ("AppNotFound", "+AppNotFound", "Settled"),
        ),
    ],
)
def test_a_stream_stands_as_its_run_does(status: EdgeJobStatus, phase: StreamPhase, reasons: tuple[str, ...]) -> None:
    found = written(plan(a_stream(status=settled()), run(1, status), pods=(POD,)))
    assert (found.phase, said(found), found.device) == (phase, reasons, status.node)


# --- what follows the end of a run


@pytest.mark.parametrize(
    ("status", "quick_ends", "pause", "then"),
    [
        (ended(), 0, 10, 1),
        (ended("", outcome=Outcome.SUCCEEDED, phase=Phase.COLLECTING), 0, 10, 1),
        (ended(), 1, 20, 2),
        (ended(), 4, 160, 5),
        (ended(), 5, 300, 6),
        (ended(), 500, 300, 501),
        (ended(lasted=STEADY.total_seconds()), 5, 10, 1),
        (ended(lasted=STEADY.total_seconds() - 1), 5, 300, 6),
        (ended("NodeLost", outcome=Outcome.LOST), 3, 0, 3),
        (ended("Hot", outcome=Outcome.DISRUPTED), 3, 0, 3),
        (ended("Deleted", outcome=Outcome.DISRUPTED), 3, 0, 3),
        (ended("Evicted", outcome=Outcome.DISRUPTED, lasted=STEADY.total_seconds()), 3, 0, 0),
        (ended("NodeLost", outcome=Outcome.LOST, began=False), 0, 0, 1),
        (ended("NodeLost", outcome=Outcome.LOST, began=False), 1, 20, 2),
        (ended("Unschedulable", outcome=Outcome.DISRUPTED, began=False), 0, 10, 1),
        (ended("Interrupted", outcome=Outcome.DISRUPTED), 0, 10, 1),
        (ended(outcome=Outcome.CANCELLED, phase=Phase.CANCELLED), 4, 0, 4),
    ],
)
def test_how_long_the_next_run_waits(status: EdgeJobStatus, quick_ends: int, pause: float, then: int) -> None:
    one = run_of(a_stream(), run(1, status))
    assert one is not None
    assert pause_after(one, quick_ends) == (seconds(pause), then)


def test_after_an_exit_the_next_run_waits() -> None:
    of = a_stream(status=settled(phase="Running"))
    first = plan(of, run(1, ended()))
    status = written(first)
    assert started(first) == []
    assert (status.phase, status.next_run_at) == (StreamPhase.RESTARTING, NOW + seconds(10))
    assert said(status) == ("BackOff", "Fine", "+BackOff")
    assert first.wake_at == NOW + seconds(10)
    assert [(event.reason, event.warning) for event in told(first)] == [("RunEnded", True)]
    waiting = replace(of, status=status)
    assert ours(plan(waiting, run(1, ended()), now=NOW + seconds(9))) == []
    assert started(plan(waiting, run(1, ended()), now=NOW + seconds(10))) == ["scan-2"]
    second = written(plan(waiting, run(1, ended()), run(2), now=NOW + seconds(10)))
    assert (second.run_number, second.restarts, second.quick_ends, second.next_run_at) == (2, 1, 1, None)


def test_each_end_counts_once_however_often_it_is_looked_at() -> None:
    of = a_stream(status=settled(2, restarts=4, quick_ends=2))
    runs = (run(2, ended(ago=60)), run(3))
    status = written(plan(of, *runs))
    assert (status.restarts, status.quick_ends) == (5, 3)
    again = plan(replace(of, status=status), *runs)
    assert ours(again) == []


def test_no_run_follows_one_of_which_the_status_does_not_tell() -> None:
    of = a_stream(status=settled(1))
    first = plan(of, run(1, ended(ago=600)), run(2, ended(ago=500)))
    assert started(first) == []
    status = written(first)
    assert (status.run_number, status.quick_ends) == (2, 1)
    assert patch(first) is not None
    assert started(plan(replace(of, status=status), run(1, ended(ago=600)), run(2, ended(ago=500)))) == ["scan-3"]


def test_the_next_run_does_not_wait_for_files() -> None:
    home = ended("", outcome=Outcome.SUCCEEDED, ago=10, phase=Phase.COLLECTING)
    collecting = home.model_copy(update={"conditions": (), "completion_time": None})
    done = pod(PodPhase.SUCCEEDED)
    assert started(plan(a_stream(status=settled()), run(1, collecting), pods=(done,))) == ["scan-2"]


LOST = ended("NodeLost", outcome=Outcome.LOST)
HOT = ended("Hot", outcome=Outcome.DISRUPTED)


@pytest.mark.parametrize(
    ("status", "node", "left", "follows"),
    [
        (LOST, device(beat=beat(age=999)), POD, True),
        (LOST, device(), POD, False),
        (HOT, device(), POD, False),
        (HOT, device(), pod(PodPhase.FAILED), True),
        (HOT, device(beat=beat(age=999), kube=None), POD, True),
    ],
    ids=["its device is dead", "its device is back", "its pod is ending", "its pod has ended", "it died meanwhile"],
)
def test_the_next_run_starts_when_the_last_one_can_do_nothing_any_more(
    status: EdgeJobStatus, node: Any, left: PodView, follows: bool
) -> None:
    silent = node.beat.age > seconds(60)
    if silent and node.kube is not None:
        node = replace(node, kube=replace(node.kube, ready=None))
    made = plan(a_stream(status=settled()), run(1, status), pods=(left,), nodes=(node, device("edge-2")))
    assert started(made) == ["scan-2"] * follows
    if not follows:
        assert said(written(made)) == ("Ending", "Fine", "+Ending")


def test_the_pod_of_a_run_that_somebody_deleted_is_waited_for() -> None:
    of, left = a_stream(status=settled()), replace(POD, job="scan-1", deleting=True)
    assert started(plan(of, pods=(left,))) == []
    assert started(plan(of, pods=(replace(left, phase=PodPhase.FAILED),))) == ["scan-2"]
    status = written(plan(of, run(2)))
    assert (status.restarts, status.quick_ends) == (1, 0)
    assert "scan-1 was deleted" in told(plan(of, run(2)))[0].message


def test_a_refused_run_is_offered_again() -> None:
    refusal = Refusal("exceeded quota", NOW + seconds(5), 1)
    of = a_stream(status=settled(2))
    made = plan(of, refusals={of.uid: refusal})
    assert started(made) == []
    assert said(written(made)) == ("RunRefused", "+RunRefused", "Settled")
    assert made.wake_at == NOW + seconds(5)
    assert started(plan(of, refusals={of.uid: refusal}, now=NOW + seconds(5))) == ["scan-3"]


def test_a_name_that_something_else_has() -> None:
    of = a_stream()
    assert said(written(plan(of, job("scan-1")))) == ("NameTaken", "+NameTaken", "Settled")
    old = job("scan-1", stream_uid="of-one-before")
    assert said(written(plan(of, old))) == ("NameTaken", "Fine", "+NameTaken"), "it goes by itself"


# --- what a user asks for


def test_suspend_ends_the_run_and_resuming_starts_another() -> None:
    of = a_stream(status=settled(phase="Running"), spec={"suspend": True})
    first = plan(of, run(1, at_work()), pods=(POD,))
    assert changed(first) == {"scan-1": {"cancel": True}}
    assert said(written(first)) == ("Ending", "Fine", "+Ending")
    over = ended(outcome=Outcome.CANCELLED, phase=Phase.CANCELLED)
    second = plan(of, run(1, over), pods=(POD,))
    assert said(written(second)) == ("Ending", "Fine", "+Ending"), "its pod has yet to end"
    third = plan(of, run(1, over), pods=(pod(PodPhase.FAILED),))
    status = written(third)
    assert (started(third), changed(third)) == ([], {})
    assert (status.phase, said(status)) == (StreamPhase.SUSPENDED, ("+Suspended", "Fine", "Settled"))
    resumed = replace(a_stream(), status=status)
    assert started(plan(resumed, run(1, over))) == ["scan-2"]
    assert written(plan(resumed, run(1, over), run(2))).restarts == 0, "it was no restart"


def test_an_edit_of_the_template_replaces_the_run() -> None:
    old, new = a_stream(), a_stream(status=settled(), template={"args": ["--other"]})
    first = plan(new, run(1, at_work(), old), pods=(POD,))
    assert changed(first) == {"scan-1": {"cancel": True}}
    over = ended(outcome=Outcome.CANCELLED, phase=Phase.CANCELLED)
    assert started(plan(new, run(1, over, old), pods=(POD,))) == []
    made = plan(new, run(1, over, old))
    assert started(made) == ["scan-2"]
    assert changed(plan(new, run(1, over, old), run(2, at_work(), new))) == {}


def test_priority_and_retention_are_changed_where_they_are() -> None:
    of = a_stream(status=settled(2), template={"priority": 5, "retention": {"results": "7d"}})
    made = plan(of, run(1, ended(), a_stream()), run(2, at_work(), a_stream()))
    retention = {"pods": "1h", "results": "7d"}
    assert changed(made) == {"scan-1": {"retention": retention}, "scan-2": {"retention": retention, "priority": 5}}


def test_nothing_is_done_for_a_stream_that_is_being_deleted() -> None:
    assert ours(plan(a_stream(deleting=True))) == []


# --- history


def history(*, limit: int, told: int, **values: Any) -> list[str]:
    runs = [run(number, ended(ago=3600 - number)) for number in range(1, 6)]
    of = a_stream(status=settled(told), spec={"runsHistoryLimit": limit})
    return removed(plan(of, *runs, run(6, at_work()), **values))


def report(state: VolumeState, **values: Any) -> VolumeReport:
    return VolumeReport(pod_uid=POD.uid, job_uid=JOB_UID, attempt=1, state=state, **values)


@pytest.mark.parametrize(
    ("limit", "told", "expected"),
    [
        (3, 6, ["scan-1", "scan-2"]),
        (0, 6, ["scan-1", "scan-2", "scan-3", "scan-4", "scan-5"]),
        (5, 6, []),
        (0, 2, ["scan-1"]),
    ],
)
def test_old_runs_are_removed(limit: int, told: int, expected: list[str]) -> None:
    assert history(limit=limit, told=told) == expected


def test_a_run_stays_while_something_of_it_may_come_home() -> None:
    waits = report(VolumeState.SPOOLED)
    assert history(limit=3, told=6, nodes=(device(beat=beat(volumes=(waits,))),)) == ["scan-2"]
    assert history(limit=3, told=6, pods=(POD,)) == ["scan-2"]
    assert history(limit=3, told=6, leading_for=seconds(60)) == []
    fresh = (run(1, ended(ago=60)), run(2, at_work()))
    made = plan(a_stream(status=settled(2), spec={"runsHistoryLimit": 0}), *fresh)
    assert removed(made) == []
    assert made.wake_at is not None
    assert made.wake_at <= NOW + seconds(60)


# --- lag


def lagging(file_age: float | None, status: EdgeStreamStatus, now: datetime = NOW, **values: Any) -> Plan:
    of = a_stream(status=status, **values)
    volume = report(VolumeState.LIVE, last_file_seconds=file_age)
    node = device(beat=beat(age=0, now=now, volumes=(volume,)))
    return plan(of, run(1, at_work()), pods=(POD,), nodes=(node,), now=now)


def standing() -> EdgeStreamStatus:
    """The status of a running stream of which no file has come home."""
    return written(lagging(None, settled()))


def test_the_first_file_is_written_at_once_and_later_ones_once_a_minute() -> None:
    first = written(lagging(2, standing()))
    assert (first.last_file_time, first.lag_seconds) == (NOW - seconds(2), 2)
    for after in (1, 30, 61):
        assert patch(lagging(2, first, NOW + seconds(after))) is None or after >= 60
    later = written(lagging(2, first, NOW + seconds(61)))
    assert (later.last_file_time, later.lag_seconds) == (NOW + seconds(59), 2)


def test_a_lag_is_written_as_it_grows_by_minutes() -> None:
    first = written(lagging(2, standing()))
    quiet = lagging(2 + 59, first, NOW + seconds(59))
    assert patch(quiet) is None
    assert quiet.wake_at == NOW + seconds(60)
    assert written(lagging(2 + 60, first, NOW + seconds(60))).lag_seconds == 62


def test_no_lag_while_suspended_and_none_before_the_first_file() -> None:
    assert standing().lag_seconds is None
    before = settled(last_file_time=NOW - seconds(9), lag_seconds=3)
    of = a_stream(status=before, spec={"suspend": True})
    status = written(plan(of, run(1, ended(outcome=Outcome.CANCELLED, phase=Phase.CANCELLED))))
    assert (status.last_file_time, status.lag_seconds) == (NOW - seconds(9), None)


def test_files_of_a_run_that_has_ended_count_too() -> None:
    home = Results(state=ResultsState.COMPLETE, file_count=2, completed_at=NOW - seconds(3), pod_uid=POD.uid)
    status = ended("", outcome=Outcome.SUCCEEDED, ago=5, phase=Phase.SUCCEEDED).model_copy(update={"results": home})
    assert written(plan(a_stream(status=settled()), run(1, status))).last_file_time == NOW - seconds(3)


def test_a_beat_from_the_future_makes_no_negative_lag() -> None:
    found = written(lagging(0, standing(), NOW))
    assert found.lag_seconds == 0
    assert timedelta() <= NOW - (found.last_file_time or NOW)
