"""What becomes of a set: which of its runs are made, how it ends, what it passes on to them, and what is told."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from edgewise.api import Condition, ConditionStatus, EdgeJobStatus, Phase, Results, ResultsState, Runs
from edgewise.domain.actions import CreatePod, CreateRun, Event, PatchSpec, PatchStatus, Plan
from edgewise.domain.members import at_most, device_key, index_key, member_of, read, written
from edgewise.domain.sets import COUNTED_EVERY, MADE_AT_ONCE
from edgewise.domain.views import JobView, Key, NodeView, Refusal
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.builders import NOW, app, device, job, kube, planned, pod, seconds

SET_UID = "5e75e75e-0000-4000-8000-000000000001"
EVERY: dict[str, Any] = {"placement": {"everyDevice": {}}}


def a_set(status: EdgeJobStatus | None = None, *, name: str = "scan", **values: Any) -> JobView:
    """A set of four indexes; `spec` changes its spec."""
    spec = {"completions": 4} | values.pop("spec", {})
    if "everyDevice" in spec.get("placement", {}):
        del spec["completions"]
    return job(name, uid=SET_UID, status=status, spec=spec, **({"created_at": NOW - seconds(300)} | values))


def everywhere(**every: Any) -> JobView:
    """A set for every device."""
    return a_set(spec={"placement": {"everyDevice": every}})


def conditions(*names: str, message: str = "", since: datetime = NOW) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            type=name, status=ConditionStatus.TRUE, reason="AppError", message=message, last_transition_time=since
        )
        for name in names
    )


STATES: dict[str, EdgeJobStatus] = {
    "new": EdgeJobStatus(),
    "waiting": EdgeJobStatus(observed_generation=1, phase=Phase.PENDING),
    "running": EdgeJobStatus(observed_generation=1, phase=Phase.RUNNING, start_time=NOW - seconds(60)),
    "complete": EdgeJobStatus(
        phase=Phase.SUCCEEDED,
        conditions=conditions("Complete", "Finished"),
        completion_time=NOW,
        start_time=NOW - seconds(90),
        results=Results(state=ResultsState.COMPLETE, file_count=2, bytes_=100, refused_count=0),
    ),
    "failed": EdgeJobStatus(
        phase=Phase.FAILED,
        conditions=conditions("Failed", "Finished", message="it exited with 3"),
        completion_time=NOW,
        start_time=NOW - seconds(90),
    ),
    "cancelled": EdgeJobStatus(phase=Phase.CANCELLED, conditions=conditions("Failed", "Finished"), completion_time=NOW),
    "stalled": EdgeJobStatus(phase=Phase.PENDING, conditions=conditions("Stalled", message="no such image")),
}


def run(of: JobView, place: int | str, state: str = "running", **values: Any) -> JobView:
    """A run of a set in a state."""
    spec: dict[str, Any] = {"completions": of.spec.completions, "index": place}
    key = index_key(of, place) if isinstance(place, int) else device_key(of, place)
    if isinstance(place, str):
        spec = {"placement": {"nodeName": place}}
    view = job(key.name, uid=f"uid-{key.name}", status=STATES[state], spec=spec | values.pop("spec", {}))
    return replace(view, set_uid=of.uid, set_name=of.key.name, **values)


def runs(of: JobView, **states: Any) -> list[JobView]:
    """Runs by their state: `running=range(3)`."""
    return [run(of, place, state) for state, places in states.items() for place in places]


def plan(of: JobView, *members: JobView, now: datetime = NOW, **known: Any) -> Plan:
    made = planned(now, jobs=(of, *members), **({"nodes": ()} | known))
    assert not made.faults, made.faults
    return made


def made(plan: Plan) -> list[str]:
    return [one.manifest["metadata"]["name"] for one in plan.actions if isinstance(one, CreateRun)]


def steered(plan: Plan) -> dict[str, dict[str, Any]]:
    return {one.job.name: dict(one.spec) for one in plan.actions if isinstance(one, PatchSpec)}


def patch(plan: Plan, of: str = "scan") -> PatchStatus | None:
    patches = [one for one in plan.actions if isinstance(one, PatchStatus) and one.key.name == of]
    return patches[0] if patches else None


def status(plan: Plan, of: str = "scan") -> EdgeJobStatus:
    found = patch(plan, of)
    assert found is not None, plan.actions
    return EdgeJobStatus.model_validate(found.new)


def counts(plan: Plan) -> Runs:
    found = status(plan).runs
    assert found is not None
    return found


def after(plan: Plan, of: JobView) -> JobView:
    """The set as the API holds it once the plan is carried out."""
    return replace(of, status=status(plan))


def told(plan: Plan) -> list[Event]:
    found = patch(plan)
    return list(found.events) if found else []


def shown(plan: Plan, name: str) -> tuple[str, str, str]:
    return next((one.status, one.reason, one.message) for one in status(plan).conditions if one.type == name)


# --- runs are made


def test_a_set_runs_nothing_itself_and_makes_a_job_for_each_index() -> None:
    asked = a_set(spec={"retry": {"maxAttempts": 5}, "priority": 3, "placement": {"maxPerDevice": 2}})
    first = plan(asked, nodes=(device(),))
    assert made(first) == ["scan-0", "scan-1", "scan-2", "scan-3"]
    assert not [one for one in first.actions if isinstance(one, CreatePod)]
    create = next(one for one in first.actions if isinstance(one, CreateRun))
    assert (create.owner, create.owner_uid) == (asked.key, asked.uid)
    meta = create.manifest["metadata"]
    assert meta["labels"] == {"edgewise.dev/set": "scan", "edgewise.dev/index": "0"}
    (owner,) = meta["ownerReferences"]
    assert owner["uid"] == asked.uid
    assert owner["controller"]
    assert owner["blockOwnerDeletion"]
    assert create.manifest["spec"] == {
        "appRef": {"name": "faces"},
        "retry": {"maxAttempts": 5},
        "priority": 3,
        "completions": 4,
        "index": 0,
        "placement": {"maxPerDevice": 2},
    }


@pytest.mark.parametrize(
    ("spec", "there", "new"),
    [
        ({"parallelism": 2}, {}, ["scan-0", "scan-1"]),
        ({"parallelism": 2}, {"running": [0, 1]}, []),
        ({"parallelism": 2}, {"complete": [0], "running": [1]}, ["scan-2"]),
        ({"parallelism": 2, "maxFailedIndexes": 1}, {"failed": [0], "running": [1]}, ["scan-2"]),
        ({"parallelism": 2}, {"running": [1, 3]}, []),
        ({"parallelism": 9}, {"running": [3]}, ["scan-0", "scan-1", "scan-2"]),
        ({}, {"complete": range(4)}, []),
        ({"suspend": True}, {}, []),
        ({"cancel": True}, {}, []),
    ],
)
def test_so_many_go_on_at_once(spec: dict[str, Any], there: dict[str, Any], new: list[str]) -> None:
    asked = a_set(spec=spec)
    assert made(plan(asked, *runs(asked, **there))) == new


def test_a_large_set_is_made_in_parts_lowest_index_first() -> None:
    asked = a_set(spec={"completions": 1000})
    first = made(plan(asked))
    assert first == [f"scan-{index}" for index in range(MADE_AT_ONCE)]
    there = runs(asked, waiting=range(MADE_AT_ONCE))
    assert made(plan(asked, *there))[0] == f"scan-{MADE_AT_ONCE}"


def test_a_run_that_was_deleted_is_made_again_unless_it_had_ended() -> None:
    asked = a_set()
    asked = after(plan(asked, *runs(asked, complete=[0], running=[1, 2, 3])), asked)
    assert made(plan(asked, *runs(asked, running=[2, 3]))) == ["scan-1"]
    assert counts(plan(asked, *runs(asked, complete=[3], running=[2]), now=NOW + seconds(60))).succeeded == 2


@pytest.mark.parametrize(
    ("spec", "index", "known"),
    [
        ({}, 3, True),
        ({"completions": 3}, 3, False),
        ({"placement": {"everyDevice": {}}}, 3, False),
    ],
)
def test_what_is_a_run_of_a_set(spec: dict[str, Any], index: int, known: bool) -> None:
    asked = a_set(spec=spec)
    one = replace(run(a_set(), index), set_uid=asked.uid)
    assert (member_of(asked, one) is not None) is known
    assert member_of(asked, replace(one, set_uid="another")) is None
    assert member_of(asked, replace(one, key=Key("demo", "scan-2"))) is None, "its name and its index must agree"
    assert member_of(asked, replace(one, key=Key("other", one.key.name))) is None


def test_a_stranger_with_a_runs_name_is_left_alone_and_told() -> None:
    asked = a_set()
    taken = plan(asked, job("scan-1", uid="stranger"), nodes=())
    assert made(taken) == ["scan-0", "scan-2", "scan-3"]
    assert shown(taken, "Stalled")[1] == "NameTaken"
    assert "EdgeJob demo/scan-1 is no run of this set: delete it" in shown(taken, "Stalled")[2]
    assert "scan-1" not in steered(taken)


def test_what_the_api_server_refuses_is_offered_again_later() -> None:
    asked, refusal = a_set(), Refusal("exceeded quota: jobs", NOW + seconds(10), 1)
    refused = plan(asked, refusals={asked.uid: refusal})
    assert made(refused) == []
    assert shown(refused, "Stalled")[1:] == (
        "RunRefused",
        "the API server refuses the run scan-0: exceeded quota: jobs",
    )
    assert refused.wake_at == NOW + seconds(10)
    assert len(made(plan(asked, refusals={asked.uid: refusal}, now=NOW + seconds(10)))) == 4


def test_an_app_that_is_not_there_starts_nothing() -> None:
    stalled = plan(a_set(), apps=())
    assert made(stalled) == []
    assert shown(stalled, "Stalled")[1] == "AppNotFound"


# --- a run itself


def test_a_run_knows_its_index() -> None:
    asked = a_set()
    (create,) = (
        one for one in plan(asked, run(asked, 2, "new"), nodes=(device(),)).actions if isinstance(one, CreatePod)
    )
    env = {one["name"]: one["value"] for one in create.manifest["spec"]["containers"][0]["env"]}
    assert (env["EDGEWISE_JOB"], env["EDGEWISE_INDEX"], env["EDGEWISE_COMPLETIONS"]) == ("scan-2", "2", "4")
    assert create.manifest["metadata"]["labels"]["edgewise.dev/set"] == "scan"
    assert create.manifest["metadata"]["labels"]["edgewise.dev/index"] == "2"


def test_runs_spread_over_devices_and_no_more_than_so_many_are_on_one() -> None:
    asked = a_set(spec={"placement": {"maxPerDevice": 1}})
    limit = {"placement": {"maxPerDevice": 1}}
    new = [run(asked, index, "new", spec=limit) for index in range(4)]
    nodes = (device(), device("edge-2"), device("edge-3"))
    pods = [one for one in plan(asked, *new, nodes=nodes).actions if isinstance(one, CreatePod)]
    assert sorted(one.manifest["metadata"]["labels"]["edgewise.dev/node"] for one in pods) == [
        *("edge-1", "edge-2", "edge-3")
    ]
    assert [one.job.name for one in pods] == ["scan-0", "scan-1", "scan-2"], "the lowest indexes first"
    waiting = status(plan(asked, *new, nodes=nodes), "scan-3")
    assert waiting.placement is not None
    assert {one.reason for one in waiting.placement.rejected} == {"MaxPerDevice"}


def test_runs_that_are_there_count_and_those_of_others_do_not() -> None:
    asked = a_set()
    new = run(asked, 1, "new", spec={"placement": {"maxPerDevice": 1}})
    there = run(asked, 0)
    going = pod(job_uid=there.uid, key=Key("demo", "scan-0-uid-s-1"))
    busy = plan(asked, there, new, nodes=(device(),), pods=(going,))
    assert not [one for one in busy.actions if isinstance(one, CreatePod)]
    other = plan(asked, replace(there, set_uid=""), new, nodes=(device(),), pods=(going,))
    assert [one.job.name for one in other.actions if isinstance(one, CreatePod)] == ["scan-1"]


# --- the end


@pytest.mark.parametrize(
    ("spec", "there", "phase", "reason", "words"),
    [
        ({}, {"complete": range(4)}, "Succeeded", "Succeeded", "4 of 4 indexes succeeded"),
        (
            {"maxFailedIndexes": 1},
            {"complete": [0, 1, 3], "failed": [2]},
            "Succeeded",
            "FailedIndexes",
            "3 of 4 indexes succeeded",
        ),
        (
            {},
            {"complete": [0, 1, 3], "failed": [2]},
            "Failed",
            "MaxFailedIndexesExceeded",
            "1 of 4 indexes failed, more than spec.maxFailedIndexes (0) allows; index 2: it exited with 3",
        ),
        ({"maxFailedIndexes": 1}, {"complete": [0, 1], "failed": [2, 3]}, "Failed", "MaxFailedIndexesExceeded", "2 of"),
        ({"maxFailedIndexes": 4}, {"failed": range(4)}, "Failed", "FailedIndexes", "0 of 4 indexes succeeded"),
        (
            {"maxFailedIndexes": 3},
            {"failed": range(3), "complete": [3]},
            "Succeeded",
            "FailedIndexes",
            "1 of 4 indexes succeeded",
        ),
        ({}, {"complete": [0, 1, 2], "cancelled": [3]}, "Failed", "FailedIndexes", "3 of 4 indexes succeeded"),
        ({"cancel": True}, {"complete": [0]}, "Cancelled", "Cancelled", "spec.cancel"),
        ({"suspend": True}, {"complete": range(4)}, "Succeeded", "Succeeded", "4 of 4"),
    ],
)
def test_how_a_set_ends(spec: dict[str, Any], there: dict[str, Any], phase: str, reason: str, words: str) -> None:
    asked = a_set(spec=spec)
    ended = plan(asked, *runs(asked, **there))
    new = status(ended)
    assert new.phase == phase
    assert new.completion_time == NOW
    assert shown(ended, "Finished")[:2] == ("True", reason)
    assert words in shown(ended, "Finished")[2]
    assert shown(ended, "Complete")[0] == ("True" if phase == "Succeeded" else "False")
    assert shown(ended, "Failed")[0] == ("False" if phase == "Succeeded" else "True")
    assert shown(ended, "Reconciling")[0] == "False"
    assert reason in [event.reason for event in told(ended)]
    left_alone = plan(replace(asked, status=new), *runs(asked, **there))
    assert patch(left_alone) is None
    assert not steered(left_alone)


@pytest.mark.parametrize(
    ("spec", "states", "reason"),
    [
        ({"maxFailedIndexes": 0}, {"failed": [0], "running": [1, 2]}, "MaxFailedIndexesExceeded"),
        ({"cancel": True}, {"running": [1, 2]}, "Cancelled"),
        ({"activeDeadlineSeconds": 60}, {"complete": [0], "running": [1, 2]}, "DeadlineExceeded"),
    ],
)
def test_a_set_that_ends_early_cancels_what_goes_on_and_ends_after_it(
    spec: dict[str, Any], states: dict[str, Any], reason: str
) -> None:
    asked = a_set(spec=spec)
    ending = plan(asked, *runs(asked, **states))
    assert steered(ending) == {"scan-1": {"cancel": True}, "scan-2": {"cancel": True}}
    assert made(ending) == []
    assert status(ending).completion_time is None
    assert "its runs are being cancelled" in shown(ending, "Reconciling")[2]
    half = plan(asked, *runs(asked, cancelled=[1]), run(asked, 2, spec={"cancel": True}))
    assert steered(half) == {}
    last = {**states, "running": [], "cancelled": [1, 2]}
    ended = plan(after(ending, asked), *runs(asked, **last))
    assert shown(ended, "Failed")[:2] == ("True", reason)


def test_the_deadline_counts_from_the_first_run_and_anew_after_a_suspension() -> None:
    asked = a_set(spec={"activeDeadlineSeconds": 3600})
    going = plan(asked, *runs(asked, running=[0]))
    assert status(going).start_time == NOW - seconds(60)
    assert going.wake_at == NOW + seconds(3540)
    suspended = replace(after(going, asked), spec=a_set(spec={"suspend": True}).spec)
    paused = after(plan(suspended, *runs(asked, complete=[0])), asked)
    assert paused.status.start_time is None
    assert paused.status.phase == "Suspended"
    later = NOW + seconds(1000)
    resumed = after(plan(replace(paused, spec=asked.spec), *runs(asked, complete=[0]), now=later), paused)
    assert resumed.status.start_time is None, "the run that ended before does not count"
    began = later + seconds(5)
    again = replace(run(asked, 1), status=STATES["running"].model_copy(update={"start_time": began}))
    resumed = replace(resumed, spec=asked.spec)
    assert status(plan(resumed, run(asked, 0, "complete"), again, now=later + seconds(9))).start_time == began


# --- what may change


@pytest.mark.parametrize(
    ("change", "goes_on", "ended"),
    [
        ({"suspend": True}, {"suspend": True}, {}),
        ({"priority": 7}, {"priority": 7}, {}),
        ({"cancel": True}, {"cancel": True}, {}),
        (
            {"retention": {"pods": "2h"}},
            {"retention": {"pods": "2h", "results": "Forever"}},
            {"retention": {"pods": "2h", "results": "Forever"}},
        ),
        (
            {"retention": {"pods": "Forever", "results": "7d"}},
            {"retention": {"pods": "Forever", "results": "7d"}},
            {"retention": {"pods": "Forever", "results": "7d"}},
        ),
    ],
)
def test_an_edit_reaches_the_runs(change: dict[str, Any], goes_on: dict[str, Any], ended: dict[str, Any]) -> None:
    asked = a_set(spec=change)
    wanted = {name: value for name, value in {"scan-0": goes_on, "scan-1": ended}.items() if value}
    assert steered(plan(asked, run(asked, 0), run(asked, 1, "complete"))) == wanted


def test_a_finished_set_passes_an_edit_on_before_it_says_that_it_was_seen() -> None:
    asked = a_set()
    members = runs(asked, complete=range(4))
    asked = after(plan(asked, *members), asked)
    edited = replace(asked, generation=2, spec=a_set(spec={"retention": {"pods": "2h"}}).spec)
    first = plan(edited, *members)
    assert set(steered(first)) == {one.key.name for one in members}
    assert patch(first) is None
    follow = [replace(one, spec=one.spec.model_copy(update={"retention": edited.spec.retention})) for one in members]
    assert status(plan(edited, *follow)).observed_generation == 2


def test_a_run_that_comes_after_the_end_of_its_set_is_cancelled() -> None:
    """As when the answer to its creation was lost."""
    asked = a_set(spec={"cancel": True})
    asked = after(plan(asked), asked)
    assert steered(plan(asked, run(asked, 0, "new"))) == {"scan-0": {"cancel": True}}


# --- what is told


def test_the_status_stays_small_at_a_thousand_indexes() -> None:
    asked = a_set(spec={"completions": 1000, "maxFailedIndexes": 1000})
    states = {"complete": range(0, 1000, 2), "failed": range(1, 1000, 2)}
    new = patch(plan(asked, *runs(asked, **states)))
    assert new is not None
    assert len(str(new.new)) < 8000
    assert new.new["runs"]["succeededIndexes"].startswith("0,2,4")
    whole = counts(plan(asked, *runs(asked, complete=range(1000))))
    assert (whole.succeeded_indexes, whole.failed_indexes, whole.progress) == ("0-999", "", "1000/1000")


def test_a_status_counts_its_runs() -> None:
    asked = a_set(spec={"completions": 10, "parallelism": 3, "maxFailedIndexes": 2})
    found = counts(plan(asked, *runs(asked, complete=[0, 1, 2, 5], failed=[3], running=[4], waiting=[6])))
    assert (found.total, found.active, found.queued, found.succeeded, found.failed) == (10, 1, 4, 4, 1)
    assert (found.succeeded_indexes, found.failed_indexes, found.progress) == ("0-2,5", "3", "4/10")


def test_results_are_the_totals_of_the_runs() -> None:
    asked = a_set(spec={"maxFailedIndexes": 1})
    going = status(plan(asked, *runs(asked, complete=[0, 1], running=[2, 3]))).results
    assert going is not None
    assert (going.state, going.file_count, going.bytes_) == ("Pending", 4, 200)
    assert going.url == "https://gateway/v1/namespaces/demo/jobs/scan/files"
    for states, state in (({"complete": range(4)}, "Complete"), ({"complete": range(3), "failed": [3]}, "Partial")):
        ended = status(plan(asked, *runs(asked, **states))).results
        assert ended is not None
        assert ended.state == state


def test_mere_progress_is_written_now_and_then_and_the_end_at_once() -> None:
    asked = a_set(spec={"completions": 6, "parallelism": 6}, created_at=NOW - seconds(300))
    first = plan(asked, *runs(asked, running=range(6)))
    asked = after(first, asked)
    soon = plan(asked, *runs(asked, running=range(1, 6), complete=[0]), now=NOW + seconds(1))
    assert patch(soon) is None
    assert soon.wake_at == NOW + COUNTED_EVERY
    later = plan(asked, *runs(asked, running=range(2, 6), complete=[0, 1]), now=NOW + COUNTED_EVERY)
    assert counts(later).progress == "2/6"
    found = patch(later)
    assert found is not None
    assert not found.events
    assert patch(plan(asked, *runs(asked, complete=range(6)), now=NOW + seconds(1))) is not None


def test_runs_that_failed_are_told_once_and_together() -> None:
    asked = a_set(spec={"completions": 20, "maxFailedIndexes": 19}, created_at=NOW - seconds(300))
    first = plan(asked, *runs(asked, running=range(12, 20), failed=range(12)))
    assert [(one.reason, one.warning) for one in told(first)] == [("RunsFailed", True)]
    assert "index 4 and 7 more; index 0: it exited with 3" in told(first)[0].message
    asked = after(first, asked)
    again = plan(asked, *runs(asked, running=range(13, 20), complete=[12], failed=range(12)), now=NOW + seconds(9))
    assert told(again) == []


@pytest.mark.parametrize(
    ("states", "stalled"),
    [
        ({"stalled": [0, 1], "complete": [2]}, True),
        ({"stalled": [0], "running": [1]}, False),
        ({"complete": [0]}, False),
    ],
)
def test_a_set_is_stalled_when_none_of_its_runs_gets_on(states: dict[str, Any], stalled: bool) -> None:
    asked = a_set(spec={"parallelism": 2})
    found = shown(plan(asked, *runs(asked, **states)), "Stalled")
    assert found[0] == ("True" if stalled else "False")
    if stalled:
        assert found[2] == "index 0: no such image"


# --- for every device


def fleet(*names: str, **values: Any) -> tuple[NodeView, ...]:
    return tuple(device(name, **values) for name in names)


def test_every_device_that_matches_gets_a_run_whatever_its_state_is_now() -> None:
    asked = a_set(spec={"placement": {"everyDevice": {}, "nodeSelector": {"site": "north"}, "avoid": ["edge-9"]}})
    north = kube(labels={"site": "north"})
    nodes = (
        device("edge-1", kube=north),
        device("edge-2"),
        device("edge-3", kube=north, beat=None),
        device("edge-4", kube=kube(labels={"site": "north"}, unschedulable=True)),
        device("edge-5", kube=None),
        device("edge-6", kube=north, spec={"slots": 0}),
    )
    first = plan(asked, nodes=nodes)
    assert made(first) == ["scan-edge-1", "scan-edge-3", "scan-edge-4"]
    create = next(one for one in first.actions if isinstance(one, CreateRun))
    assert create.manifest["metadata"]["labels"] == {"edgewise.dev/set": "scan", "edgewise.dev/node": "edge-1"}
    placement = create.manifest["spec"]["placement"]
    assert placement == {"nodeSelector": {"site": "north"}, "avoid": ["edge-9"], "nodeName": "edge-1"}
    assert counts(first).total is None, "the list is not known until every run is there"


def test_the_devices_are_those_of_the_start() -> None:
    asked, nodes = everywhere(), fleet("edge-1", "edge-2")
    members = runs(asked, waiting=["edge-1", "edge-2"])
    known = plan(asked, *members, nodes=nodes)
    assert counts(known).total == 2
    asked = after(known, asked)
    assert made(plan(asked, *members, nodes=(*nodes, device("edge-3")))) == []
    gone = plan(asked, members[0], nodes=nodes[:1], now=NOW + seconds(9))
    assert made(gone) == []
    assert counts(gone).failed == 1, "one that somebody has deleted has not succeeded"


def test_a_crash_while_the_devices_are_listed_loses_none() -> None:
    asked = everywhere()
    new = plan(asked, *runs(asked, waiting=["edge-2"]), nodes=fleet("edge-1", "edge-2", "edge-3"))
    assert made(new) == ["scan-edge-1", "scan-edge-3"]


def test_no_device_that_matches_is_waited_for() -> None:
    asked = a_set(spec={"placement": {"everyDevice": {}, "nodeSelector": {"site": "north"}}})
    waiting = plan(asked, nodes=fleet("edge-1"))
    assert shown(waiting, "Reconciling")[2] == "no device matches: it starts when one does"
    assert status(waiting).completion_time is None


def test_a_run_goes_to_its_own_device_alone() -> None:
    asked = everywhere()
    best = (device("edge-1"), device("edge-2", spec={"slots": 0}))
    busy = plan(asked, run(asked, "edge-2", "new"), nodes=best)
    assert not [one for one in busy.actions if isinstance(one, CreatePod)]
    free = plan(asked, run(asked, "edge-2", "new"), nodes=fleet("edge-1", "edge-2"))
    (create,) = (one for one in free.actions if isinstance(one, CreatePod))
    assert create.manifest["metadata"]["labels"]["edgewise.dev/node"] == "edge-2"
    env = {one["name"] for one in create.manifest["spec"]["containers"][0]["env"]}
    assert "EDGEWISE_INDEX" not in env


def placed(plan: Plan) -> list[str]:
    return sorted(one.job.name for one in plan.actions if isinstance(one, CreatePod))


@pytest.mark.parametrize(
    ("limit", "states", "new"),
    [
        (2, {"new": ["edge-1", "edge-2", "edge-3", "edge-4"]}, ["scan-edge-1", "scan-edge-2"]),
        ("50%", {"new": ["edge-1", "edge-2", "edge-3", "edge-4"]}, ["scan-edge-1", "scan-edge-2"]),
        ("1%", {"new": ["edge-1", "edge-2", "edge-3", "edge-4"]}, ["scan-edge-1"]),
        (
            2,
            {"complete": ["edge-1"], "failed": ["edge-2"], "new": ["edge-3", "edge-4"]},
            ["scan-edge-3", "scan-edge-4"],
        ),
        (9, {"complete": ["edge-1"], "new": ["edge-2", "edge-3", "edge-4"]}, [f"scan-edge-{n}" for n in (2, 3, 4)]),
    ],
)
def test_so_many_devices_run_it_at_once(limit: int | str, states: dict[str, Any], new: list[str]) -> None:
    asked = everywhere(maxConcurrent=limit)
    nodes = fleet("edge-1", "edge-2", "edge-3", "edge-4")
    assert placed(plan(asked, *runs(asked, **states), nodes=nodes)) == new


def test_a_run_that_waits_for_its_turn_says_so_and_its_wait_for_a_device_begins_after_it() -> None:
    asked, nodes = everywhere(maxConcurrent=1), fleet("edge-1", "edge-2")
    limit = {"queueDeadlineSeconds": 60}
    going = pod(job_uid="uid-scan-edge-1", key=Key("demo", "scan-edge-1-uid-s-1"))
    one, two = run(asked, "edge-1", "new"), run(asked, "edge-2", "new")
    two = replace(two, spec=two.spec.model_copy(update={"queue_deadline_seconds": limit["queueDeadlineSeconds"]}))
    held = plan(asked, one, two, nodes=nodes, pods=(going,))
    waits = status(held, "scan-edge-2")
    assert waits.phase == "Pending"
    suspended = next(one for one in waits.conditions if one.type == "Suspended")
    assert (suspended.status, suspended.reason) == ("True", "NotItsTurn")
    assert "maxConcurrent of its set is 1" in suspended.message
    found = patch(held, "scan-edge-2")
    assert found is not None
    assert not found.events, "of thousands, this is worth no event each"
    two, hour = replace(two, status=waits), NOW + seconds(3600)
    assert patch(plan(asked, one, two, nodes=nodes, pods=(going,), now=hour), "scan-edge-2") is None
    assert placed(plan(asked, run(asked, "edge-1", "complete"), two, nodes=nodes, now=hour)) == ["scan-edge-2"]


def test_a_run_keeps_its_turn() -> None:
    asked, nodes = everywhere(maxConcurrent=1), fleet("edge-1", "edge-2")
    turn = EdgeJobStatus(
        observed_generation=1,
        conditions=(
            Condition(type="Suspended", status=ConditionStatus.FALSE, reason="Active", last_transition_time=NOW),
        ),
    )
    two = replace(run(asked, "edge-2", "new"), status=turn)
    assert placed(plan(asked, run(asked, "edge-1", "new"), two, nodes=nodes)) == ["scan-edge-2"]


def test_runs_of_a_set_that_is_going_do_not_start() -> None:
    asked = a_set()
    for owner in ((), (replace(asked, deleting=True),)):
        made_ = planned(jobs=(*owner, run(asked, 0, "new")), nodes=fleet("edge-1"))
        assert placed(made_) == []


@pytest.mark.parametrize(
    ("every", "states", "phase", "reason"),
    [
        ({}, {"failed": range(1, 4), "running": [4]}, "Running", ""),
        ({}, {"failed": range(1, 4), "complete": [4]}, "Failed", "FailedDevices"),
        ({}, {"complete": range(1, 5)}, "Succeeded", "Succeeded"),
        ({"abortFailurePercent": 25}, {"failed": [1], "running": [2, 3, 4]}, "Running", ""),
        ({"abortFailurePercent": 25}, {"failed": [1], "complete": [2, 3, 4]}, "Succeeded", "FailedDevices"),
        ({"abortFailurePercent": 25}, {"failed": [1, 2], "cancelled": [3, 4]}, "Failed", "AbortFailurePercentExceeded"),
        ({"abortFailurePercent": 0}, {"failed": [1], "cancelled": [2, 3, 4]}, "Failed", "AbortFailurePercentExceeded"),
        ({"abortFailurePercent": 100}, {"failed": range(1, 5)}, "Failed", "FailedDevices"),
    ],
)
def test_how_a_set_for_every_device_ends(
    every: dict[str, Any], states: dict[str, Any], phase: str, reason: str
) -> None:
    asked, names = everywhere(**every), [f"edge-{n}" for n in range(1, 5)]
    asked = replace(asked, created_at=NOW - seconds(300))
    asked = after(plan(asked, *runs(asked, waiting=names), nodes=fleet(*names)), asked)
    there = {state: [f"edge-{n}" for n in numbers] for state, numbers in states.items()}
    found = plan(asked, *runs(asked, **there), nodes=fleet(*names), now=NOW + seconds(9))
    assert status(found).phase == phase
    if reason:
        assert shown(found, "Finished")[:2] == ("True", reason)
    assert counts(found).failed_devices == tuple(there.get("failed", ())) + tuple(there.get("cancelled", ()))


def test_an_aborted_rollout_starts_no_more() -> None:
    asked, names = everywhere(maxConcurrent=1, abortFailurePercent=20), [f"edge-{n}" for n in range(1, 5)]
    asked = after(plan(asked, *runs(asked, waiting=names), nodes=fleet(*names)), asked)
    aborted = plan(asked, *runs(asked, failed=names[:1], waiting=names[1:]), nodes=fleet(*names))
    assert placed(aborted) == []
    assert set(steered(aborted)) == {"scan-edge-2", "scan-edge-3", "scan-edge-4"}
    assert "1 of 4 devices failed, more than" in shown(aborted, "Reconciling")[2]


# --- names and notations


@pytest.mark.parametrize(
    ("device_name", "name"),
    [
        ("edge-1", "scan-edge-1"),
        ("a" * 47, "scan-" + "a" * 47),
        ("site.example.org", "scan-site.example.org"),
        ("a" * 48, "scan-" + "a" * 36 + "-"),
        ("a" * 35 + ".b" + "c" * 40, "scan-" + "a" * 35 + "-"),
    ],
)
def test_a_run_is_named_for_its_device(device_name: str, name: str) -> None:
    found = device_key(everywhere(), device_name).name
    assert found.startswith(name)
    assert len(found) <= 52
    if name.endswith("-"):
        assert len(found) == len(name) + 10


@given(st.text("ab-", min_size=1, max_size=253), st.text("ab-", min_size=1, max_size=253))
def test_two_devices_never_share_a_name(one: str, other: str) -> None:
    owner = everywhere()
    same = device_key(owner, one) == device_key(owner, other)
    assert same == (one == other)


@given(st.sets(st.integers(0, 999)))
def test_indexes_are_written_in_order_and_read_back(indexes: set[int]) -> None:
    text = written(indexes)
    assert read(text) == indexes
    assert len(text) <= 2048
    assert Runs(succeeded_indexes=text).succeeded_indexes == text


@pytest.mark.parametrize(
    ("limit", "total", "most"),
    [(None, 7, 7), ("3", 7, 3), ("50%", 7, 4), ("1%", 7, 1), ("100%", 7, 7), ("1%", 5000, 50)],
)
def test_how_many_a_limit_is(limit: str | None, total: int, most: int) -> None:
    assert at_most(limit, total) == most


def test_an_app_is_looked_up_in_the_sets_namespace() -> None:
    asked = a_set()
    elsewhere = replace(app(), key=Key("other", "faces"))
    assert made(plan(asked, apps=(elsewhere,))) == []
