"""What becomes of an EdgeCronJob: which runs start, are skipped, missed, replaced or removed, and what is told."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from edgewise.api import Condition, ConditionStatus, EdgeCronJobStatus, EdgeJobStatus, RunNow
from edgewise.domain.actions import Action, CreateRun, DeleteRun, Event, PatchStatus, Plan
from edgewise.domain.runs import asked_key, run_of, scheduled_key
from edgewise.domain.schedule import _next
from edgewise.domain.views import CronView, JobView, Key, PodPhase, Refusal
from edgewise_agent.wire import VolumeReport, VolumeState
from msgspec.structs import replace as struct_replace

from tests.domain.builders import CRON_UID, NOW, beat, cron, device, job, manifest, planned, pod, seconds

TEXT = "*/5 * * * * UTC"


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def settled(**values: Any) -> EdgeCronJobStatus:
    """A status in which the schedule is known since 11:30, and the run of 11:55 was the last."""
    known: dict[str, Any] = {
        "schedule": TEXT,
        "schedule_since": NOW - minutes(30),
        "last_schedule_time": NOW - minutes(5),
    }
    return EdgeCronJobStatus(**(known | values))


def ended(condition: str, at: datetime) -> EdgeJobStatus:
    """The status of a run that has ended, as `Complete` or `Failed`."""
    conditions = tuple(
        Condition(
            type=name, status=ConditionStatus.TRUE, reason="Succeeded", message="it is done", last_transition_time=at
        )
        for name in (condition, "Finished")
    )
    return EdgeJobStatus(conditions=conditions, completion_time=at)


def run(at: datetime | str, of: CronView | None = None, **values: Any) -> JobView:
    """A run: for a scheduled time, or by its name."""
    of = of or cron()
    name = at if isinstance(at, str) else scheduled_key(of, at).name
    created = NOW if isinstance(at, str) else at
    view: dict[str, Any] = {"name": name, "uid": f"uid-{name}", "cron_uid": of.uid, "created_at": created}
    return job(**(view | values))


def going_on(*runs: JobView) -> dict[str, Any]:
    """What the status says of runs that go on."""
    active = [{"name": one.key.name, "uid": one.uid} for one in runs]
    return {"active": active, "active_count": len(active)}


def plan(of: CronView, *runs: JobView, now: datetime = NOW, refusal: Refusal | None = None, **known: Any) -> Plan:
    world: dict[str, Any] = {"nodes": (), "apps": (), "refusals": {of.uid: refusal} if refusal else {}}
    planned_ = planned(now, crons=(of,), jobs=runs, **(world | known))
    assert not planned_.faults, planned_.faults
    return planned_


def ours(plan: Plan) -> list[Action]:
    """The plan's actions about EdgeCronJobs and their runs."""
    about = (CreateRun, DeleteRun)
    patches = (one for one in plan.actions if isinstance(one, PatchStatus) and one.plural == "edgecronjobs")
    return [*(one for one in plan.actions if isinstance(one, about)), *patches]


def started(plan: Plan) -> list[str]:
    return [one.manifest["metadata"]["name"] for one in plan.actions if isinstance(one, CreateRun)]


def removed(plan: Plan) -> list[str]:
    return [one.job.name for one in plan.actions if isinstance(one, DeleteRun)]


def patch(plan: Plan) -> PatchStatus | None:
    return next((one for one in ours(plan) if isinstance(one, PatchStatus)), None)


def written(plan: Plan) -> EdgeCronJobStatus:
    found = patch(plan)
    assert found is not None, plan.actions
    return EdgeCronJobStatus.model_validate(found.new)


def told(plan: Plan) -> list[Event]:
    found = patch(plan)
    return list(found.events) if found else []


def reasons(plan: Plan) -> list[str]:
    return [event.reason for event in told(plan)]


def condition(status: EdgeCronJobStatus, name: str) -> tuple[str, str]:
    return next((one.status, one.reason) for one in status.conditions if one.type == name)


