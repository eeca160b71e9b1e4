"""From what is known of a job to its next state: each case a situation, what the status says then, and what is done."""

from dataclasses import replace
from typing import Any

import pytest
from edgewise.api import EdgeJobStatus, Outcome, Phase
from edgewise.domain.actions import CreatePod, DeletePod, PatchStatus
from edgewise.domain.attempts import hindrance
from edgewise.domain.views import PodPhase, PodView, Refusal
from edgewise_agent import wire
from msgspec import structs

from tests.domain.builders import (
    JOB_UID,
    NOW,
    app,
    beat,
    device,
    job,
    manifest,
    planned,
    pod,
    seconds,
)
from tests.domain.reading import (
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    after,
    attempt,
    awaited,
    conditions,
    created,
    deleted,
    failing,
    reason,
    status,
    told,
)


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
    collecting = planned(NOW + seconds(5), jobs=(job(),), pods=(DONE,))
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


def test_results_that_can_not_be_taken_in_now_say_why_they_wait() -> None:
    full = "upload plan of demo/run, attempt 1: 507 VolumeFull: enlarge the volume"
    for where, words in ((wire.VolumeState.SPOOLED, full), (wire.VolumeState.LIVE, "on their way home")):
        volume = wire.VolumeReport(pod_uid=DONE.uid, job_uid=JOB_UID, attempt=1, state=where, message=full)
        nodes = (device(beat=beat(volumes=(volume,))),)
        waiting = status(planned(NOW + seconds(5), jobs=(job(),), pods=(DONE,), nodes=nodes))
        assert words in reason(waiting, "Reconciling")[1]


def test_results_that_come_home_at_once_cost_no_write_before() -> None:
    plan = planned(jobs=(job(),), pods=(DONE,))
    assert [one for one in plan.actions if isinstance(one, PatchStatus) and one.plural == "edgejobs"] == []
    assert plan.wake_at == NOW + seconds(2), "three seconds after the pod's end"
    for wrong in (seconds(3600), seconds(-3600)):
        ended = replace(DONE, finished_at=NOW + wrong)
        assert status(planned(jobs=(job(),), pods=(ended,))).phase is Phase.COLLECTING, "the device's clock is wrong"


def test_an_upload_tells_its_bytes_after_each_tenth() -> None:
    view, seen = job(), []
    for second, sent in enumerate((0, 50, 99, 100, 199, 500, 550, 1000), 5):
        volume = wire.VolumeReport(
            pod_uid=DONE.uid, job_uid=JOB_UID, attempt=1, state=wire.VolumeState.SENDING, bytes_=1000, sent_bytes=sent
        )
        plan = planned(NOW + seconds(second), jobs=(view,), pods=(DONE,), nodes=(device(beat=beat(volumes=(volume,))),))
        if any(isinstance(one, PatchStatus) and one.plural == "edgejobs" for one in plan.actions):
            view = after(plan, view)
            assert view.status.results is not None
            seen.append((view.status.results.state, view.status.results.sent_bytes, view.status.results.bytes_))
    assert seen == [("Uploading", sent, 1000) for sent in (0, 100, 500, 1000)]


def test_an_app_without_outputs_is_complete_at_once() -> None:
    bare = replace(DONE, has_outputs=False)
    assert status(planned(jobs=(job(),), apps=(app(outputs=None),), pods=(bare,))).phase is Phase.SUCCEEDED


def test_refused_files_make_partial_results() -> None:
    shown = status(planned(jobs=(job(),), pods=(DONE,), manifests=(manifest(DONE, refused=2),)))
    assert shown.results is not None
    assert shown.results.state == "Partial"
    assert [one.reason for one in shown.results.refused] == ["Symlink", "Symlink"]
    assert reason(shown, "Complete")[0] == "PartialResults"


def test_of_many_files_the_first_hundred_are_listed_and_all_are_counted() -> None:
    shown = status(planned(jobs=(job(),), pods=(DONE,), manifests=(manifest(DONE, files=250),)))
    assert shown.results is not None
    assert len(shown.results.files) == 100
    assert (shown.results.file_count, shown.results.bytes_, shown.results.sent_bytes) == (250, 2500, 2500)


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


@pytest.mark.parametrize(
    ("bundle", "held", "words"),
    [
        (
            "ab" * 32,
            (),
            f"bundle sha256:{'ab' * 32}, not on the device yet: was it pushed to the gateway for namespace demo?",
        ),
        ("ab" * 32, (f"other/{'ab' * 32}",), "was it pushed to the gateway for namespace demo?"),
        ("ab" * 32, (f"demo/{'ab' * 32}",), "ConfigMaps and Secrets"),
        ("", (), "ConfigMaps and Secrets"),
    ],
)
def test_a_bundle_that_does_not_come_is_named(bundle: str, held: tuple[str, ...], words: str) -> None:
    stuck = replace(WAITING, waiting_reason="ContainerCreating", created_at=NOW - seconds(40), bundle=bundle)
    shown = status(planned(jobs=(job(),), pods=(stuck,), nodes=(device(beat=beat(bundles=held)),)))
    assert words in reason(shown, "Stalled")[1]


def test_the_bundle_of_a_device_that_says_nothing_may_be_what_its_pod_waits_for() -> None:
    stuck = replace(WAITING, waiting_reason="ContainerCreating", created_at=NOW - seconds(40), bundle="ab" * 32)
    assert "was it pushed" in hindrance(stuck, frozenset(), NOW)


