"""From what is known of a job to its next state: each case a situation, what the status says then, and what is done."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from edgewise.api import Attempt, EdgeJobStatus, Outcome, Phase
from edgewise.domain.actions import CreatePod, DeletePod, PatchStatus, Plan
from edgewise.domain.views import JobView, Key, NodeView, PodPhase, PodView, Refusal
from edgewise_agent import wire

from tests.domain.builders import (
    JOB_UID,
    NOW,
    app,
    beat,
    device,
    job,
    kube,
    manifest,
    planned,
    pod,
    seconds,
)

RUNNING, DONE, FAILED = pod(), pod(PodPhase.SUCCEEDED), pod(PodPhase.FAILED)
WAITING = pod(PodPhase.PENDING, started_at=None)


def status(plan: Plan) -> EdgeJobStatus:
    """The job's status after the plan."""
    patches = [action for action in plan.actions if isinstance(action, PatchStatus) and action.plural == "edgejobs"]
    assert len(patches) == 1, plan.actions
    return EdgeJobStatus.model_validate(patches[0].new)


def after(plan: Plan, view: JobView) -> JobView:
    """The job as the API holds it once the plan is carried out."""
    return replace(view, status=status(plan))


def conditions(one: EdgeJobStatus) -> set[str]:
    return {condition.type for condition in one.conditions if condition.status == "True"}


def reason(one: EdgeJobStatus, name: str) -> tuple[str, str]:
    return next((condition.reason, condition.message) for condition in one.conditions if condition.type == name)


def deleted(plan: Plan) -> set[str]:
    return {action.uid for action in plan.actions if isinstance(action, DeletePod)}


def created(plan: Plan) -> list[str]:
    return [action.manifest["metadata"]["name"] for action in plan.actions if isinstance(action, CreatePod)]


def told(plan: Plan) -> list[str]:
    """The reasons of the events."""
    return [event.reason for action in plan.actions if isinstance(action, PatchStatus) for event in action.events]


def attempt(number: int, outcome: Outcome, **values: Any) -> Attempt:
    whole = {"number": number, "node": "edge-1", "pod_name": f"run-7bcca-{number}", "outcome": outcome} | values
    return Attempt.model_validate({"pod_uid": f"{number:08d}-0000-4000-8000-000000000001"} | whole)


def failing(count: int, **values: Any) -> EdgeJobStatus:
    finished = {"finished_at": NOW - seconds(1000), "reason": "AppError", "exit_code": 3} | values
    return EdgeJobStatus(attempts=tuple(attempt(number + 1, Outcome.FAILED, **finished) for number in range(count)))


def test_a_new_job_gets_a_pod_and_then_says_where() -> None:
    new = job()
    plan = planned(jobs=(new,))
    assert created(plan) == ["run-7bcca-1"]
    shown = status(planned(jobs=(new,), pods=(replace(WAITING, bound=False),)))
    assert shown.phase is Phase.BOUND
    assert shown.node == "edge-1"
    assert [one.pod_name for one in shown.attempts] == ["run-7bcca-1"]
    assert shown.placement is not None
    assert shown.placement.score == 31.76
    assert shown.observed_generation == 1
    assert conditions(shown) == {"Reconciling"}


def test_placing_is_told_once() -> None:
    plan = planned(jobs=(job(),), pods=(RUNNING,))
    assert told(plan) == ["Placed"]
    again = planned(jobs=(after(plan, job()),), pods=(RUNNING,))
    assert told(again) == []
    assert not [action for action in again.actions if isinstance(action, CreatePod | DeletePod)]


def test_a_settled_job_is_left_alone() -> None:
    """Re-planning what has been carried out does nothing: no write without a change."""
    view = job()
    for _ in range(2):
        view = after(planned(jobs=(view,), pods=(RUNNING,)), view) if view.status.phase is None else view
    plan = planned(jobs=(view,), pods=(RUNNING,))
    assert not [one for one in plan.actions if isinstance(one, PatchStatus) and one.plural == "edgejobs"]