def name_of(at: datetime) -> str:
    return scheduled_key(cron(), at).name


# --- a run that is due


def test_a_run_is_made_when_it_is_due_and_written_when_it_is_there() -> None:
    due = cron(status=settled(), spec={"schedule": "*/5 * * * *"})
    first = plan(due)
    assert started(first) == ["nightly-29539440"] == [name_of(NOW)]
    assert patch(first) is None, "the answer to the creation brings the next state at once"
    second = plan(due, run(NOW))
    status = written(second)
    assert started(second) == []
    assert (status.last_schedule_time, status.next_schedule_time) == (NOW, NOW + minutes(5))
    assert [(one.name, one.scheduled_time) for one in status.active] == [(name_of(NOW), NOW)]
    assert status.active_count == 1
    assert reasons(second) == ["RunStarted"]
    assert "2026-03-01 12:00 UTC" in told(second)[0].message
    assert ours(plan(replace(due, status=status), run(NOW))) == []


def test_a_run_is_an_edge_job_of_the_cron_job() -> None:
    template = {
        "metadata": {"labels": {"team": "a", "edgewise.dev/cron-job": "x"}, "annotations": {"note": "b"}},
        "spec": {"appRef": {"name": "faces"}, "disconnect": {"replaceAfterSeconds": "Never"}, "priority": 3},
    }
    of = cron(status=settled(), spec={"jobTemplate": template})
    (create,) = (one for one in plan(of).actions if isinstance(one, CreateRun))
    assert (create.owner, create.owner_uid) == (of.key, of.uid)
    meta = create.manifest["metadata"]
    assert meta["labels"] == {"team": "a", "edgewise.dev/cron-job": "nightly"}
    assert meta["annotations"] == {"note": "b", "edgewise.dev/scheduled-at": "2026-03-01T12:00:00Z"}
    (owner,) = meta["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("EdgeCronJob", CRON_UID, True)
    spec = {"appRef": {"name": "faces"}, "disconnect": {"replaceAfterSeconds": None}, "priority": 3}
    assert create.manifest["spec"] == spec, "only what was given"


def test_nothing_starts_before_it_is_due_and_the_plan_asks_to_be_woken_then() -> None:
    early = plan(cron(status=settled()), now=NOW - minutes(1))
    assert started(early) == []
    assert early.wake_at == NOW


def test_a_time_zone_counts() -> None:
    spec = {"schedule": "0 13 * * *", "timeZone": "Europe/Berlin"}
    of = cron(spec=spec, status=settled(schedule="0 13 * * * Europe/Berlin", last_schedule_time=None))
    assert started(plan(of)) == [name_of(NOW)]
    assert started(plan(of, now=NOW - minutes(1))) == []


def test_a_new_cron_job_starts_nothing_for_times_before_it_was_made() -> None:
    of = cron(created_at=NOW - minutes(2))
    first = plan(of, now=NOW - minutes(1))
    assert started(first) == []
    status = written(first)
    assert (status.schedule, status.schedule_since) == (TEXT, NOW - minutes(2))
    assert (status.observed_generation, condition(status, "Ready")) == (1, ("True", "Scheduled"))
    assert started(plan(replace(of, status=status))) == [name_of(NOW)]


def test_one_that_was_made_while_nobody_looked_has_its_run() -> None:
    assert started(plan(cron())) == [name_of(NOW)], "made at 11:30, seen for the first time at 12:00"


def test_one_that_is_being_deleted_starts_nothing() -> None:
    assert ours(plan(cron(status=settled(), deleting=True))) == []


def test_a_fleet_without_cron_jobs_has_no_more_to_do() -> None:
    assert ours(planned(jobs=(job(),))) == []


# --- missed times


@pytest.mark.parametrize(
    ("last", "deadline", "now", "run_for"),
    [
        (5, None, 0, 0),
        (60, None, 2, 0),  # of many missed times, the latest
        (60, 180, 2, 0),
        (60, 120, 2, 0),
        (60, 119, 2, None),  # too late
        (60, 1, 5, 5),
    ],
)
def test_of_missed_times_the_latest_is_run_if_it_is_not_too_late(
    last: int, deadline: int | None, now: int, run_for: int | None
) -> None:
    of = cron(
        status=settled(last_schedule_time=NOW - minutes(last)),
        spec={"startingDeadlineSeconds": deadline},
        created_at=NOW - minutes(600),
    )
    expected = [] if run_for is None else [name_of(NOW + minutes(run_for))]
    assert started(plan(of, now=NOW + minutes(now))) == expected


def test_a_missed_time_is_told_once() -> None:
    of = cron(status=settled(), spec={"startingDeadlineSeconds": 30})
    late = plan(of, now=NOW + minutes(1))
    status = written(late)
    assert (reasons(late), status.last_skipped_time) == (["RunMissed"], NOW)
    assert condition(status, "Ready") == ("True", "RunMissed")
    again = plan(replace(of, status=status), now=NOW + minutes(1))
    assert ours(again) == []
    further = plan(replace(of, status=status), now=NOW + minutes(6))
    assert written(further).last_skipped_time == NOW + minutes(5)
    assert reasons(further) == [], "the second in a row is not told again"


def test_a_late_run_says_what_was_missed_before_it() -> None:
    of = cron(status=settled(schedule_since=NOW - minutes(120), last_schedule_time=NOW - minutes(60)))
    late = plan(of, run(NOW, created_at=NOW + minutes(3)), now=NOW + minutes(3))
    assert reasons(late) == ["RunStarted"]
    assert "180 s late; 11 scheduled times before it had no run" in told(late)[0].message


def test_over_a_hundred_missed_times_are_a_warning_and_the_latest_is_run() -> None:
    of = cron(status=settled(schedule_since=NOW - minutes(9000), last_schedule_time=NOW - minutes(600)))
    assert started(plan(of)) == [name_of(NOW)]
    there = plan(of, run(NOW))
    assert reasons(there) == ["RunStarted", "TooManyMissed"]
    assert "set spec.startingDeadlineSeconds" in told(there)[1].message


# --- concurrency


def test_allow_runs_side_by_side() -> None:
    earlier = run(NOW - minutes(5))
    of = cron(status=settled(**going_on(earlier)))
    assert (started(plan(of, earlier)), removed(plan(of, earlier))) == ([name_of(NOW)], [])


def test_forbid_skips_while_a_run_goes_on_and_tells_it_once() -> None:
    earlier = run(NOW - minutes(5))
    of = cron(spec={"concurrencyPolicy": "Forbid"}, status=settled(**going_on(earlier)))
    skipping = plan(of, earlier)
    assert (started(skipping), removed(skipping)) == ([], [])
    status = written(skipping)
    assert (reasons(skipping), status.last_skipped_time) == (["RunSkipped"], NOW)
    assert earlier.key.name in told(skipping)[0].message
    assert condition(status, "Ready") == ("True", "StillRunning")
    of = replace(of, status=status)
    assert ours(plan(of, earlier, now=NOW + minutes(1))) == []
    assert reasons(plan(of, earlier, now=NOW + minutes(5))) == []


def test_forbid_makes_up_for_the_latest_skipped_time_as_long_as_it_is_not_too_late() -> None:
    earlier = run(NOW - minutes(5), status=ended("Complete", NOW + minutes(2)))
    for deadline, runs in ((None, [name_of(NOW)]), (180, [name_of(NOW)]), (60, [])):
        spec = {"concurrencyPolicy": "Forbid", "startingDeadlineSeconds": deadline}
        of = cron(spec=spec, status=settled(last_skipped_time=NOW, **going_on(earlier)))
        assert started(plan(of, earlier, now=NOW + minutes(2))) == runs


def test_replace_deletes_what_still_runs_and_then_starts() -> None:
    earlier = run(NOW - minutes(5))
    of = cron(spec={"concurrencyPolicy": "Replace"}, status=settled(**going_on(earlier)))
    first = plan(of, earlier)
    assert (removed(first), started(first)) == ([earlier.key.name], [])
    second = plan(of)
    assert (removed(second), started(second)) == ([], [name_of(NOW)])
    third = plan(of, run(NOW))
    assert sorted(reasons(third)) == ["RunReplaced", "RunStarted"]
    assert written(third).active_count == 1


def test_replace_waits_until_the_old_run_is_gone() -> None:
    leaving = run(NOW - minutes(5), deleting=True)
    of = cron(spec={"concurrencyPolicy": "Replace"}, status=settled(**going_on(leaving)))
    waiting = plan(of, leaving)
    assert (started(waiting), removed(waiting)) == ([], [])
    assert condition(written(waiting), "Ready") == ("True", "Replacing")
    (ready,) = (one for one in written(waiting).conditions if one.type == "Ready")
    assert ready.message == f"the run for 2026-03-01 12:00 UTC starts when {leaving.key.name} is gone"


def test_replace_deletes_no_run_before_the_status_tells_of_it() -> None:
    """Deleted untold, its minute would seem to have had no run."""
    of = cron(spec={"concurrencyPolicy": "Replace"}, status=settled(), run_now="now")
    asked = run(asked_key(of, "now", 1).name)
    untold = run(NOW)
    first = plan(of, untold, asked, now=NOW + minutes(5))
    assert (removed(first), started(first)) == ([], [])
    status = written(first)
    assert sorted(reasons(first)) == ["RunStarted", "RunStarted"]
    second = plan(replace(of, status=status), untold, asked, now=NOW + minutes(5))
    assert set(removed(second)) == {untold.key.name, asked.key.name}


def test_a_run_that_somebody_deletes_is_told_and_not_made_again() -> None:
    of = cron(status=settled(**going_on(run(NOW - minutes(5)))))
    gone = plan(of, now=NOW - minutes(1))
    assert (reasons(gone), started(gone), written(gone).active_count) == (["RunGone"], [], 0)
    assert told(gone)[0].message == f"{name_of(NOW - minutes(5))} was deleted; when it was last seen, it had not ended"


# --- suspend


def test_suspended_starts_nothing_and_when_resumed_the_latest_missed_time() -> None:
    suspended = cron(spec={"suspend": True}, status=settled())
    held = plan(suspended)
    assert started(held) == []
    status = written(held)
    assert (condition(status, "Ready"), status.next_schedule_time) == (("True", "Suspended"), None)
    resumed = cron(status=status)
    assert started(plan(resumed, now=NOW + minutes(17))) == [name_of(NOW + minutes(15))]
    with_deadline = cron(status=status, spec={"startingDeadlineSeconds": 60})
    assert started(plan(with_deadline, now=NOW + minutes(17))) == []


# --- edits


def test_a_changed_schedule_holds_from_now_on() -> None:
    edited = cron(spec={"schedule": "*/10 * * * *"}, status=settled(last_schedule_time=NOW - minutes(60)), generation=2)
    seen = plan(edited, now=NOW + minutes(2))
    assert started(seen) == [], "12:00 had been due, had the schedule been this one then"
    status = written(seen)
    assert (status.schedule, status.schedule_since) == ("*/10 * * * * UTC", NOW + minutes(2))
    assert (status.next_schedule_time, status.observed_generation) == (NOW + minutes(10), 2)
    write = patch(seen)
    assert write is not None
    assert write.awaited, "were it written late, the times until then would be lost"
    assert started(plan(replace(edited, status=status), now=NOW + minutes(10))) == [name_of(NOW + minutes(10))]


@pytest.mark.parametrize("spec", [{"schedule": "*/5  * * * * "}, {"timeZone": "UTC"}, {"failedJobsHistoryLimit": 2}])
def test_an_edit_that_leaves_the_schedule_as_it_is_loses_nothing(spec: dict[str, Any]) -> None:
    edited = cron(spec=spec, status=settled(), generation=2)
    assert started(plan(edited)) == [name_of(NOW)]


def test_what_can_not_be_read_stalls_and_goes_on_when_it_is_corrected() -> None:
    wrong = cron(spec={"timeZone": "Mars/Olympus"}, status=settled(), generation=2)
    stalled = plan(wrong)
    status = written(stalled)
    assert started(stalled) == []
    assert (condition(status, "Stalled"), condition(status, "Ready")) == (
        ("True", "UnknownTimeZone"),
        ("False", "UnknownTimeZone"),
    )
    assert (reasons(stalled), status.next_schedule_time) == (["UnknownTimeZone"], None)
    assert ours(plan(replace(wrong, status=status), now=NOW + minutes(9))) == []
    corrected = plan(cron(status=status, generation=3), now=NOW + minutes(9))
    assert started(corrected) == [name_of(NOW + minutes(5))]


def test_a_schedule_that_could_never_be_read_holds_from_its_correction_on() -> None:
    wrong = cron(spec={"schedule": "61 * * * *"})
    status = written(plan(wrong, now=NOW - minutes(20)))
    assert (status.schedule, status.schedule_since) == ("", None)
    corrected = cron(status=status, generation=2)
    seen = plan(corrected, now=NOW + minutes(1))
    assert started(seen) == [], "12:00 had been due, had the schedule been this one then"
    assert written(seen).schedule_since == NOW + minutes(1)
    assert started(plan(replace(corrected, status=written(seen)), now=NOW + minutes(5))) == [name_of(NOW + minutes(5))]


def test_what_comes_next_is_worked_out_once_a_minute() -> None:
    of = cron(status=settled(last_schedule_time=NOW))
    plan(of, now=NOW + minutes(1))
    before = _next.cache_info().misses
    for second in range(60):
        plan(of, now=NOW + minutes(1) + seconds(second))
    assert _next.cache_info().misses == before


# --- names, refusals and clocks


def test_a_name_that_is_taken_is_told_and_waited_for() -> None:
    stranger = job(name_of(NOW), uid="another")
    of = cron(status=settled())
    blocked = plan(of, stranger)
    assert (started(blocked), removed(blocked)) == ([], [])
    assert condition(written(blocked), "Stalled") == ("True", "NameTaken")
    assert started(plan(of, stranger, now=NOW + minutes(5))) == [name_of(NOW + minutes(5))]
    assert started(plan(of)) == [name_of(NOW)]


def test_a_refused_run_is_offered_again_later() -> None:
    of = cron(status=settled())
    refusal = Refusal("quota exceeded", NOW + minutes(1), 1)
    refused = plan(of, refusal=refusal)
    assert started(refused) == []
    assert condition(written(refused), "Stalled") == ("True", "RunRefused")
    assert reasons(refused) == ["RunRefused"]
    assert refused.wake_at == NOW + minutes(1)
    again = plan(of, refusal=refusal, now=NOW + minutes(1))
    assert started(again) == [name_of(NOW)]
    assert patch(again) is None, "the answer says whether it is still refused"


def test_a_clock_that_is_set_back_starts_nothing_twice() -> None:
    of = cron(status=settled(last_schedule_time=NOW))
    assert started(plan(of, now=NOW - minutes(3))) == []
    unwritten = cron(status=settled())
    assert started(plan(unwritten, run(NOW), now=NOW - minutes(3))) == []
    far = plan(of, now=NOW - minutes(300))
    status = written(far)
    assert condition(status, "Ready") == ("False", "ClockSetBack")
    assert (started(far), status.next_schedule_time) == ([], NOW + minutes(5))
    edited = cron(status=settled(schedule_since=NOW, last_schedule_time=NOW - minutes(400)))
    assert condition(written(plan(edited, now=NOW - minutes(300))), "Ready") == ("False", "ClockSetBack")


def test_a_clock_that_jumps_forward_runs_the_latest_time_alone() -> None:
    of = cron(status=settled())
    assert started(plan(of, now=NOW + timedelta(days=400))) == [name_of(NOW + timedelta(days=400))]


@pytest.mark.parametrize(
    ("name", "scheduled"),
    [
        ("nightly-29539440", True),
        ("nightly-now-abcdef", False),
        ("nightly-now-abc", None),
        ("nightly-", None),
        ("nightly-1x", None),
        ("nightly-99999999999", None),
        ("nightly-²", None),
        ("x-nightly-29539440", None),
        ("other-29539440", None),
    ],
)
def test_a_run_is_known_by_its_controller_and_its_name(name: str, scheduled: bool | None) -> None:
    found = run_of(cron(), run(name))
    assert (found and found.scheduled_time is not None) == scheduled
    assert run_of(cron(), run(name, cron_uid="another")) is None
    assert run_of(cron(), replace(run(name), key=Key("other", name))) is None


# --- run now


def test_each_new_value_of_the_annotation_is_one_run_at_once() -> None:
    earlier = run(NOW - minutes(5))
    spec = {"suspend": True, "concurrencyPolicy": "Forbid"}
    of = cron(spec=spec, status=settled(**going_on(earlier)), run_now="first")
    key = asked_key(of, "first", 1)
    (create,) = (one for one in plan(of, earlier).actions if isinstance(one, CreateRun))
    assert create.manifest["metadata"]["name"] == key.name
    assert create.manifest["metadata"]["annotations"] == {"edgewise.dev/run-now": "first"}
    there = plan(of, earlier, run(key.name))
    status = written(there)
    assert status.run_now == RunNow(token="first", number=1, name=key.name)
    assert (reasons(there), status.active_count) == (["RunStarted"], 2)
    assert "as the annotation edgewise.dev/run-now asks" in told(there)[0].message
    answered = replace(of, status=status)
    assert started(plan(answered, earlier)) == [], "applied again, the run deleted"
    second = replace(answered, run_now="second")
    assert started(plan(second, earlier)) == [asked_key(of, "second", 2).name]


def test_the_same_value_again_after_another_is_a_new_run() -> None:
    of = cron(
        status=settled(run_now={"token": "second", "number": 2, "name": "x"}), run_now="first", spec={"suspend": True}
    )
    assert started(plan(of)) == [asked_key(of, "first", 3).name]
    assert asked_key(of, "first", 3) != asked_key(of, "first", 1)


def test_a_long_value_is_recorded_by_its_digest() -> None:
    of = cron(status=settled(), run_now="x" * 5000, spec={"suspend": True})
    (create,) = (one for one in plan(of).actions if isinstance(one, CreateRun))
    name = create.manifest["metadata"]["name"]
    status = written(plan(of, run(name)))
    assert status.run_now is not None
    assert status.run_now.token.startswith("sha256:")
    assert started(plan(replace(of, status=status), run(name))) == []


def test_a_run_can_be_asked_for_although_the_schedule_can_not_be_read() -> None:
    of = cron(status=settled(), run_now="now", spec={"timeZone": "Mars/Olympus"})
    assert len(started(plan(of))) == 1


def test_names_of_runs_fit() -> None:
    of = cron("n" * 41)
    for key in (scheduled_key(of, NOW + timedelta(days=360 * 1000)), asked_key(of, "x", 2**31 - 1)):
        assert len(key.name) <= 52


# --- history


def history(*ends: str) -> list[JobView]:
    """Runs that ended so, newest first, all before the one of 11:55."""
    times = [NOW - minutes(10 + 5 * index) for index in range(len(ends))]
    return [run(at, status=ended(end, at + minutes(1))) for at, end in zip(times, ends, strict=True)]


def test_the_oldest_ended_runs_go() -> None:
    runs = history("Complete", "Failed", "Complete", "Complete", "Failed", "Complete", "Complete")
    of = cron(status=settled(last_successful_time=NOW), spec={"suspend": True})
    assert set(removed(plan(of, *runs))) == {runs[index].key.name for index in (4, 5, 6)}
    none = cron(
        status=settled(last_successful_time=NOW),
        spec={"suspend": True, "successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0},
    )
    assert len(removed(plan(none, *runs))) == 7


def test_no_run_goes_before_the_status_tells_of_it() -> None:
    limits = {"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}
    done = run(NOW, status=ended("Complete", NOW + minutes(1)))
    of = cron(status=settled(), spec=limits)
    first = plan(of, done, now=NOW + minutes(3))
    assert removed(first) == []
    assert reasons(first) == ["RunStarted", "RunSucceeded"]
    status = written(first)
    assert status.last_successful_time == NOW + minutes(1)
    assert removed(plan(replace(of, status=status), done, now=NOW + minutes(3))) == [done.key.name]


def test_no_run_goes_before_all_that_it_brings_has_come_home() -> None:
    done = run(NOW - minutes(10), status=ended("Failed", NOW - minutes(2)))
    of = cron(status=settled(), spec={"suspend": True, "failedJobsHistoryLimit": 0})
    early = plan(of, done, now=NOW - seconds(1))
    assert (removed(early), early.wake_at) == ([], NOW)
    assert removed(plan(of, done)) == [done.key.name]
    assert removed(plan(of, done, leading_for=seconds(119))) == [], "nobody has had the time to ask for a verdict"
    over = pod(PodPhase.FAILED, job_uid=done.uid)
    asked = struct_replace(manifest(over), job_uid=done.uid)
    assert removed(plan(of, done, manifests=(asked,))) == [], "the gateway waits for a verdict"
    for state, goes in ((VolumeState.SPOOLED, []), (VolumeState.SENDING, []), (VolumeState.DONE, [done.key.name])):
        volume = VolumeReport(pod_uid=over.uid, job_uid=done.uid, attempt=1, state=state)
        assert removed(plan(of, done, nodes=(device(beat=beat(volumes=(volume,))),))) == goes
    assert removed(plan(of, done, pods=(replace(over, deleting=True),))) == [done.key.name]
    assert removed(plan(of, done, pods=(pod(job_uid=done.uid, deleting=True),))) == [], "its device is away"


def test_the_runs_that_ended_first_go_whenever_they_began() -> None:
    long = run(NOW - minutes(60), status=ended("Complete", NOW - minutes(5)))
    short = run(NOW - minutes(55), status=ended("Complete", NOW - minutes(50)))
    of = cron(status=settled(last_successful_time=NOW), spec={"suspend": True, "successfulJobsHistoryLimit": 1})
    assert removed(plan(of, long, short)) == [short.key.name]


def test_what_is_no_run_is_never_removed() -> None:
    of = cron(status=settled(last_successful_time=NOW), spec={"suspend": True, "successfulJobsHistoryLimit": 0})
    strangers = (
        run("nightly-29539430", cron_uid="", status=ended("Complete", NOW)),
        run("nightly-29539431", cron_uid="another", status=ended("Complete", NOW)),
        run("applied-by-hand", status=ended("Complete", NOW)),
    )
    assert removed(plan(of, *strangers)) == []


def test_the_end_of_a_run_is_told() -> None:
    for end, reason, warning in (("Complete", "RunSucceeded", False), ("Failed", "RunFailed", True)):
        done = run(NOW - minutes(5), status=ended(end, NOW - minutes(1)))
        over = plan(cron(status=settled(**going_on(done))), done, now=NOW - minutes(1))
        (event,) = told(over)
        assert (event.reason, event.warning) == (reason, warning)
        assert event.message == f"{done.key.name}: it is done"
        assert written(over).active == ()


def test_a_status_lists_the_newest_of_many_active_runs() -> None:
    runs = [run(NOW - minutes(5 * index)) for index in range(30)]
    status = written(plan(cron(status=settled(), spec={"suspend": True}), *runs))
    assert (status.active_count, len(status.active)) == (30, 20)
    assert status.active[-1].scheduled_time == NOW
