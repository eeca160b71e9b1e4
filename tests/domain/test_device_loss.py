"""Devices that die, fall silent and come back: which attempt goes on, and what becomes of the others."""

from dataclasses import replace
from datetime import timedelta

import pytest
from edgewise.api import EdgeJobStatus, Outcome, Phase
from edgewise.domain.actions import CreatePod, PatchStatus
from edgewise.domain.views import Key, NodeView
from edgewise_agent import wire
from msgspec import structs

from tests.domain.builders import (
    JOB_UID,
    NOW,
    beat,
    device,
    job,
    kube,
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
    created,
    deleted,
    node_status,
    reason,
    status,
)

LOST_DEVICE = device(kube=kube(ready=None), beat=beat(age=61))


def test_a_dead_device_loses_its_job_after_the_jobs_own_patience() -> None:
    nodes = (LOST_DEVICE, device("edge-2"))
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=nodes)
    assert status(plan).attempts[0].outcome is Outcome.LOST
    assert deleted(plan) == set(), "the old attempt may still bring its results home"
    written = after(plan, job())
    assert created(planned(jobs=(written,), pods=(RUNNING,), nodes=nodes)) == ["run-7bcca-2"]
    patient = job(spec={"disconnect": {"replaceAfterSeconds": 300}})
    assert created(planned(jobs=(patient,), pods=(RUNNING,), nodes=nodes)) == []
    never = job(spec={"disconnect": {"replaceAfterSeconds": None}})
    assert created(planned(jobs=(never,), pods=(RUNNING,), nodes=nodes)) == []


def test_a_deleted_edge_node_of_a_device_that_reports_loses_no_job() -> None:
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=(device("edge-2"),), newcomers=("edge-1",))
    assert status(plan).attempts[0].outcome is Outcome.RUNNING
    fresh = device("edge-2", leading_for=seconds(5))
    assert status(planned(jobs=(job(),), pods=(RUNNING,), nodes=(fresh,))).attempts[0].outcome is Outcome.RUNNING
    assert (
        status(planned(jobs=(job(),), pods=(RUNNING,), nodes=(device("edge-2"),))).attempts[0].outcome is Outcome.LOST
    )


def test_an_attempt_starts_only_when_the_end_of_the_last_one_is_written() -> None:
    """Else a lost write and a crash would forget the last one, and its number would be used twice."""
    nodes = (LOST_DEVICE, device("edge-2"))
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=nodes)
    assert created(plan) == []
    assert reason(status(plan), "Reconciling")[1] == "the end of the last attempt is being written"
    recorded = job(status=EdgeJobStatus(attempts=(attempt(1, Outcome.RUNNING),)))
    assert created(planned(jobs=(recorded,), pods=(RUNNING,), nodes=nodes)) == []


def test_a_device_without_kubelet_loses_its_job_though_its_agent_reports() -> None:
    down = device(kube=kube(ready=None), kubelet_lost_for=seconds(300))
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=(down, device("edge-2")))
    assert status(plan).attempts[0].outcome is Outcome.LOST
    restarted = replace(down, kubelet_lost_for=seconds(299))
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=(restarted, device("edge-2")))
    assert status(plan).attempts[0].outcome is Outcome.RUNNING
    assert plan.wake_at is not None
    assert plan.wake_at - NOW <= seconds(2)
    patient = job(spec={"disconnect": {"replaceAfterSeconds": 600}})
    plan = planned(jobs=(patient,), pods=(RUNNING,), nodes=(down, device("edge-2")))
    assert status(plan).attempts[0].outcome is Outcome.RUNNING


def test_results_that_the_agent_sends_are_not_lost_with_the_kubelet() -> None:
    spooled = wire.VolumeReport(pod_uid=DONE.uid, job_uid=JOB_UID, attempt=1, state=wire.VolumeState.SENDING)
    down = device(kube=kube(ready=None), kubelet_lost_for=seconds(400), beat=beat(volumes=(spooled,)))
    recorded = job(status=EdgeJobStatus(attempts=(attempt(1, Outcome.SUCCEEDED),)))
    plan = planned(jobs=(recorded,), pods=(DONE,), nodes=(down, device("edge-2")))
    assert created(plan) == []
    assert "edgejobs" not in {action.plural for action in plan.actions if isinstance(action, PatchStatus)}
    live = replace(down, beat=beat(volumes=(structs.replace(spooled, state=wire.VolumeState.LIVE),)))
    plan = planned(jobs=(recorded,), pods=(DONE,), nodes=(live, device("edge-2")))
    assert status(plan).attempts[0].outcome is Outcome.LOST, "without kubelet it is never unpublished"