def test_success_is_complete_only_when_the_results_are_home() -> None:
    collecting = planned(jobs=(job(),), pods=(DONE,))
    assert status(collecting).phase is Phase.COLLECTING
    assert conditions(status(collecting)) == {"Reconciling"}
    shown = status(planned(jobs=(after(collecting, job()),), pods=(DONE,), manifests=(manifest(DONE),)))
    assert shown.phase is Phase.SUCCEEDED
    assert conditions(shown) == {"Complete", "Finished"}
    assert shown.results is not None
    assert shown.results.state == "Complete"
    assert shown.results.pod_uid == DONE.uid
    assert shown.results.url == "https://gateway/v1/namespaces/demo/jobs/run/files"
    assert shown.completion_time == NOW


def test_an_app_without_outputs_is_complete_at_once() -> None:
    bare = replace(DONE, has_outputs=False)
    assert status(planned(jobs=(job(),), apps=(app(outputs=None),), pods=(bare,))).phase is Phase.SUCCEEDED


def test_refused_files_make_partial_results() -> None:
    shown = status(planned(jobs=(job(),), pods=(DONE,), manifests=(manifest(DONE, refused=2),)))
    assert shown.results is not None
    assert shown.results.state == "Partial"
    assert [one.reason for one in shown.results.refused] == ["Symlink", "Symlink"]
    assert reason(shown, "Complete")[0] == "PartialResults"


def test_an_app_that_writes_nothing_fails_with_what_to_do() -> None:
    shown = status(planned(jobs=(job(),), pods=(DONE,), manifests=(manifest(DONE, files=0),)))
    assert shown.phase is Phase.FAILED
    assert conditions(shown) == {"Failed", "Finished"}
    why, message = reason(shown, "Failed")
    assert why == "NoOutputs"
    assert "*.csv" in message
    assert "minFiles" in message
    optional = app(outputs={"minFiles": 0})
    assert (
        status(planned(jobs=(job(),), apps=(optional,), pods=(DONE,), manifests=(manifest(DONE, files=0),))).phase
        is Phase.SUCCEEDED
    )


FAILURES = [
    (FAILED, Outcome.FAILED, "AppError", "kubectl logs -n demo run-7bcca-1"),
    (replace(FAILED, reason="OOMKilled", exit_code=137), Outcome.FAILED, "OutOfMemory", "resources.limits.memory"),
    (replace(FAILED, reason="DeadlineExceeded", exit_code=None), Outcome.FAILED, "DeadlineExceeded", "spec.active"),
    (replace(FAILED, reason="StartError", exit_code=128), Outcome.FAILED, "StartError", "spec.command"),
    (replace(FAILED, reason="Evicted", exit_code=None), Outcome.DISRUPTED, "Evicted", "edge-1"),
    (replace(FAILED, reason="Unknown", exit_code=255), Outcome.DISRUPTED, "Interrupted", "reboot"),
    (replace(WAITING, stranded=True), Outcome.DISRUPTED, "Interrupted", "power cut"),
    (replace(FAILED, exit_code=255), Outcome.FAILED, "AppError", "exited with code 255"),
    (replace(FAILED, deleting=True), Outcome.DISRUPTED, "Deleted", "from outside"),
    (replace(FAILED, reason="UnexpectedAdmissionError", exit_code=None), Outcome.DISRUPTED, "Unschedulable", "refused"),
    (replace(FAILED, reason="OutOfcpu", exit_code=None), Outcome.DISRUPTED, "Unschedulable", "refused"),
]


@pytest.mark.parametrize(("ended", "outcome", "why", "remedy"), FAILURES)
def test_each_bad_end_has_its_class(ended: PodView, outcome: Outcome, why: str, remedy: str) -> None:
    shown = status(planned(jobs=(job(),), pods=(ended,)))
    assert (shown.attempts[0].outcome, shown.attempts[0].reason) == (outcome, why)
    assert remedy in shown.attempts[0].message
    assert (shown.failures, shown.disruptions) == ((1, 0) if outcome is Outcome.FAILED else (0, 1))


STUCK = [
    ("ErrImagePull", 21, Outcome.FAILED, "ImageError"),
    ("ImagePullBackOff", 60, Outcome.FAILED, "ImageError"),
    ("InvalidImageName", 0, Outcome.FAILED, "InvalidImageName"),
    ("ErrImagePull", 5, Outcome.STARTING, ""),
    ("ContainerCreating", 3600, Outcome.STARTING, ""),
]