def test_no_room_on_the_device_rebinds_and_counts_as_no_failure() -> None:
    full = replace(WAITING, bound=False, unschedulable="0/4 nodes: Insufficient cpu", created_at=NOW - seconds(4))
    plan = planned(jobs=(job(),), pods=(full,))
    assert deleted(plan) == set(), "its end could not be told from a deletion by somebody else's hand"
    assert awaited(plan)
    waiting = after(plan, job())
    [action] = [one for one in planned(jobs=(waiting,), pods=(full,)).actions if isinstance(one, DeletePod)]
    assert action.resource_version == full.resource_version
    assert waiting.status.attempts[0].outcome is Outcome.STARTING, "the scheduler may bind it yet"
    gone = planned(jobs=(waiting,))
    assert status(gone).attempts[0].reason == "Unschedulable"
    assert created(planned(jobs=(after(gone, job()),))) == ["run-7bcca-2"]
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


def test_a_full_device_ends_the_pod_without_blaming_the_app() -> None:
    said = "9 bytes free, its floor is 10: free some space on it"
    volume = wire.VolumeReport(
        pod_uid=RUNNING.uid, job_uid=JOB_UID, attempt=1, state=wire.VolumeState.LIVE, no_room=True, message=said
    )
    nodes = (device(beat=beat(volumes=(volume,))), device("edge-2"))
    once = job(spec={"retry": {"maxAttempts": 1}})
    plan = planned(jobs=(once,), pods=(RUNNING,), nodes=nodes)
    (attempt,) = status(plan).attempts
    assert (attempt.outcome, attempt.reason, attempt.message) == (Outcome.DISRUPTED, "DeviceFull", f"edge-1: {said}")
    assert deleted(planned(jobs=(after(plan, once),), pods=(RUNNING,), nodes=nodes)) == {RUNNING.uid}
    assert created(planned(jobs=(after(plan, once),), nodes=nodes)) == ["run-7bcca-2"], "it is tried again elsewhere"


def test_outputs_over_their_limit_end_the_pod() -> None:
    volume = wire.VolumeReport(
        pod_uid=RUNNING.uid, job_uid=JOB_UID, attempt=1, state=wire.VolumeState.LIVE, over_limit=True
    )
    nodes = (device(beat=beat(volumes=(volume,))),)
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=nodes)
    assert status(plan).attempts[0].reason == "OutputsTooLarge"
    assert "raise spec.outputs.sizeLimit" in status(plan).attempts[0].message
    told = device(beat=beat(volumes=(structs.replace(volume, message="101 bytes written: write less"),)))
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=(told,))
    assert status(plan).attempts[0].message == "101 bytes written: write less"
    assert deleted(planned(jobs=(after(plan, job()),), pods=(RUNNING,), nodes=nodes)) == {RUNNING.uid}


def test_suspend_gives_up_and_resume_starts_anew() -> None:
    running = after(planned(jobs=(job(),), pods=(RUNNING,)), job())
    held = replace(running, spec=job(spec={"suspend": True}).spec, generation=2)
    plan = planned(jobs=(held,), pods=(RUNNING,))
    assert (deleted(plan), awaited(plan)) == (set(), True), "the end is written first"
    assert deleted(planned(jobs=(after(plan, held),), pods=(RUNNING,))) == {RUNNING.uid}
    shown = status(plan)
    assert (shown.phase, shown.start_time, conditions(shown)) == (Phase.SUSPENDED, None, {"Suspended"})
    resumed = replace(held, status=shown, spec=job().spec, generation=3)
    assert created(planned(jobs=(resumed,))) == ["run-7bcca-2"]
    again = status(planned(jobs=(resumed,), pods=(pod(PodPhase.PENDING, attempt=2),)))
    assert (again.failures, [one.outcome for one in again.attempts]) == (0, [Outcome.CANCELLED, Outcome.STARTING])


def test_cancel_ends_it() -> None:
    cancelled = job(spec={"cancel": True})
    plan = planned(jobs=(cancelled,), pods=(RUNNING,))
    assert (deleted(plan), awaited(plan)) == (set(), True)
    assert deleted(planned(jobs=(after(plan, cancelled),), pods=(RUNNING,))) == {RUNNING.uid}
    assert status(plan).phase is Phase.CANCELLED
    assert conditions(status(plan)) == {"Failed", "Finished"}


def test_deadlines() -> None:
    late = job(spec={"activeDeadlineSeconds": 3})
    plan = planned(jobs=(late,), pods=(RUNNING,))
    assert deleted(planned(jobs=(after(plan, late),), pods=(RUNNING,))) == {RUNNING.uid}
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
        ({"jobs": (job(spec={"placement": {"nodeName": "gone"}}),)}, "DeviceNotFound", "no EdgeNode of that name"),
        ({"jobs": (job(spec={"placement": {"policy": "Guess"}}),)}, "UnknownPolicy", "one of ExpectedFinish, Score"),
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


def test_time_in_suspension_is_no_time_in_the_queue() -> None:
    held = job(spec={"suspend": True, "queueDeadlineSeconds": 60})
    suspended = after(planned(NOW - seconds(50), jobs=(held,), nodes=()), held)
    resumed = replace(suspended, spec=job(spec={"queueDeadlineSeconds": 60}).spec, created_at=NOW - seconds(3600))
    plan = planned(jobs=(resumed,), nodes=())
    assert "Failed" not in conditions(status(plan))