def test_a_device_that_is_down_counts_as_lost_once() -> None:
    down = device(kube=kube(ready=None), kubelet_lost_for=seconds(300))
    lost = node_status(planned(nodes=(down,)))
    assert (lost.losses, lost.conditions[0].reason) == (1, "KubeletDown")
    later = replace(down, status=lost, kubelet_lost_for=seconds(900), beat=beat(age=61, cpu=5))
    dead = node_status(planned(nodes=(later,)))
    assert (dead.losses, dead.conditions[0].reason) == (1, "Dead")


def test_a_dead_agent_loses_no_job() -> None:
    nodes = (device(beat=beat(age=3600)), device("edge-2"))
    assert status(planned(jobs=(job(),), pods=(RUNNING,), nodes=nodes)).attempts[0].outcome is Outcome.RUNNING


def test_of_two_that_run_the_longer_stays() -> None:
    second = replace(pod(attempt=2), node="edge-2", started_at=NOW - seconds(1))
    view = job(status=EdgeJobStatus(attempts=(attempt(1, Outcome.LOST), attempt(2, Outcome.RUNNING))))
    plan = planned(jobs=(view,), pods=(RUNNING, second), nodes=(device(), device("edge-2")))
    assert [one.outcome for one in status(plan).attempts] == [Outcome.RUNNING, Outcome.SUPERSEDED]
    assert deleted(plan) == set(), "a crash before the write would leave a pod that nobody knows to have lost"
    written = planned(jobs=(after(plan, view),), pods=(RUNNING, second), nodes=(device(), device("edge-2")))
    assert deleted(written) == {second.uid}


def test_a_lost_attempt_that_comes_back_done_wins() -> None:
    second = replace(pod(attempt=2), node="edge-2")
    view = job(status=EdgeJobStatus(attempts=(attempt(1, Outcome.LOST), attempt(2, Outcome.RUNNING))))
    plan = planned(jobs=(view,), pods=(DONE, second), nodes=(device(), device("edge-2")), manifests=(manifest(DONE),))
    shown = status(plan)
    assert shown.phase is Phase.SUCCEEDED
    assert shown.results is not None
    assert shown.results.pod_uid == DONE.uid
    assert deleted(planned(jobs=(after(plan, view),), pods=(DONE, second))) == {second.uid}


LOST = EdgeJobStatus(attempts=(attempt(1, Outcome.LOST), attempt(2, Outcome.RUNNING)))
SECOND = replace(pod(attempt=2), node="edge-2")


AWAY = (
    device(beat=None, leading_for=seconds(2)),
    device(beat=None, leading_for=seconds(25), kube=kube(ready=None)),
    device(kube=kube(ready=None)),
    device(kube=kube(ready_since=NOW - seconds(14))),
    device(beat=replace(beat(), reporting_since=NOW - seconds(14))),  # away for less than Kubernetes notices
    device(kube=None, beat=None),
)


@pytest.mark.parametrize("first", AWAY)
def test_a_lost_attempt_is_not_back_before_agent_and_kubelet_are(first: NodeView) -> None:
    """A restarted operator, or the first beat after a reboot, must not take an old pod's state for life."""
    plan = planned(jobs=(job(status=LOST),), pods=(RUNNING, SECOND), nodes=(first, device("edge-2")))
    assert deleted(plan) == set()
    assert [one for one in plan.actions if isinstance(one, CreatePod)] == []


def test_a_lost_attempt_that_nobody_saw_running_is_not_waited_for() -> None:
    """Its device would start it when it is back, beside the one that replaced it."""
    plan = planned(jobs=(job(status=LOST),), pods=(WAITING,), nodes=(LOST_DEVICE, device("edge-2")))
    assert deleted(plan) == {WAITING.uid}
    again = planned(jobs=(job(status=LOST),), pods=(replace(WAITING, deleting=True), SECOND))
    assert deleted(again) == set()