@pytest.mark.parametrize(("waiting", "for_seconds", "outcome", "why"), STUCK)
def test_an_image_that_does_not_come(waiting: str, for_seconds: float, outcome: Outcome, why: str) -> None:
    stuck = replace(
        WAITING, waiting_reason=waiting, waiting_message="no such image", created_at=NOW - seconds(for_seconds)
    )
    plan = planned(jobs=(job(),), pods=(stuck,))
    shown = status(plan)
    assert (shown.attempts[0].outcome, shown.attempts[0].reason) == (outcome, why)
    swept = planned(jobs=(after(plan, job()),), pods=(stuck,))
    assert deleted(plan) | deleted(swept) == ({stuck.uid} if outcome is Outcome.FAILED else set())


def test_a_name_that_is_no_image_fails_the_job_at_once() -> None:
    stuck = replace(WAITING, waiting_reason="InvalidImageName", waiting_message="bad")
    shown = status(planned(jobs=(job(),), pods=(stuck,)))
    assert shown.phase is Phase.FAILED
    assert "spec.image" in reason(shown, "Failed")[1]


@pytest.mark.parametrize(
    ("waiting", "age", "words"),
    [("CreateContainerConfigError", 2, "create what is missing"), ("ContainerCreating", 40, "ConfigMaps and Secrets")],
)
def test_a_pod_that_can_not_start_is_told(waiting: str, age: float, words: str) -> None:
    stuck = replace(WAITING, waiting_reason=waiting, created_at=NOW - seconds(age))
    shown = status(planned(jobs=(job(),), pods=(stuck,)))
    assert "Stalled" in conditions(shown)
    assert words in reason(shown, "Stalled")[1]


def test_no_room_on_the_device_rebinds_and_counts_as_no_failure() -> None:
    full = replace(WAITING, bound=False, unschedulable="0/4 nodes: Insufficient cpu", created_at=NOW - seconds(4))
    plan = planned(jobs=(job(),), pods=(full,))
    action = next(one for one in plan.actions if isinstance(one, DeletePod))
    assert action.resource_version == full.resource_version
    waiting = after(plan, job())
    assert waiting.status.attempts[0].outcome is Outcome.STARTING, "the scheduler may bind it yet"
    gone = planned(jobs=(waiting,))
    assert created(gone) == ["run-7bcca-2"]
    assert (status(gone).failures, status(gone).attempts[0].reason) == (0, "Unschedulable")
    bound = planned(jobs=(waiting,), pods=(replace(WAITING, bound=True),))
    assert status(bound).attempts[0].reason == ""


def test_retries_back_off_and_end() -> None:
    """Doubled with each failure, bounded, and over after maxAttempts with the last reason."""
    waits = []
    for count in (1, 2):
        view = job(status=failing(count, finished_at=NOW - seconds(1)))
        waits.append((status(planned(jobs=(view,))).next_attempt_at or NOW) - (NOW - seconds(1)))
    assert waits == [seconds(10), seconds(20)]
    capped = job(status=failing(2, finished_at=NOW - seconds(1)), spec={"retry": {"maxBackoffSeconds": 12}})
    assert status(planned(jobs=(capped,))).next_attempt_at == NOW + seconds(11)
    over = status(planned(jobs=(job(status=failing(3)),)))
    assert over.phase is Phase.FAILED
    assert reason(over, "Failed") == ("AppError", " (3 of 3 attempts failed)")


def test_a_retry_prefers_another_device() -> None:
    nodes = (device("edge-1"), device("edge-2", beat=beat(events=100)))
    plan = planned(jobs=(job(status=failing(1)),), nodes=nodes)
    assert created(plan) == ["run-7bcca-2"]
    pin = next(one.manifest for one in plan.actions if isinstance(one, CreatePod))["metadata"]["labels"]
    assert pin["edgewise.dev/node"] == "edge-2"


def test_some_exit_codes_are_final() -> None:
    final = job(status=failing(1), spec={"retry": {"nonRetriableExitCodes": [3]}})
    assert status(planned(jobs=(final,))).phase is Phase.FAILED


def test_disruptions_have_a_budget_of_their_own() -> None:
    lost = EdgeJobStatus(
        attempts=tuple(
            attempt(number, Outcome.DISRUPTED, finished_at=NOW - seconds(900), reason="Evicted")
            for number in (1, 2, 3, 4)
        )
    )
    assert created(planned(jobs=(job(status=lost),))) == ["run-7bcca-5"]
    strict = job(status=lost, spec={"retry": {"maxDisruptions": 3}})
    shown = status(planned(jobs=(strict,)))
    assert shown.phase is Phase.FAILED
    assert "maxDisruptions" in reason(shown, "Failed")[1]


LOST_DEVICE = device(kube=kube(ready=None), beat=beat(age=61))


def test_a_dead_device_loses_its_job_after_the_jobs_own_patience() -> None:
    nodes = (LOST_DEVICE, device("edge-2"))
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=nodes)
    assert status(plan).attempts[0].outcome is Outcome.LOST
    assert created(plan) == ["run-7bcca-2"]
    assert deleted(plan) == set(), "the old attempt may still bring its results home"
    patient = job(spec={"disconnect": {"replaceAfterSeconds": 300}})
    assert created(planned(jobs=(patient,), pods=(RUNNING,), nodes=nodes)) == []
    never = job(spec={"disconnect": {"replaceAfterSeconds": None}})
    assert created(planned(jobs=(never,), pods=(RUNNING,), nodes=nodes)) == []


def test_a_dead_agent_loses_no_job() -> None:
    nodes = (device(beat=beat(age=3600)), device("edge-2"))
    assert status(planned(jobs=(job(),), pods=(RUNNING,), nodes=nodes)).attempts[0].outcome is Outcome.RUNNING


def test_of_two_that_run_the_longer_stays() -> None:
    second = replace(pod(attempt=2), node="edge-2", started_at=NOW - seconds(1))
    view = job(status=EdgeJobStatus(attempts=(attempt(1, Outcome.LOST), attempt(2, Outcome.RUNNING))))
    plan = planned(jobs=(view,), pods=(RUNNING, second), nodes=(device(), device("edge-2")))
    assert deleted(plan) == {second.uid}
    assert [one.outcome for one in status(plan).attempts] == [Outcome.RUNNING, Outcome.SUPERSEDED]


def test_a_lost_attempt_that_comes_back_done_wins() -> None:
    second = replace(pod(attempt=2), node="edge-2")
    view = job(status=EdgeJobStatus(attempts=(attempt(1, Outcome.LOST), attempt(2, Outcome.RUNNING))))
    plan = planned(jobs=(view,), pods=(DONE, second), nodes=(device(), device("edge-2")), manifests=(manifest(DONE),))
    shown = status(plan)
    assert shown.phase is Phase.SUCCEEDED
    assert shown.results is not None
    assert shown.results.pod_uid == DONE.uid
    assert deleted(plan) == {second.uid}


def test_results_of_an_attempt_that_has_not_succeeded_are_not_taken() -> None:
    plan = planned(jobs=(job(),), pods=(FAILED,), manifests=(manifest(FAILED),))
    assert status(plan).results is None


def test_an_overheated_device_gives_up_only_what_asked_for_it() -> None:
    hot = (device(beat=beat(celsius=90)), device("edge-2"))
    assert deleted(planned(jobs=(job(),), pods=(RUNNING,), nodes=hot)) == set()
    mover = job(spec={"placement": {"evictWhenHot": True}})
    plan = planned(jobs=(mover,), pods=(RUNNING,), nodes=hot)
    assert status(plan).attempts[0].reason == "Hot"
    moving = planned(jobs=(after(plan, mover),), pods=(RUNNING,), nodes=hot)
    assert deleted(moving) == {RUNNING.uid}
    assert created(moving) == [], "the next attempt waits for the end of the last one's pod"
    assert created(planned(jobs=(after(plan, mover),), nodes=hot)) == ["run-7bcca-2"]