@pytest.mark.parametrize("first", AWAY)
@pytest.mark.parametrize("deleting", [False, True])
def test_a_lost_attempt_that_is_done_and_home_wins_at_once(first: NodeView, *, deleting: bool) -> None:
    """Its replacement, which may end at any moment, is not the first complete one."""
    done = replace(DONE, deleting=deleting)
    nodes = (first, device("edge-2"))
    plan = planned(jobs=(job(status=LOST),), pods=(done, SECOND), nodes=nodes, manifests=(manifest(DONE),))
    shown = status(plan)
    assert shown.phase is Phase.SUCCEEDED
    assert shown.results is not None
    assert shown.results.pod_uid == DONE.uid
    assert [one.outcome for one in shown.attempts] == [Outcome.SUCCEEDED, Outcome.SUPERSEDED]
    assert deleted(planned(jobs=(after(plan, job()),), pods=(done, SECOND), nodes=nodes)) == {SECOND.uid}


@pytest.mark.parametrize("first", AWAY)
def test_a_lost_attempt_whose_results_are_not_home_ends_no_other(first: NodeView) -> None:
    plan = planned(jobs=(job(status=LOST),), pods=(DONE, SECOND), nodes=(first, device("edge-2")))
    assert deleted(plan) == set()


@pytest.mark.parametrize("earlier", [1, 2])
def test_of_two_complete_attempts_the_first_complete_one_is_published(earlier: int) -> None:
    second = replace(DONE, key=SECOND.key, uid=SECOND.uid, attempt=2, node="edge-2")
    manifests = tuple(
        structs.replace(manifest(one), completed_at=NOW - seconds(2 if one.attempt == earlier else 1))
        for one in (DONE, second)
    )
    nodes = (device(), device("edge-2"))
    shown = status(planned(jobs=(job(status=LOST),), pods=(DONE, second), nodes=nodes, manifests=manifests))
    assert shown.results is not None
    assert shown.results.attempt == earlier
    assert [one.number for one in shown.attempts if one.outcome is Outcome.SUCCEEDED] == [earlier]
    assert [one.number for one in shown.attempts if one.outcome is Outcome.SUPERSEDED] == [3 - earlier]


def test_a_lost_attempt_is_not_written_again_and_again() -> None:
    nodes = (LOST_DEVICE, device("edge-2"))
    view = after(planned(jobs=(job(),), pods=(RUNNING,), nodes=nodes), job())
    view = after(planned(jobs=(view,), pods=(RUNNING, SECOND), nodes=nodes), view)
    later = (device(kube=kube(ready=None), beat=beat(age=90)), device("edge-2"))
    plan = planned(NOW + seconds(29), jobs=(view,), pods=(RUNNING, SECOND), nodes=later)
    assert not [one for one in plan.actions if isinstance(one, PatchStatus) and one.plural == "edgejobs"]


def test_results_on_a_device_that_never_comes_back_are_made_anew() -> None:
    nodes = (LOST_DEVICE, device("edge-2"))
    collecting = after(planned(NOW + seconds(5), jobs=(job(),), pods=(DONE,)), job())
    plan = planned(jobs=(collecting,), pods=(DONE,), nodes=nodes)
    assert status(plan).attempts[0].outcome is Outcome.LOST
    assert created(planned(jobs=(after(plan, job()),), pods=(DONE,), nodes=nodes)) == ["run-7bcca-2"]
    removed = planned(jobs=(collecting,), nodes=(device("edge-2"),))
    assert status(removed).attempts[0].outcome is Outcome.LOST
    back = planned(jobs=(after(plan, job()),), pods=(DONE, SECOND), nodes=nodes, manifests=(manifest(DONE),))
    assert status(back).phase is Phase.SUCCEEDED
    assert deleted(planned(jobs=(after(back, job()),), pods=(DONE, SECOND), nodes=nodes)) == {SECOND.uid}


def test_a_device_with_a_wrong_clock_delays_no_retry() -> None:
    for wrong in (timedelta(days=30), timedelta(days=-30)):
        ended = replace(FAILED, finished_at=NOW + wrong)
        assert status(planned(jobs=(job(),), pods=(ended,))).next_attempt_at == NOW + seconds(10)


def test_a_pod_elsewhere_that_claims_the_job_is_none_of_its() -> None:
    stranger = replace(DONE, key=Key("evil", DONE.key.name), has_outputs=False)
    assert created(planned(jobs=(job(),), pods=(stranger,))) == ["run-7bcca-1"]


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