def test_outputs_over_their_limit_end_the_pod() -> None:
    volume = wire.VolumeReport(
        pod_uid=RUNNING.uid, job_uid=JOB_UID, attempt=1, state=wire.VolumeState.LIVE, over_limit=True
    )
    nodes = (device(beat=beat(volumes=(volume,))),)
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=nodes)
    assert status(plan).attempts[0].reason == "OutputsTooLarge"
    assert deleted(planned(jobs=(after(plan, job()),), pods=(RUNNING,), nodes=nodes)) == {RUNNING.uid}


def test_suspend_gives_up_and_resume_starts_anew() -> None:
    running = after(planned(jobs=(job(),), pods=(RUNNING,)), job())
    held = replace(running, spec=job(spec={"suspend": True}).spec, generation=2)
    plan = planned(jobs=(held,), pods=(RUNNING,))
    assert deleted(plan) == {RUNNING.uid}
    shown = status(plan)
    assert (shown.phase, shown.start_time, conditions(shown)) == (Phase.SUSPENDED, None, {"Suspended"})
    resumed = replace(held, status=shown, spec=job().spec, generation=3)
    assert created(planned(jobs=(resumed,))) == ["run-7bcca-2"]
    assert status(planned(jobs=(resumed,))).failures == 0


def test_cancel_ends_it() -> None:
    plan = planned(jobs=(job(spec={"cancel": True}),), pods=(RUNNING,))
    assert deleted(plan) == {RUNNING.uid}
    assert status(plan).phase is Phase.CANCELLED
    assert conditions(status(plan)) == {"Failed", "Finished"}


def test_deadlines() -> None:
    late = job(spec={"activeDeadlineSeconds": 3})
    plan = planned(jobs=(late,), pods=(RUNNING,))
    assert deleted(plan) == {RUNNING.uid}
    assert reason(status(plan), "Failed")[0] == "DeadlineExceeded"
    unplaced = job(spec={"queueDeadlineSeconds": 3})
    plan = planned(jobs=(unplaced,), nodes=())
    assert reason(status(plan), "Failed")[0] == "QueueDeadlineExceeded"
    waiting = job(spec={"queueDeadlineSeconds": 8})
    assert planned(jobs=(waiting,), nodes=()).wake_at == NOW + seconds(3)


@pytest.mark.parametrize(
    ("values", "why", "words"),
    [
        ({"apps": ()}, "AppNotFound", "EdgeApp demo/faces does not exist"),
        ({"apps": (app(inputs=[{"name": "p", "mountPath": "/data"}]),)}, "NotSupported", "spec.inputs"),
        ({"apps": (app(requires={"devices": [{"name": "camera"}]}),)}, "NotSupported", "spec.requires.devices"),
        ({"jobs": (job(spec={"completions": 2}),)}, "NotSupported", "spec.completions"),
        ({"jobs": (job(spec={"retention": {"results": "7d"}}),)}, "NotSupported", "spec.retention.results"),
        ({"jobs": (job(spec={"placement": {"policy": "Guess"}}),)}, "UnknownPolicy", "one of Score"),
    ],
)
def test_what_can_not_be_run_says_why(values: dict[str, Any], why: str, words: str) -> None:
    plan = planned(**({"jobs": (job(),)} | values))
    shown = status(plan)
    assert created(plan) == []
    assert conditions(shown) == {"Stalled"}
    assert reason(shown, "Stalled")[0] == why
    assert words in reason(shown, "Stalled")[1]


def test_no_device_says_what_would_unblock_it_and_moving_figures_are_no_news() -> None:
    hot = device(beat=beat(celsius=90))
    first = planned(jobs=(job(),), nodes=(hot,))
    assert "edge-1 TooHot (90 °C" in reason(status(first), "Reconciling")[1]
    warmer = planned(jobs=(after(first, job()),), nodes=(device(beat=beat(celsius=91)),))
    assert not [one for one in warmer.actions if isinstance(one, PatchStatus) and one.plural == "edgejobs"]


def test_a_finished_job_keeps_its_pods_for_a_while() -> None:
    view = after(planned(jobs=(job(),), pods=(DONE,), manifests=(manifest(DONE),)), job())
    plan = planned(jobs=(view,), pods=(DONE,))
    assert deleted(plan) == set()
    assert deleted(planned(NOW + seconds(3600), jobs=(view,), pods=(DONE,))) == {DONE.uid}
    forever = replace(view, spec=job(spec={"retention": {"pods": None}}).spec)
    assert deleted(planned(NOW + seconds(3600 * 24 * 365), jobs=(forever,), pods=(DONE,))) == set()


def test_a_job_that_is_being_deleted_is_left_to_kubernetes() -> None:
    plan = planned(jobs=(replace(job(), deleting=True),), pods=(RUNNING,))
    assert not [one for one in plan.actions if not isinstance(one, PatchStatus) or one.plural == "edgejobs"]


LOST = EdgeJobStatus(attempts=(attempt(1, Outcome.LOST), attempt(2, Outcome.RUNNING)))
SECOND = replace(pod(attempt=2), node="edge-2")


@pytest.mark.parametrize(
    "first",
    [
        device(beat=None, leading_for=seconds(2)),
        device(beat=None, leading_for=seconds(25), kube=kube(ready=None)),
        device(kube=kube(ready=None)),
        device(kube=kube(ready_since=NOW - seconds(14))),
        device(kube=None, beat=None),
    ],
)
def test_a_lost_attempt_is_not_back_before_agent_and_kubelet_are(first: NodeView) -> None:
    """A restarted operator, or the first beat after a reboot, must not take an old pod's state for life."""
    plan = planned(jobs=(job(status=LOST),), pods=(RUNNING, SECOND), nodes=(first, device("edge-2")))
    assert deleted(plan) == set()
    assert [one for one in plan.actions if isinstance(one, CreatePod)] == []


def test_a_lost_attempt_is_not_written_again_and_again() -> None:
    nodes = (LOST_DEVICE, device("edge-2"))
    view = after(planned(jobs=(job(),), pods=(RUNNING,), nodes=nodes), job())
    view = after(planned(jobs=(view,), pods=(RUNNING, SECOND), nodes=nodes), view)
    later = (device(kube=kube(ready=None), beat=beat(age=90)), device("edge-2"))
    plan = planned(NOW + seconds(29), jobs=(view,), pods=(RUNNING, SECOND), nodes=later)
    assert not [one for one in plan.actions if isinstance(one, PatchStatus) and one.plural == "edgejobs"]


def test_results_on_a_device_that_never_comes_back_are_made_anew() -> None:
    nodes = (LOST_DEVICE, device("edge-2"))
    collecting = after(planned(jobs=(job(),), pods=(DONE,)), job())
    plan = planned(jobs=(collecting,), pods=(DONE,), nodes=nodes)
    assert status(plan).attempts[0].outcome is Outcome.LOST
    assert created(plan) == ["run-7bcca-2"]
    removed = planned(jobs=(collecting,), nodes=(device("edge-2"),))
    assert created(removed) == ["run-7bcca-2"]
    back = planned(jobs=(after(plan, job()),), pods=(DONE, SECOND), nodes=nodes, manifests=(manifest(DONE),))
    assert status(back).phase is Phase.SUCCEEDED
    assert deleted(back) == {SECOND.uid}


def test_a_device_with_a_wrong_clock_delays_no_retry() -> None:
    for wrong in (timedelta(days=30), timedelta(days=-30)):
        ended = replace(FAILED, finished_at=NOW + wrong)
        assert status(planned(jobs=(job(),), pods=(ended,))).next_attempt_at == NOW + seconds(10)


def test_a_refused_pod_is_told_and_holds_up_nobody() -> None:
    refusal = Refusal('serviceaccount "runner" not found', NOW + seconds(5), 1)
    good = job("good", uid="8" * 8 + "-0000-4000-8000-000000000000")
    plan = planned(jobs=(job(), good), nodes=(device(spec={"slots": 1}),), refusals={JOB_UID: refusal})
    assert created(plan) == ["good-88888-1"]
    shown = status(planned(jobs=(job(),), refusals={JOB_UID: refusal}))
    assert reason(shown, "Stalled") == ("PodRefused", f"the API server refuses the job's pod: {refusal.message}")
    assert created(planned(NOW + seconds(5), jobs=(job(),), refusals={JOB_UID: refusal})) == ["run-7bcca-1"]


def test_a_finished_job_sees_its_edits() -> None:
    view = after(planned(jobs=(job(),), pods=(DONE,), manifests=(manifest(DONE),)), job())
    edited = replace(view, generation=2)
    shown = status(planned(jobs=(edited,), pods=(DONE,)))
    assert shown.observed_generation == 2
    assert {one.observed_generation for one in shown.conditions} == {2}
    assert shown.phase is Phase.SUCCEEDED
    again = planned(jobs=(replace(edited, status=shown),), pods=(DONE,))
    assert not [one for one in again.actions if isinstance(one, PatchStatus) and one.plural == "edgejobs"]


def test_a_job_that_can_not_be_decided_about_costs_only_itself() -> None:
    spoilt = replace(RUNNING, attempt=0)
    good = job("good", uid="8" * 8 + "-0000-4000-8000-000000000000")
    plan = planned(jobs=(job(), good), pods=(spoilt,))
    assert created(plan) == ["good-88888-1"]
    assert [fault.what for fault in plan.faults] == ["EdgeJob demo/run"]


def test_a_pod_elsewhere_that_claims_the_job_is_none_of_its() -> None:
    stranger = replace(DONE, key=Key("evil", DONE.key.name), has_outputs=False)
    assert created(planned(jobs=(job(),), pods=(stranger,))) == ["run-7bcca-1"]


def test_time_in_suspension_is_no_time_in_the_queue() -> None:
    held = job(spec={"suspend": True, "queueDeadlineSeconds": 60})
    suspended = after(planned(NOW - seconds(50), jobs=(held,), nodes=()), held)
    resumed = replace(suspended, spec=job(spec={"queueDeadlineSeconds": 60}).spec, created_at=NOW - seconds(3600))
    plan = planned(jobs=(resumed,), nodes=())
    assert "Failed" not in conditions(status(plan))


def test_no_attempt_starts_beside_a_lost_one_that_may_be_coming_back() -> None:
    """Its device reports again, but its kubelet has not told of its pods yet."""
    lost = EdgeJobStatus(attempts=(attempt(1, Outcome.LOST, finished_at=NOW - seconds(60)),))
    back = device(kube=kube(ready_since=NOW - seconds(5)))
    assert created(planned(jobs=(job(status=lost),), pods=(RUNNING,), nodes=(back, device("edge-2")))) == []
    dead = planned(jobs=(job(status=lost),), pods=(RUNNING,), nodes=(LOST_DEVICE, device("edge-2")))
    assert created(dead) == ["run-7bcca-2"]


def test_a_pod_whose_number_is_taken_is_no_attempt() -> None:
    """Made again from a stale cache, after its namesake had gone: the list of attempts has each number once."""
    lost = EdgeJobStatus(attempts=(attempt(1, Outcome.DISRUPTED, finished_at=NOW - seconds(60)),))
    again = replace(RUNNING, uid="9" * 8 + "-0000-4000-8000-000000000001")
    plan = planned(jobs=(job(status=lost),), pods=(again,))
    assert deleted(plan) == {again.uid}
    assert created(plan) == []
    assert [one.number for one in status(plan).attempts] == [1]


def test_results_that_their_device_has_no_more_are_made_anew() -> None:
    done = attempt(1, Outcome.SUCCEEDED, finished_at=NOW - seconds(61), exit_code=0)
    waiting = job(status=EdgeJobStatus(attempts=(done,)), spec={"disconnect": {"replaceAfterSeconds": None}})
    ended = replace(DONE, finished_at=NOW - seconds(61))
    plan = planned(jobs=(waiting,), pods=(ended,), nodes=(device(), device("edge-2")))
    assert status(plan).attempts[0].reason == "OutputsLost"
    held = wire.VolumeReport(pod_uid=DONE.uid, job_uid=JOB_UID, attempt=1, state=wire.VolumeState.SPOOLED)
    spooled = planned(jobs=(waiting,), pods=(ended,), nodes=(device(beat=beat(volumes=(held,))),))
    assert status(spooled).attempts[0].outcome is Outcome.SUCCEEDED
